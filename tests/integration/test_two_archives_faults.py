"""Copies between archives that are killed, find no room, or meet each other, are made good by what comes after."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import detached_engine
import pytest
from registries import statements
from submitted_runs import kill_all, wait_for
from two_archives import RAW, STEPS, TwoArchives, files, outputs, served

from dbb import Registry
from dbb.runs.copies import Place, count_waiting, find_staged, outputs_waiting, register_copies
from dbb.runs.transfers import Transfer, Transfers, copy_files

MB = 1 << 20


@pytest.fixture
def runs(sqlite_url: str, tmp_path: Path) -> TwoArchives:
    return TwoArchives(sqlite_url, tmp_path)


def test_a_run_that_was_killed_at_any_moment_ends_with_all_at_home(registry_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(registry_url, tmp_path)
    seed = random.Random(7)
    submit = runs.start("submit.des", "--jobs", "2")
    for number in range(1, 5):
        wait_for(lambda number=number: (runs.folder / f"U_r1p{number:02d}").exists())
        time.sleep(seed.uniform(0, 2.5))
        kill_all(submit)
        submit = runs.start("--resume", f"U_r1p{number:02d}", "--jobs", "2")
    out, err = submit.communicate()
    assert submit.returncode == 0, out + err
    made = {path for path in files(runs.home) if "/made/" in path}
    assert {path.rpartition("/")[2] for path in made} == {
        path.rpartition("/")[2] for path in outputs() if "/made/" in path
    }
    # whatever was copied or saved and not yet registered is known, and nothing is half written
    assert runs.places("home") == files(runs.home)
    assert count(runs) == 0
    runs.dbb("verify", "--checksums", "--archive", "home")
    runs.dbb("verify", "--checksums", "--archive", "near")


def count(runs: TwoArchives) -> int:
    """Return how many outputs wait."""
    with Registry(runs.url) as registry, registry.read() as conn:
        return sum(files for files, _ in count_waiting(conn).values())


@pytest.mark.parametrize("when", ["job", "block"])
def test_attendants_that_are_killed_bring_home_all_in_the_end(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    detached_engine.install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{Path(detached_engine.__file__).parent}")
    runs = TwoArchives(sqlite_url, tmp_path, f"use_home_archive_output = {when}")
    seed = random.Random(5)
    runs.dbb("submit", "submit.des", "--engine", "detached", "--detach")
    for _ in range(5):
        attendant = runs.dbb_started("attend", "U_r1p01")
        time.sleep(seed.uniform(0.3, 1.6))
        attendant.kill()
        attendant.communicate()
    runs.dbb_any("attend", "U_r1p01")
    runs.check()
    assert count(runs) == 0
    assert set(runs.states().values()) == {"succeeded"}
    assert sorted(runs.told) == sorted(f"{what} {name}" for what in ("begin", "end") for name in STEPS)


_COPY = """
import sys
from dbb.runs.transfers import Transfer, Transfers
source, target, count, md5sum, size = sys.argv[1:]
keys = [(f"raw/{number}.dat", "near") for number in range(int(count))]
transfers = Transfers({"home": source, "near": target}, 3)
transfers.add([Transfer(1, relpath, "home", "near", int(size), md5sum) for relpath, _ in keys])
transfers.wait(keys, lambda: False)
print(sorted(set(transfers.take(keys).values())))
"""


@pytest.mark.parametrize("away", [False, True], ids=["local", "web"])
def test_copies_that_are_killed_leave_whole_files_or_none(tmp_path: Path, away: bool) -> None:
    source, target = tmp_path / "home", tmp_path / "near"
    (source / "raw").mkdir(parents=True)
    content = random.Random(3).randbytes(256 << 10)
    for number in range(300):
        (source / f"raw/{number}.dat").write_bytes(content)
    md5sum, seed = hashlib.md5(content, usedforsecurity=False).hexdigest(), random.Random(11)
    with served(source) as (url, _):
        root = url if away else f"file://{source}"
        command = [sys.executable, "-c", _COPY, root, f"file://{target}", "300", md5sum, str(len(content))]
        killed = 0
        for _ in range(8):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            wait_for(lambda: any(target.rglob("copy")) or process.poll() is not None)  # noqa: B023  # called before the loop goes on
            time.sleep(seed.uniform(0, 0.15 if away else 0.03))
            if process.poll() is None:
                killed += 1
                process.kill()
            process.communicate()
            assert all(path.read_bytes() == content for path in (target / "raw").glob("*"))
        assert killed
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "['']\n"
    assert files(target) == {f"raw/{number}.dat" for number in range(300)}
    assert [path.name for path in target.iterdir()] == ["raw"]  # what the killed ones had in hand is swept


def test_a_full_target_is_a_problem_of_the_jobs_whose_inputs_have_no_room(runs: TwoArchives) -> None:
    (runs.home / RAW).write_bytes(b"r" * 3 * MB)
    runs.near.mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs "{runs.near}" || exit 77'
    script = f'{mount}; "{sys.executable}" -m dbb_cli submit submit.des --registry "{runs.url}"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=runs.folder, capture_output=True, text=True)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 3
    assert f"{RAW} (home): file://{runs.near}/{RAW}: No space left on device" in done.stderr
    assert runs.states()["seed"] == "blocked" or runs.states()["seed"] == "failed"
    # with room the same run goes on
    (runs.home / RAW).write_text("raw\n")
    runs.dbb("submit", "--resume", "U_r1p01")
    runs.check("U_r1p02")


def test_two_runs_that_need_one_file_share_its_copy(registry_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(registry_url, tmp_path)
    (runs.home / RAW).write_bytes(b"raw\n" * 4 * MB)
    both = [runs.start("submit.des", "--set", f"unitname={unit}") for unit in "VW"]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    assert runs.places("near") == runs.places("home") == {RAW, *outputs("V_r1p01"), *outputs("W_r1p01")}
    assert files(runs.near) == files(runs.home) == runs.places("near")
    assert runs.ask("select count(*) from desfile where filename = 'raw.txt'") == [(1,)]


def test_a_later_try_replaces_at_home_what_an_earlier_one_left(runs: TwoArchives) -> None:
    runs.change(("target_archive = near\n", "target_archive = near\nmaster_savefiles = failure\n"))
    mark = runs.folder / "tried"
    runs.order("part-1-1", f'[ -e "{mark}" ] || {{ touch "{mark}"; echo first > "$out"; exit 1; }}')
    runs.submit("--retries", "1")
    assert (runs.home / "U_r1p01/made/part-1-1.txt").read_text().split() == ["raw", "seed", "part-1-1"]
    runs.check()
    runs.dbb("verify", "--checksums", "--repair")


@pytest.fixture
def many(registry_url: str, tmp_path: Path) -> TwoArchives:
    runs = TwoArchives(registry_url, tmp_path)
    with Registry(runs.url) as registry:
        registry.ingest_table(
            [{"relpath": f"raw/{number}.dat"} for number in range(400)], filetype="genfile", archive="home"
        )
    return runs


def test_statements_do_not_grow_with_files(many: TwoArchives) -> None:
    counts = []
    with Registry(many.url) as registry:
        for start, number in ((0, 5), (5, 300)):
            places = [Place("home", f"raw/{one}.dat") for one in range(start, start + number)]
            with statements(registry) as sent:
                found = find_staged(registry, places, "near")
                register_copies(
                    registry, [Transfer(file.file, at.relpath, "home", "near") for at, file in found.items()]
                )
            assert len(found) == number
            counts.append(len(sent))
        with statements(registry) as sent:
            assert outputs_waiting(registry, 1, "near", "home", range(100)) == []
        counts.append(len(sent))
    assert counts[0] == counts[1]
    assert counts[2] <= 2
    assert len(many.places("near")) == 305


def test_a_file_without_checksum_is_copied_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/a").write_text("a")
    roots = {"home": f"file://{tmp_path}/home", "near": f"file://{tmp_path}/near"}
    assert copy_files(roots, [Transfer(1, "a", "home", "near"), Transfer(2, "b", "home", "near")]) == [
        "",
        f"{tmp_path}/home/b: No such file or directory",
    ]
    assert (tmp_path / "near/a").read_text() == "a"


def test_what_is_needed_first_is_copied_before_all_others(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    for number in range(300):
        (tmp_path / f"home/{number}").write_bytes(b"x" * 100_000)
    roots = {"home": f"file://{tmp_path}/home", "near": f"file://{tmp_path}/near"}
    transfers = Transfers(roots, 1)
    transfers.add([Transfer(number, str(number), "home", "near") for number in range(300)])
    last = Transfer(299, "299", "home", "near")
    transfers.add([last], first=True)
    transfers.wait([last.key], lambda: False)
    assert transfers.take([last.key]) == {last.key: ""}
    assert len(files(tmp_path / "near")) < 200
    transfers.stop()
