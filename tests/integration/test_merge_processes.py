"""Merges by several processes while others read, and merges that are killed, lose nothing and count nothing twice."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_files import make_workflow, register_raws, write_run
from registries import rows, small_registry
from run_story import told

from dbb import Registry
from dbb.pipeline.workflow import Workflow
from dbb.runs.begin import begin_run
from dbb.runs.merge import merge
from dbb.runs.status import run_status

JOBS, CCDS = 199, 2  # and a job that reads what all others made
MERGE = """
import sys, time
from pathlib import Path
from dbb import Registry
from dbb.runs import merge as module
module.BATCH = 300
with Registry(sys.argv[1]) as registry:
    while True:
        over = Path(sys.argv[3]).exists()
        refused = module.merge(registry, [sys.argv[2]]).refused
        assert not refused, refused
        if over:
            break
"""
READ = """
import sys
from pathlib import Path
from dbb import Registry
from dbb.runs.jobs import job_status
from dbb.runs.status import run_status
with Registry(sys.argv[1]) as registry:
    last = 0
    while not Path(sys.argv[3]).exists():
        (one,) = run_status(registry)
        assert one.done >= last, (one, last)
        last = one.done
        job_status(registry, "r11p95")
"""
KILLED = """
import json, os, random, signal, sys, time
import psycopg, sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite
from dbb import Registry
from dbb.runs import merge as module
module.BATCH = 5
dice = random.Random(5)
for number in range(20):
    child = os.fork()
    if not child:
        with Registry(sys.argv[1]) as registry:
            module.merge(registry, [sys.argv[2]])
        os._exit(0)
    time.sleep(dice.uniform(0.0, 0.4))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with Registry(sys.argv[1]) as registry, registry.read() as conn:
        print(conn.exec_driver_sql("select coalesce(sum(merged), 0) from event_log").scalar(), flush=True)
    registry.close()
"""


@pytest.fixture(scope="module")
def workflow() -> Workflow:
    return make_workflow(JOBS, CCDS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, workflow: Workflow) -> dict[Path, bytes]:
    """What the event files of the run hold at the end, by their path below the run's folder."""
    folder = tmp_path_factory.mktemp("written")
    return {path.relative_to(folder): path.read_bytes() for path in write_run(folder, workflow)}


def prepared(url: str, folder: Path, workflow: Workflow) -> Registry:
    opened = small_registry(url, "hsc_raw", "calexp", "deepcoadd_calexp")
    opened.add_archive("home", "/data/home")
    register_raws(opened, JOBS, CCDS)
    begin_run(opened, workflow, operator="op")
    return opened


@pytest.fixture
def registry(registry_url: str, tmp_path: Path, workflow: Workflow) -> Iterator[Registry]:
    with prepared(registry_url, tmp_path, workflow) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory, workflow: Workflow, written: dict[Path, bytes]
) -> dict[str, list[str]]:
    """What one merge of everything says."""
    folder = tmp_path_factory.mktemp("expected")
    with prepared(f"sqlite:///{folder / 'registry.db'}", folder, workflow) as opened:
        put(folder, written)
        merge(opened, [folder])
        return told(opened)


def put(folder: Path, written: dict[Path, bytes]) -> None:
    for path, content in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def test_event_files_that_grow_are_merged_by_three_while_others_read(
    registry: Registry, tmp_path: Path, written: dict[Path, bytes], expected: dict[str, list[str]]
) -> None:
    folder, over = tmp_path / "RUN", tmp_path / "over"
    put(folder, dict.fromkeys(written, b""))
    arguments = [registry.url, str(folder), str(over)]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True)
        for script in (MERGE, MERGE, MERGE, READ)
    ]
    grow(folder, written)
    over.touch()
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4
    assert told(registry) == expected


def grow(folder: Path, written: dict[Path, bytes]) -> None:
    """Append to the files, here and there, as jobs do; lines may be seen before they end."""
    dice, at = random.Random(7), dict.fromkeys(written, 0)
    while at:
        path = dice.choice(list(at))
        piece = written[path][at[path] : at[path] + dice.randrange(1, 4000)]
        with (folder / path).open("ab") as stream:
            stream.write(piece)
        at[path] += len(piece)
        if at[path] == len(written[path]):
            del at[path]
        time.sleep(0.001)


def test_a_merge_that_is_killed_again_and_again_ends_as_one_that_was_not(
    registry: Registry, tmp_path: Path, written: dict[Path, bytes], expected: dict[str, list[str]]
) -> None:
    put(tmp_path / "RUN", written)
    command = [sys.executable, "-c", KILLED, registry.url, str(tmp_path / "RUN")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    merged, total = [int(line) for line in done.stdout.split()], sum(map(len, written.values()))
    assert merged == sorted(merged)
    assert len({some for some in merged if 0 < some < total}) > 3, "no kill came in the middle"
    merge(registry, [tmp_path / "RUN"])
    assert told(registry) == expected


def test_a_status_read_while_a_merge_writes_does_not_wait_for_it(
    registry: Registry,
) -> None:
    held, read = threading.Event(), threading.Event()

    def write() -> None:
        registry.write(lambda conn: (held.set(), read.wait(60)))

    writer = threading.Thread(target=write)
    writer.start()
    assert held.wait(60)
    assert run_status(registry)[0].stat == "PEND"
    assert writer.is_alive()
    read.set()
    writer.join(60)


def test_the_story_of_a_run_holds_every_event(written: dict[Path, bytes], expected: dict[str, list[str]]) -> None:
    assert len(expected["event_log"]) == len(written) == JOBS + 1
    assert len(expected["opm_used"]) == 2 * JOBS * CCDS
    assert len(expected["task_message"]) == JOBS * CCDS + 1


def test_rows_of_a_run_belong_together(registry: Registry, tmp_path: Path, written: dict[Path, bytes]) -> None:
    put(tmp_path / "RUN", written)
    merge(registry, [tmp_path / "RUN"])
    if registry.dialect == "sqlite":
        assert rows(registry, "pragma foreign_key_check") == []
    for child in ("pfw_wrapper", "pfw_exec", "pfw_job", "pfw_block"):
        assert rows(
            registry, f"select count(*) from {child} c left join task t on t.id = c.task_id where t.id is null"
        ) == [(0,)]
