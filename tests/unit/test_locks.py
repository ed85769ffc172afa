"""A locked file says that whoever locked it is alive."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from dbb.locks import claimed, held, is_held


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


def test_a_file_is_held_as_long_as_the_block_runs(file: Path) -> None:
    with held(file):
        assert is_held(file)
    assert not is_held(file)


def test_several_may_hold_a_file_and_one_may_claim_it(file: Path) -> None:
    with held(file), held(file), claimed(file) as ours:
        assert not ours
    with claimed(file) as ours:
        assert ours
        assert is_held(file)
        with claimed(file) as also_ours:
            assert not also_ours
    assert not is_held(file)


def test_whoever_only_looks_does_not_hinder_a_claim(file: Path) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_held(file)
            time.sleep(0.001)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(100):
            with claimed(file) as ours:
                assert ours
    finally:
        over.set()
        looker.join()
