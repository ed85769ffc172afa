"""Ingest by many processes at once loses nothing, and one that is killed leaves the registry whole."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from registries import rows, small_registry

from dbb import Registry

# Starting Python takes longer than an ingest: one process loads dbb, and each job runs in a fork of it.
FORKER = """
import json, os, signal, sys, time, traceback
import psycopg, sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite
import dbb, dbb.ingest.files, dbb.ingest.table

with dbb.Registry.create("sqlite://", mapper="hsc") as warm:
    warm.add_archive("home", os.path.dirname(sys.argv[1]))
    warm.ingest_files(sys.argv[1:], filetype="calexp", archive="home", dry_run=True)

def run(job, answer):
    code = 1
    try:
        with dbb.Registry(job["url"]) as registry:
            start = time.perf_counter()
            done = getattr(registry, job["method"])(*job["args"], **job["options"])
            seconds = time.perf_counter() - start
        os.write(answer, json.dumps([done.added, done.known, len(done.refused), seconds]).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

for line in sys.stdin:
    children = []
    for job in json.loads(line):
        answer, write = os.pipe()
        pid = os.fork()
        if not pid:
            run(job, write)
        os.close(write)
        children.append((pid, answer, job))
    for pid, _, job in children:
        if job["kill_after"] is not None:
            time.sleep(job["kill_after"])
            os.kill(pid, signal.SIGKILL)
    answers = []
    for pid, answer, _ in children:
        with os.fdopen(answer, "rb") as stream:
            said = stream.read()
        os.waitpid(pid, 0)
        answers.append(json.loads(said) if said else None)
    print(json.dumps(answers), flush=True)
"""
Jobs = Callable[[Sequence[dict[str, Any]]], list[Any]]
PROCESSES = 8
RUN = "Ht0_r11p95"


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """Run jobs, each in a process of its own; an answer is None where a process was killed before it was done."""
    folder = tmp_path_factory.mktemp("forker")
    errors = folder / "errors.txt"
    example = images(folder / "example", [1]) / "CORR-0000001-016-r11p95.fits"
    command = [sys.executable, "-c", FORKER, str(example)]
    with (
        errors.open("w") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as forker,
    ):
        assert forker.stdin is not None
        assert forker.stdout is not None

        def run(jobs: Sequence[dict[str, Any]]) -> list[Any]:
            forker.stdin.write(json.dumps(jobs) + "\n")
            forker.stdin.flush()
            line = forker.stdout.readline()
            assert line, errors.read_text()
            answers: list[Any] = json.loads(line)
            for job, answer in zip(jobs, answers, strict=True):
                assert answer is not None or job["kill_after"] is not None, errors.read_text()
            return answers

        yield run
        forker.stdin.close()
    assert forker.returncode == 0
    assert errors.read_text() == ""


@pytest.fixture
def registry(registry_url: str, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry with an archive under the temporary folder."""
    with small_registry(registry_url, "calexp") as opened:
        opened.add_archive("home", str(tmp_path / "home"))
        yield opened


def table_job(registry: Registry, path: Path, kill_after: float | None = None, **options: Any) -> dict[str, Any]:
    options = {"filetype": "calexp", "archive": "home", "run": RUN, **options}
    return {"url": registry.url, "method": "ingest_table", "args": [str(path)], "options": options} | {
        "kill_after": kill_after
    }


def files_job(registry: Registry, folder: Path, kill_after: float | None = None, **options: Any) -> dict[str, Any]:
    return table_job(registry, folder, kill_after, **options) | {
        "method": "ingest_files",
        "args": [[f"{folder}/*.fits"]],
    }


def write_table(path: Path, visits: Sequence[int]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["relpath", "filesize", "md5sum", "visit", "ccd", "filter"])
        writer.writerows([f"corr/{n % 7}/{n}.fits", n, f"{n:032x}", n, 16, "HSC-R"] for n in visits)
    return path


def counts(registry: Registry) -> dict[str, int]:
    """Check that the tables belong together, and count files by run."""
    if registry.dialect == "sqlite":
        assert rows(registry, "pragma integrity_check") == [("ok",)]
        assert rows(registry, "pragma foreign_key_check") == []
    together = (
        "select count(*) from desfile d join calexp c on c.desfile_id = d.id"
        " join file_archive_info f on f.desfile_id = d.id and f.filename = d.filename"
    )
    numbers = {rows(registry, f"select count(*) from {name}")[0] for name in ("desfile", "calexp", "file_archive_info")}
    assert numbers == {rows(registry, together)[0]}
    statement = (
        "select a.unitname, count(*) from desfile d, pfw_attempt a where d.pfw_attempt_id = a.id group by a.unitname"
    )
    return dict(rows(registry, statement))


def test_tables_taken_by_many_processes_at_once_lose_nothing(
    registry: Registry, in_processes: Jobs, tmp_path: Path
) -> None:
    own, shared = 100, 300
    first = write_table(tmp_path / "first.csv", [999_999])  # makes the run, on which they would wait for each other
    registry.ingest_table(first, filetype="calexp", archive="home", run=RUN)
    jobs = []
    for process in range(PROCESSES):
        visits = [*range(shared), *range(1000 * (process + 1), 1000 * (process + 1) + own)]
        random.Random(process).shuffle(visits)  # no two processes take the same files in the same order
        jobs.append(table_job(registry, write_table(tmp_path / f"{process}.csv", visits)))
    answers = in_processes(jobs)
    assert sum(added for added, *_ in answers) == PROCESSES * own + shared
    assert sum(known for _, known, *_ in answers) == (PROCESSES - 1) * shared
    assert [refused for _, _, refused, _ in answers] == [0] * PROCESSES
    assert all(added + known == own + shared for added, known, *_ in answers)
    assert counts(registry) == {"Ht0": PROCESSES * own + shared + 1}
    assert len(registry.query("calexp", runs=[RUN])) == PROCESSES * own + shared + 1


def test_many_processes_may_make_runs_at_once(registry: Registry, in_processes: Jobs, tmp_path: Path) -> None:
    jobs = []
    for process in range(PROCESSES):
        path = write_table(tmp_path / f"{process}.csv", [process])
        jobs.append(table_job(registry, path, run=f"U{process % 3}_r{process % 2}p01"))
    assert [answer[:3] for answer in in_processes(jobs)] == [[1, 0, 0]] * PROCESSES
    assert rows(registry, "select count(*) from pfw_attempt") == [(6,)]
    assert counts(registry) == {"U0": 3, "U1": 3, "U2": 2}


def test_one_of_two_contradicting_tables_wins_whole(registry: Registry, in_processes: Jobs, tmp_path: Path) -> None:
    jobs = []
    for process in range(PROCESSES):
        path = write_table(tmp_path / f"{process}.csv", range(200))
        path.write_text(path.read_text().replace("0000,", f"000{process},", 1))  # one checksum is another
        jobs.append(table_job(registry, path))
    answers = [answer[:3] for answer in in_processes(jobs)]
    assert sorted(answers) == [[0, 0, 1]] * (PROCESSES - 1) + [[200, 0, 0]]
    assert counts(registry) == {"Ht0": 200}


def test_files_brought_by_many_processes_at_once_arrive_once(
    registry: Registry, in_processes: Jobs, tmp_path: Path
) -> None:
    folder = images(tmp_path / "in", range(12))
    answers = in_processes([files_job(registry, folder, transfer="copy")] * 4)
    assert sum(added for added, *_ in answers) == 12
    assert sum(known for _, known, *_ in answers) == 36
    assert counts(registry) == {"Ht0": 12}
    assert sorted(path.name for path in (tmp_path / "home").rglob("*") if path.is_file()) == sorted(
        path.name for path in folder.iterdir()
    )


def moments(longest: float, number: int) -> Iterator[float]:
    """Moments within the time that a job takes, the first one at once, and some after its end."""
    yield 0.0
    yield from (random.uniform(0, 1.2 * longest) for _ in range(number - 1))


def test_a_killed_ingest_of_a_table_leaves_all_of_it_or_nothing(
    registry: Registry, in_processes: Jobs, tmp_path: Path
) -> None:
    size, number = 1500, 8
    tables = [write_table(tmp_path / f"{n}.csv", range(10_000 * n, 10_000 * n + size)) for n in range(number + 1)]
    [[_, _, _, seconds]] = in_processes([table_job(registry, tables[-1], run="Timed_r1p1")])
    whole = {}
    for n, moment in enumerate(moments(seconds, number)):
        [answer] = in_processes([table_job(registry, tables[n], moment, run=f"U{n}_r1p1")])
        found = counts(registry)
        assert found.get(f"U{n}", 0) in (0, size)
        assert answer is None or found[f"U{n}"] == size
        whole[n] = f"U{n}" in found
    assert not whole[0]
    for n, table in enumerate(tables[:-1]):
        done = registry.ingest_table(table, filetype="calexp", archive="home", run=f"U{n}_r1p1")
        assert (done.added, done.known, done.refused) == ((0, size, ()) if whole[n] else (size, 0, ()))
    assert counts(registry) == {"Timed": size} | {f"U{n}": size for n in range(number)}


@pytest.mark.parametrize("transfer", ["copy", "move"])
def test_a_killed_ingest_of_files_loses_none_and_can_be_run_again(
    registry: Registry, in_processes: Jobs, tmp_path: Path, transfer: str
) -> None:
    size, number = 12, 5
    [[_, _, _, seconds]] = in_processes(
        [files_job(registry, images(tmp_path / "timed", range(size)), transfer=transfer, run="Timed_r1p1")]
    )
    for n, moment in enumerate(moments(seconds, number)):
        folder = images(tmp_path / f"in{n}", range(size))
        names = {path.name for path in folder.iterdir()}
        place = tmp_path / "home/r1" / f"U{n}/p01/corr"
        job = files_job(registry, folder, moment, transfer=transfer, run=f"U{n}_r1p1")
        in_processes([job])
        assert counts(registry).get(f"U{n}", 0) in (0, size)
        archived = arrived(place)
        assert names == {path.name for path in folder.iterdir()} | {
            Path(name).name.replace("r1p01", "r11p95") for name in archived
        }
        registered = registry.query("calexp", where=f"run = 'U{n}_r1p1'")
        assert {record.filename for record in registered} <= archived
        if any(folder.iterdir()):
            in_processes([job | {"kill_after": None}])
        assert counts(registry)[f"U{n}"] == size
        assert len(arrived(place)) == size


def arrived(place: Path) -> set[str]:
    """Names of the files in a folder of the archive, all of them whole; what a killed process left aside is hidden."""
    found = [path for path in place.glob("*") if not path.name.startswith(".")]
    assert {path.read_bytes() for path in found} <= {IMAGE}
    return {path.name for path in found}


def _image() -> bytes:
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.zeros((40, 20), "f4")).writeto(buffer)
    return buffer.getvalue()


IMAGE = _image()


def images(folder: Path, visits: Sequence[int]) -> Path:
    folder.mkdir(parents=True)
    for visit in visits:
        (folder / f"CORR-{visit:07d}-016-r11p95.fits").write_bytes(IMAGE)
    return folder
