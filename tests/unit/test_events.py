"""Event files are true accounts, however their writer ends."""

from __future__ import annotations

import json
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dbb.errors import ConflictError, DbbError, IntegrityError
from dbb.jobs.events import EventLog, read_events


def write_events(path: Path, count: int) -> None:
    with EventLog(path, "warp_1") as log:
        for number in range(count):
            log.append(number, state="running")


def test_events_come_back_in_order(tmp_path: Path) -> None:
    write_events(tmp_path / "events", 3)
    events = [event for _, event in read_events(tmp_path / "events")]
    assert [(event["step"], event["job"], event["state"]) for event in events] == [
        (number, "warp_1", "running") for number in range(3)
    ]


def test_an_event_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events", "job") as log:
        log.append(None, state="running")
        assert json.loads((tmp_path / "events").read_text())["state"] == "running"


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    write_events(tmp_path / "events", 10)
    offset, _ = list(read_events(tmp_path / "events"))[3]
    assert [event["step"] for _, event in read_events(tmp_path / "events", offset)] == list(range(4, 10))


def test_a_torn_last_line_is_left_for_later(tmp_path: Path) -> None:
    write_events(tmp_path / "events", 3)
    whole = (tmp_path / "events").read_bytes()
    for end in range(len(whole)):
        (tmp_path / "events").write_bytes(whole[:end])
        events = list(read_events(tmp_path / "events"))
        assert len(events) == whole[:end].count(b"\n")
        assert all(offset <= end for offset, _ in events)


@pytest.mark.parametrize("line", [b"no JSON\n", b"[1]\n", b"\xff\n", b"\n"])
def test_a_whole_line_that_is_no_event_is_an_error_with_its_place(tmp_path: Path, line: bytes) -> None:
    write_events(tmp_path / "events", 1)
    with (tmp_path / "events").open("ab") as stream:
        stream.write(line)
    with pytest.raises(IntegrityError, match=r"what begins at byte [0-9]+ is no event"):
        list(read_events(tmp_path / "events"))


def test_a_clock_that_goes_back_does_not_turn_events_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 50.0, 101.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    write_events(tmp_path / "events", 3)
    assert [event["t"] for _, event in read_events(tmp_path / "events")] == [100.0, 100.0, 101.0]


def test_threads_share_a_log_and_no_line_is_torn(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events", "job") as log, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.append(number, text="x" * 500), range(400)))
    events = [event for _, event in read_events(tmp_path / "events")]
    assert sorted(event["step"] for event in events) == list(range(400))
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)


def test_the_record_of_another_try_is_not_written_on(tmp_path: Path) -> None:
    write_events(tmp_path / "events", 1)
    with pytest.raises(ConflictError, match="record of another try"):
        EventLog(tmp_path / "events", "job")


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventLog(tmp_path / "events", "job") as log:
        log.append(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        try:
            with pytest.raises(DbbError, match="events cannot be written: File too large"):
                log.append(2, text="x" * 500)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [event["step"] for _, event in read_events(tmp_path / "events")] == [1]
