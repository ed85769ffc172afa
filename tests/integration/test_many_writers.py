"""Many programs that register, merge and ask at once, some killed, leave what they would one after the other."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from event_files import make_workflow, register_raws, write_run
from registries import rows, small_registry
from run_story import told

from dbb import Registry
from dbb.runs.begin import begin_run
from dbb.runs.merge import merge
from dbb.runs.status import run_status

JOBS, CCDS = 20, 2
OWN, SHARED = 20, 10
WRITERS = {"sqlite": 16, "postgresql": 64}
"""The server of the tests takes 40 connections: of 64 programs some have to wait for one."""
WAITING = re.compile("has had no connection to spare for|has been (busy|writing to the registry) for")

# Starting Python takes longer than all that a program does here: one process loads dbb, and each is a fork of it.
PROGRAM = """
import json, os, random, signal, sys, time, traceback
import psycopg, sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite
import dbb, dbb.ingest.files, dbb.ingest.table
from dbb.runs import merge as merging
from dbb.runs.status import run_status

url, jobs, images, writers, kills, seed = json.loads(sys.argv[1])
merging.BATCH = 100
with dbb.Registry.create("sqlite://", mapper="hsc") as warm:
    warm.add_archive("home", os.path.dirname(os.path.dirname(images[0])))
    warm.ingest_files(images, filetype="calexp", archive="home", dry_run=True)

def work(number, tables):
    dice = random.Random(f"{seed} {number} {time.time()}")
    waits = []
    with dbb.Registry(url) as registry:
        deeds = [lambda table=table: registry.ingest_table(table, filetype="calexp", archive="home", run="Ht0_r11p96")
                 for table in tables]
        deeds.append(lambda: registry.ingest_files(images, filetype="calexp", archive="home", run="Ht0_r11p97"))
        deeds.append(lambda: merging.merge(registry, [jobs]))
        dice.shuffle(deeds)
        for deed in deeds:
            began = time.perf_counter()
            done = deed()
            waits.append(time.perf_counter() - began)
            assert not done.refused, done.refused
            assert len(run_status(registry)) == 1
            registry.query("calexp", where="visit = 1")
    return max(waits)

def start(number, tables):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.write(write, str(work(number, tables)).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    return child, read

tables = [json.loads(line) for line in sys.stdin]
running = {number: start(number, tables[number]) for number in range(writers)}
dice = random.Random(seed)
for number in dice.sample(range(writers), kills):
    time.sleep(dice.uniform(0, 0.1))
    child, read = running[number]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    running[number] = start(number, tables[number])
codes, worst = [], 0.0
for child, read in running.values():
    with os.fdopen(read) as said:
        worst = max(worst, float(said.read() or 0))
    codes.append(os.waitpid(child, 0)[1])
print(json.dumps({"codes": codes, "worst": worst}))
"""


def table(number: int) -> list[list[dict[str, Any]]]:
    """Return two tables of a writer: files that only it has, and some that all have, in an order of its own."""
    own = [calexp(1000 * (number + 1) + n) for n in range(OWN)]
    common = [calexp(n) for n in range(1, SHARED + 1)]
    turn = number % SHARED
    return [own[: OWN // 2] + common[turn:] + common[:turn], own[OWN // 2 :]]


def calexp(visit: int) -> dict[str, Any]:
    facts = {"relpath": f"other/{visit}.fits", "filesize": visit, "md5sum": f"{visit:032x}"}
    return {**facts, "visit": visit, "ccd": 50, "filter": "HSC-R"}


def make_images(folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.zeros((4, 2), "f4")).writeto(buffer)
    paths = [folder / f"CORR-{visit:07d}-060-r11p97.fits" for visit in (1, 2)]
    for path in paths:
        path.write_bytes(buffer.getvalue())
    return [str(path) for path in paths]


def prepared(url: str, home: Path) -> Registry:
    opened = small_registry(url, "hsc_raw", "calexp", "deepcoadd_calexp")
    opened.add_archive("home", str(home))
    register_raws(opened, JOBS, CCDS)
    begin_run(opened, make_workflow(JOBS, CCDS), operator="op")
    return opened


def one_after_the_other(url: str, home: Path, jobs: Path, images: Sequence[str], writers: int) -> dict[str, list[str]]:
    """Return what the registry says when one program does all that the others do."""
    with prepared(url, home) as registry:
        for number in range(writers):
            for some in table(number):
                registry.ingest_table(some, filetype="calexp", archive="home", run="Ht0_r11p96")
        registry.ingest_files(images, filetype="calexp", archive="home", run="Ht0_r11p97")
        merge(registry, [jobs])
        return told(registry)


def test_many_writers_lose_nothing_and_register_nothing_twice(registry_url: str, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    home, jobs = tmp_path / "home", tmp_path / "RUN"
    images = make_images(home / "corr")
    write_run(jobs, make_workflow(JOBS, CCDS))
    with prepared(registry_url, home) as registry:
        writers = WRITERS[registry.dialect]
        told_at_first = told(registry)
    asked = json.dumps([registry_url, str(jobs), images, writers, writers // 4, seed])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, asked],
        input="".join(json.dumps(table(number)) + "\n" for number in range(writers)),
        capture_output=True,
        text=True,
        check=False,
    )
    # on a slow machine programs say that they wait; nothing else may go wrong
    assert [line for line in done.stderr.splitlines() if not WAITING.search(line)] == []
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert said["codes"] == [0] * writers, seed
    sys.stdout.write(f"seed {seed}: the longest wait of {writers} programs was {said['worst']:.2f} s\n")
    expected = one_after_the_other(f"sqlite:///{tmp_path / 'expected.db'}", home, jobs, images, writers)
    with Registry(registry_url) as registry:
        if registry.dialect == "sqlite":
            assert rows(registry, "pragma integrity_check") == [("ok",)]
            assert rows(registry, "pragma foreign_key_check") == []
        found = told(registry)
        assert {name: len(lines) for name, lines in found.items()} == {n: len(lines) for n, lines in expected.items()}
        assert found == expected != told_at_first
        assert run_status(registry)[0].done > 0
