"""Other programs run single steps, as the examples show."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from job_files import archived, md5sum, output

from dbb.errors import UsageError
from dbb.jobs import EventLog, read_events, run_step

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["plain_python.py", "dask_engine.py"])
def test_an_example_is_short_and_works_again_and_again(name: str, tmp_path: Path) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 40
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, EXAMPLES / name, tmp_path], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "coadd" in done.stdout
    coadd = (tmp_path / "archive" / "r1p01" / "coadd.txt").read_text()
    assert coadd.startswith("warp-903334\nwarp-903336\n")


def test_a_step_tells_what_it_made(tmp_path: Path) -> None:
    given = archived(tmp_path, "a", b"a", "in/a")
    step = {"argv": [["cp", "in/a", "b"]], "inputs": [given], "outputs": [output("b", nick="copy")]}
    result = run_step(step, tmp_path / "work", archives={"home": str(tmp_path / "archive")}, home="home")
    assert (result.state, result.status, result.reason) == ("succeeded", 0, "")
    assert result.files["copy"].read_bytes() == b"a"
    (file,) = [event["file"] for event in result.events if event.get("file", {}).get("nick") == "copy"]
    assert file["md5sum"] == md5sum(b"a")
    assert (tmp_path / "archive" / "r11p95" / "b").read_bytes() == b"a"


def test_that_a_step_fails_is_no_exception(tmp_path: Path) -> None:
    result = run_step({"argv": [["sh", "-c", "exit 5"]]}, tmp_path)
    assert (result.state, result.status) == ("failed", 5)


def test_a_malformed_step_is_an_exception(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="argv"):
        run_step({"argv": ["ls"]}, tmp_path)


def test_an_archive_that_nobody_named_is_an_exception(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="home"):
        run_step({"argv": [["true"]]}, tmp_path, home="home")


def test_events_may_go_to_a_file_as_well(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl", "mine") as log:
        result = run_step({"wrapnum": 7, "argv": [["true"]]}, tmp_path / "work", events=log)
    written = [event for _, event in read_events(tmp_path / "events.jsonl")]
    assert [event["step"] for event in written] == [7] * len(result.events)


def test_the_patterns_of_plug_ins_are_looked_for(tmp_path: Path) -> None:
    result = run_step({"argv": [["echo", "processCcd FATAL: Failed"]]}, tmp_path)
    assert [event["message"]["level"] for event in result.events if "message" in event] == [1]


def test_threads_run_steps_in_one_folder(tmp_path: Path) -> None:
    def run(number: int) -> str:
        step = {"argv": [["sh", "-c", f"echo {number} > {number}"]], "outputs": [{"fullname": str(number)}]}
        return run_step(step | {"log": f"log/{number}.log"}, tmp_path).state

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, range(24))) == {"succeeded"}
