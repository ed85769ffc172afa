"""Jobs whose files travel: they see nothing of this machine's archives, and leave there what other jobs leave."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from demo_survey import raw_values
from job_files import archived, events_of, shell, states_of, texts_of, write_job
from registries import small_registry

from dbb import Registry
from dbb.butler import InputSpec, RefcatSpec, RepoSpec, materialize_repo
from dbb.errors import DbbError
from dbb.ingest import add_refcat
from dbb.refcats.pack import pack_folder
from dbb_plugins.htcondor.dag import JOB_SCRIPT
from dbb_plugins.htcondor.packing import SANDBOX, TOKEN, pack
from dbb_plugins.htcondor.unpacking import note_lost, unpack

FIELD = {
    "ra_cent": 320.8, "dec_cent": -0.3, "rac1": 320.7, "decc1": -0.4, "rac2": 320.9, "decc2": -0.4,
    "rac3": 320.9, "decc3": -0.2, "rac4": 320.7, "decc4": -0.2,
}  # fmt: skip
MEMBER = os.urandom(3000)


def travel(job: Path, number: int = 1, *, hide: bool = True) -> int:
    """Do with a packed job what HTCondor does, while its archive is out of sight; return its exit code."""
    archive, away = job.parents[1] / "archive", job.parents[1] / "away"
    there = job.parents[1] / f"execute & {number}"
    shutil.copytree(job.parent / SANDBOX, there / SANDBOX)
    command = f"{sys.executable} -m dbb_cli run-job job.json"
    (there / "job.sh").write_text(JOB_SCRIPT.format(token=TOKEN, sandbox=SANDBOX, command=command))
    if hide:
        archive.rename(away)
    done = subprocess.run(["sh", "job.sh", str(number)], cwd=there, capture_output=True, check=False, timeout=60)
    if hide:
        away.rename(archive)
    shutil.copytree(there / f"try.{number}", job.parent / f"try.{number}")
    shutil.rmtree(there)
    return done.returncode


def kept(job: Path, name: str) -> str:
    return (job.parents[1] / "archive" / "r11p95" / name).read_text()


def test_inputs_set_up_and_outputs_travel(tmp_path: Path) -> None:
    given = archived(tmp_path, "raw/a.txt", b"given\n", "raw/a.txt")
    (tmp_path / "archive/setup.sh").write_text("export WORD=said\n")
    script = "cat raw/a.txt > made.txt; echo $WORD >> made.txt"
    job = write_job(tmp_path, [shell(1, script, "made.txt", inputs=[given])], setup=str(tmp_path / "archive/setup.sh"))
    pack(job)
    assert travel(job) == 0
    assert unpack(job.parent) == ""
    assert kept(job, "made.txt") == "given\nsaid\n"
    events = events_of(job)
    assert [event["saved"]["archive"] for event in events if "saved" in event] == ["home"]
    assert [one["archive"] for event in events for one in event.get("used", ()) if "archive" in one] == ["home"]
    assert sorted(path.name for path in job.parent.iterdir()) == ["events.1.jsonl", "job.json", SANDBOX]


def test_the_record_says_the_same_as_that_of_a_job_that_stays(tmp_path: Path) -> None:
    told = []
    for place in ("here", "there"):
        folder = tmp_path / place
        given = archived(folder, "raw/a.txt", b"given\n", "raw/a.txt")
        job = write_job(folder, [shell(1, "cat raw/a.txt > made.txt", "made.txt", inputs=[given])])
        if place == "here":
            subprocess.run([sys.executable, "-m", "dbb_cli", "run-job", str(job)], check=True, capture_output=True)
        else:
            pack(job)
            travel(job)
            unpack(job.parent)
        told.append([_lasting(event) for event in events_of(job)])
    assert told[0] == told[1]


def _lasting(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event says that is no time, place or environment."""
    passing = {"t", "start", "end", "log", "rusage", "environment", "pid", "host", "cwd", "software"}
    return {key: value for key, value in event.items() if key not in passing}


@pytest.fixture
def refcat(tmp_path: Path, sqlite_url: str) -> Path:
    """A tar with 20 members of which the job's field needs one."""
    files = tmp_path / "ps1"
    files.mkdir()
    for name in ("README.md", "config.py", "master_schema.fits", *(f"{one}.fits" for one in range(189576, 189596))):
        (files / name).write_bytes(MEMBER)
    tar = tmp_path / "archive/refcats/ps1.tar"
    tar.parent.mkdir(parents=True)
    pack_folder(files, tar)
    return tar


def planned(folder: Path, url: str, tar: str) -> dict[str, Any]:
    """Return what a job file says of a repository with a raw and what it needs of a reference catalogue."""
    small_registry(url, "hsc_raw").close()
    with Registry(url) as registry:
        registry.add_archive("home", str(folder / "archive"))
        (folder / "archive/raw").mkdir()
        (folder / "archive/raw/23.fits").write_text("raw")
        row = {"relpath": "raw/23.fits", "filesize": 3, **raw_values(903334, 23), **FIELD}
        registry.ingest_table([row], filetype="hsc_raw", archive="home")
        add_refcat(registry, "ps1", f"refcats/{tar}")
        spec = RepoSpec("hsc", (InputSpec("raw", where="ccd = 23"),), refcats=(RefcatSpec("ps1"),))
        materialize_repo(registry, folder / "planned", spec)
    manifest = json.loads((folder / "planned/manifest.json").read_text(encoding="utf-8"))
    return {"dir": "jobrepo", "manifest": manifest, "module": "create_butler_registry", "wrapnum": 1}


@pytest.mark.parametrize("compressed", [False, True])
def test_a_repository_with_its_reference_catalogue_is_made_there(
    tmp_path: Path, sqlite_url: str, refcat: Path, compressed: bool
) -> None:
    if compressed:
        refcat.with_name("ps1.tar.gz").write_bytes(gzip.compress(refcat.read_bytes()))
    repository = planned(tmp_path, sqlite_url, "ps1.tar.gz" if compressed else "ps1.tar")
    names = sorted(path.name for path in (tmp_path / "planned/in/ref_cats/ps1").iterdir())
    shutil.rmtree(tmp_path / "planned")
    raw = repository["manifest"]["inputs"][0]["path"]
    steps = [
        {"module": "create_butler_registry", "wrapnum": 1, "argv": []},
        shell(
            2,
            f"ls jobrepo.job/in/ref_cats/ps1 > made.txt; cat jobrepo.job/{raw} >> made.txt",
            "made.txt",
        ),
    ]
    job = write_job(tmp_path, steps, repository=repository)
    pack(job)
    assert travel(job) == 0, (job.parent / "try.1/record.jsonl").read_text()
    unpack(job.parent)
    assert kept(job, "made.txt").split() == [*names, "raw"]
    if not compressed:
        luggage = sum(path.stat().st_size for path in (job.parent / SANDBOX).rglob("*") if path.is_file())
        assert luggage < refcat.stat().st_size / 2


def test_an_output_that_the_archive_does_not_take_is_not_said_to_be_saved(tmp_path: Path) -> None:
    job = write_job(tmp_path, [shell(1, "echo mine > made.txt", "made.txt"), shell(2, "echo b > b.txt", "b.txt")])
    (tmp_path / "archive/r11p95").mkdir()
    (tmp_path / "archive/r11p95/made.txt").write_text("somebody else's\n")
    pack(job)
    assert travel(job) == 0
    assert "other bytes" in unpack(job.parent)
    assert kept(job, "made.txt") == "somebody else's\n"
    assert kept(job, "b.txt") == "b\n"
    events = events_of(job)
    assert states_of(events) == {1: "incomplete", 2: "succeeded", None: "incomplete"}
    assert [event["saved"]["filename"] for event in events if "saved" in event] == ["b.txt"]
    assert "other bytes" in texts_of(events)[0]


def test_bringing_home_may_be_broken_off_and_repeated(tmp_path: Path) -> None:
    job = write_job(tmp_path, [shell(1, "echo a > made.txt", "made.txt")])
    pack(job)
    travel(job)
    shutil.copytree(job.parent / "try.1", tmp_path / "copy")
    unpack(job.parent)
    before = events_of(job)
    (tmp_path / "copy").rename(job.parent / "try.1")
    assert unpack(job.parent) == ""
    assert events_of(job) == before
    assert len(list(job.parent.glob("events.*"))) == 1


def test_a_second_try_replaces_what_the_first_has_saved(tmp_path: Path) -> None:
    script = "echo $RANDOM_WORD > made.txt; [ $RANDOM_WORD = second ]"
    options = {"master_savefiles": "always"}
    job = write_job(tmp_path, [shell(1, script, "made.txt")], options=options)
    for number, word in ((1, "first"), (2, "second")):
        pack(job)
        os.environ["RANDOM_WORD"] = word
        try:
            assert (travel(job, number) == 0) == (number == 2)
        finally:
            del os.environ["RANDOM_WORD"]
        assert unpack(job.parent) == ""
        assert kept(job, "made.txt") == f"{word}\n"
    assert events_of(job, 2)[0]["try"] == 2


def test_tries_that_are_counted_anew_are_further_ones(tmp_path: Path) -> None:
    job = write_job(tmp_path, [shell(1, "exit 1")])
    for number in (1, 2):
        pack(job)
        travel(job, 1)
        unpack(job.parent)
        assert events_of(job, number)[0]["try"] == number


def test_of_a_job_that_was_removed_it_is_known_that_it_had_begun(tmp_path: Path) -> None:
    job = write_job(tmp_path, [shell(1, "true")])
    note_lost(job.parent)
    note_lost(job.parent)
    (event,) = events_of(job)
    assert (event["state"], event["try"], event["run"]["attnum"]) == ("running", 1, 95)


def test_an_input_that_is_gone_is_told_before_the_job_starts(tmp_path: Path) -> None:
    given = archived(tmp_path, "raw/a.txt", b"given\n", "raw/a.txt")
    job = write_job(tmp_path, [shell(1, "true", inputs=[given])])
    (tmp_path / "archive/raw/a.txt").unlink()
    with pytest.raises(DbbError, match=r"raw/a\.txt cannot travel with the job: No such file"):
        pack(job)
    assert [path.name for path in job.parent.iterdir()] == ["job.json"]
