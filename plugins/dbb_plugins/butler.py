"""Makes the Gen2 Butler repository of a job from the manifest that the job file carries."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from dbb.errors import PluginError
from dbb.hookspecs import hookimpl
from dbb.jobs.jobfile import JobRepo

__all__ = ["dbb_prepare_step"]

_PARENT = "- ../in\n"


@hookimpl
def dbb_prepare_step(step: Mapping[str, object], repo: JobRepo) -> None:
    """Lay out the repository once; what earlier steps wrote into it, later ones see without further doing.

    Tasks are given its folder ``out``, to read and to write, under the name that the pipeline has for the repository.
    The rest lies beside it, in a folder with ``.job`` behind that name.
    """
    folder = repo.work / repo.folder
    if os.path.lexists(folder):
        return
    from dbb.butler.rebuild import materialize_manifest

    job = folder.with_name(f"{folder.name}.job")
    folder.parent.mkdir(parents=True, exist_ok=True)
    manifest = Path(f"{job}.json")
    manifest.write_text(json.dumps(repo.manifest), encoding="utf-8")
    materialize_manifest(job, manifest)
    manifest.unlink()
    _move_out(job, folder)


def _move_out(job: Path, folder: Path) -> None:
    """Give the folder ``out`` of a job another name; the Butler of 2017 does not see through a link in its place."""
    out = job / "out"
    config = out / "repositoryCfg.yaml"
    text = config.read_text(encoding="utf-8")
    if text.count(_PARENT) != 1:
        raise PluginError(f"{config} does not name ../in as its parent")
    config.write_text(text.replace(_PARENT, f"- ../{job.name}/in\n"), encoding="utf-8")
    for link in list(out.iterdir()):
        if link.is_symlink():  # as CALIB is; the files themselves lie in the link farm
            target = str(link.readlink())
            link.unlink()
            link.symlink_to(f"../{job.name}/{target.removeprefix('../')}")
    out.rename(folder)
    out.symlink_to(f"../{folder.name}")
