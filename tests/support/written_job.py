"""A job that was materialised and has written outputs, as tests of the way back need it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo_survey import Survey

from dbb.butler import InputSpec, OutputSpec, Repository, RepoSpec, materialize_repo

RUN = "Ht0_r20p01"
OUTPUTS = ("calexp", "src", "deepCoadd_calexp", "processCcd_metadata")


def fits(text: str, cards: Mapping[str, object] | None = None) -> bytes:
    """Return a FITS file without data whose header holds `text`."""
    lines = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"]
    lines += [f"OBJECT  = '{text:<8}'"]
    lines += [f"{key:<8}= {value!s:>20}" for key, value in (cards or {}).items()]
    return "".join(line.ljust(80) for line in [*lines, "END"]).ljust(2880).encode()


def make_job(
    survey: Survey, folder: Path, visits: int = 1, ccds: int = 2, *, run: str = RUN, era: str = "both"
) -> Path:
    """Register raws and lay out a job that reads them."""
    for visit in range(903334, 903334 + 2 * visits, 2):
        for ccd in range(ccds):
            survey.add_raw(visit, ccd)
    spec = RepoSpec("hsc", (InputSpec("raw"),), outputs=OutputSpec(run, OUTPUTS), era=era)
    materialize_repo(survey.registry, folder, spec)
    return folder


def write_outputs(job: Path, visits: int = 1, ccds: int = 2, datasets: tuple[str, ...] = ("calexp",)) -> list[Path]:
    """Write datasets of every exposure as a task would."""
    with Repository(job / "out") as repo:
        return [
            Path(repo.put(dataset, fits(f"{dataset[:4]}{visit % 100:02d}{ccd:02d}"), visit=visit, ccd=ccd))
            for visit in range(903334, 903334 + 2 * visits, 2)
            for ccd in range(ccds)
            for dataset in datasets
        ]


@contextmanager
def shallow_stack(more: int) -> Iterator[None]:
    """Let calls be only so much deeper than here: folders as deep as Python's own limit are slow to make and remove."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(traceback.extract_stack()) + more)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
