"""A part of the note's pipeline as a Python program says it, with a stand-in for the stack's tasks."""

from __future__ import annotations

import sys
from pathlib import Path

from demo_survey import CALIBS, RUN_A, RUN_B

from dbb.pipeline import Pipeline

TASK = Path(__file__).with_name("repo_task.py")
RUN = {
    "reqnum": 20,
    "unitname": "Ht0",
    "home_archive": "runs",
    "job_repo_dir": "jobrepo",
    "ops_run_dir": "MMG/r${reqnum}/${unitname}/p${attnum:2}",
    "purge_job_dir": "never",
}
PATTERNS = {
    "filename_pattern": {
        "ccd": "${flabel}-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits",
        "warp": "${flabel}-${filter}-${tract}-${patch}-${visit}-r${reqnum}p${attnum:2}.fits",
        "registry": "${unitname}_r${reqnum}p${attnum:2}_registry.sqlite3",
    },
    "directory_pattern": {
        "ccd": {
            "runtime": "${job_repo_dir}/${pointing:5}/${filter}/${job_enddir}",
            "ops": "${ops_run_dir}/${job_enddir}",
        },
        "warp": {"runtime": "${job_repo_dir}/deepCoadd/${filter}/${tract}/${patch}", "ops": "${ops_run_dir}/coadd"},
        "repo": {"runtime": "${job_repo_dir}/${job_enddir}", "ops": "${ops_run_dir}/${job_enddir}"},
    },
}
WRAPPER = {"mapper": "lsst.obs.hsc.HscMapper", "job_repo_dir": "${job_repo_dir}"}
REGISTRY = {"filepat": "registry", "dirpat": "repo", "job_enddir": ".", "rename_file": "registry.sqlite3"}


def command(**cmdline: str) -> dict[str, str]:
    return {"_01": str(TASK), "_02": "${job_repo_dir}", "output": "${job_repo_dir}", **cmdline}


def process_ccd() -> dict[str, object]:
    raws = {"dataset": "raw", "where": "tract = 0 AND patch = '8,6' AND filter = 'HSC-I'", "loopkey": "visit, ccd"}
    calexp = {"filetype": "calexp", "filepat": "ccd", "dirpat": "ccd", "flabel": "CORR", "job_enddir": "corr"}
    return {
        "wrapperloop": "visit, ccd",
        "loopobj": "file.raw",
        "modnamepat": "${modulename}-${visit}-${ccd}",
        "calibs": CALIBS,
        "file": {
            "raw": {**raws, "dirpat": "repo", "job_enddir": "raw"},
            "calexp": {**calexp, "depends-newname": "process_ccd.file.raw", "match": "visit, ccd"},
            "butler_registry": REGISTRY,
        },
        "exec_1": {
            "execname": sys.executable,
            "cmd_hyphen": "mixed_gnu",
            "used": "file.raw, file.butler_registry",
            "was_generated_by": "file.calexp",
            "ancestry": "file.raw:file.calexp",
            "cmdline": command(id="visit=${visit} ccd=${ccd}", reads="raw bias flat", writes="calexp"),
        },
        "wrapper": WRAPPER,
    }


def make_warps(source: dict[str, object], **more: object) -> dict[str, object]:
    warp = {"filetype": "deepcoadd_tempexp", "filepat": "warp", "dirpat": "warp", "flabel": "warp"}
    return {
        "wrapperloop": "tract, patch, visit, filter",
        "loopobj": "list.corr",
        "modnamepat": "${modulename}-${visit}-${patch}",
        "list": {
            "corr": {
                **source,
                "divide_by": "tract, patch, visit, filter",
                "columns": "calexp.fullname, visit, ccd",
                "filepat": "warp",
                "flabel": "corr",
            }
        },
        "file": {
            "calexp": {"listonly": True, "dirpat": "ccd", "job_enddir": "corr", "filepat": "ccd", "flabel": "CORR"},
            "warp": warp,
            "butler_registry": REGISTRY,
        },
        "exec_1": {
            "execname": sys.executable,
            "cmd_hyphen": "mixed_gnu",
            "used": "list.corr.calexp, file.butler_registry",
            "was_generated_by": "file.warp",
            "ancestry": "list.corr.calexp:file.warp",
            "cmdline": command(
                id="tract=${tract} patch=${patch} filter=${filter} visit=${visit}",
                reads="calexp",
                writes="deepCoadd_tempExp",
            ),
        },
        "wrapper": {**WRAPPER, "per_file_cmdline": "list.corr.calexp:--selectId visit=$(visit) ccd=$(ccd)"},
        **more,
    }


def pipeline(folder: Path, modules: dict[str, object], **more: object) -> Pipeline:
    block = {"all": {"modulelist": ",".join(modules)}}
    return Pipeline.of(
        {**RUN, **PATTERNS, "blocklist": "all", "block": block, "module": modules, **more}, folder=folder
    )


CALEXPS = {
    "dataset": "calexp",
    "where": "tract = 0 AND patch = '8,6' AND filter = 'HSC-I'",
    "runs": [RUN_A, RUN_B],
}


def raws_to_warps() -> dict[str, object]:
    """Modules that find raws, process them, and resample what comes of it, all through a Gen2 repository."""
    asked = {"dataset": "raw", "where": "tract = 0 AND patch = '8,6' AND filter = 'HSC-I'"}
    fields = "visit, ccd, filter, pointing, tract, patch"
    ask = {"noop": True, "list": {"raws": {**asked, "output_fields": fields}}}
    source = {"depends-newname": "ask.list.raws"}
    return {"ask": ask, "process_ccd": process_ccd(), "warp": make_warps(source)}
