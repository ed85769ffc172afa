"""Inputs go from the home archive to one near the machines before jobs read them, and outputs from there home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from submitted_runs import wait_for
from two_archives import RAW, TwoArchives, files, outputs, served

from dbb import Registry


@pytest.fixture
def runs(sqlite_url: str, tmp_path: Path) -> TwoArchives:
    return TwoArchives(sqlite_url, tmp_path)


def job_file(runs: TwoArchives, run: str = "U_r1p01") -> Any:
    """Return the file of the first job."""
    return json.loads(min((runs.folder / run / "jobs").glob("*/job.json")).read_text())


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_inputs_are_staged_and_outputs_come_home(registry_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(registry_url, tmp_path)
    out = runs.submit("--jobs", "2")
    assert "U_r1p01: 4 of 4 jobs succeeded" in out
    runs.check()
    assert runs.places("near") == runs.places("home") == {RAW, *outputs()}
    job = job_file(runs)
    assert job["home"] == "near"
    assert job["steps"][0]["inputs"][0]["source"]["archive"] == "near"
    assert runs.ask("select distinct target_site from pfw_block") == [(None,)]
    assert "to_home" not in runs.dbb("status")
    assert "transfers" not in runs.dbb("report", "U_r1p01")


@pytest.mark.parametrize("when", ["block", "run"])
def test_outputs_come_home_after_each_block_or_the_run(sqlite_url: str, tmp_path: Path, when: str) -> None:
    runs = TwoArchives(sqlite_url, tmp_path, f"use_home_archive_output = {when}")
    # the last step runs when the blocks before it are over
    runs.order("total", f'sleep 2; ls -R "{tmp_path}/home" > "{tmp_path}/seen"')
    runs.submit()
    runs.check()
    seen = (tmp_path / "seen").read_text()
    assert ("seed.txt" in seen) == (when == "block")


def test_outputs_stay_near_if_home_does_not_want_them(sqlite_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(sqlite_url, tmp_path, "use_home_archive_output = never")
    runs.submit()
    assert files(runs.home) == runs.places("home") == {RAW}
    assert files(runs.near) == runs.places("near") == {RAW, *outputs()}
    assert "to_home" not in runs.dbb("status")


def test_outputs_may_go_home_at_once(sqlite_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(sqlite_url, tmp_path, "use_target_archive_output = never")
    runs.submit()
    assert runs.places("home") == {RAW, *outputs()}
    # what later jobs read was staged like any other input
    assert runs.places("near") == {RAW} | {path for path in outputs() if "/made/" in path and "total" not in path}
    runs.check()


def test_jobs_may_take_inputs_from_home_themselves(sqlite_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(sqlite_url, tmp_path, "use_home_archive_input = wrapper")
    runs.submit()
    assert runs.places("near") == outputs()
    assert job_file(runs)["steps"][0]["inputs"][0]["source"]["archive"] == "home"


def test_inputs_that_must_be_near_and_are_not_are_named(sqlite_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(sqlite_url, tmp_path, "use_home_archive_input = never")
    assert "raw.txt must be in archive near" in runs.submit(code=5)
    assert runs.ask("select count(*) from pfw_attempt") == [(0,)]


def test_a_copy_that_is_there_is_known_by_its_checksum(runs: TwoArchives) -> None:
    (runs.near / "raw").mkdir(parents=True)
    (runs.near / RAW).write_text("raw\n")
    before = inode(runs.near / RAW)
    runs.submit()
    runs.check()
    assert inode(runs.near / RAW) == before


def test_another_file_in_the_place_of_a_copy_is_left_and_named(runs: TwoArchives) -> None:
    (runs.near / "raw").mkdir(parents=True)
    (runs.near / RAW).write_text("war\n")
    out = runs.submit(code=3)
    assert "1 inputs cannot be copied to archive near" in out
    assert f"{runs.near / RAW} lies in the archive with other bytes" in out
    assert (runs.near / RAW).read_text() == "war\n"
    assert RAW not in runs.places("near")


def test_jobs_take_from_home_what_could_not_be_copied(sqlite_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(sqlite_url, tmp_path, "use_home_archive_input = all")
    (runs.near / "raw").mkdir(parents=True)
    (runs.near / RAW).write_text("war\n")
    runs.submit()
    assert runs.places("near") == outputs()
    assert job_file(runs)["steps"][0]["inputs"][0]["source"]["archive"] == "home"


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("ra")])
def test_a_copy_that_was_lost_or_cut_off_is_copied_again(runs: TwoArchives, spoil: Any) -> None:
    runs.dbb("verify", "--archive", "home", "--checksums", "--repair")
    runs.submit()
    spoil(runs.near / RAW)
    runs.submit()
    assert (runs.near / RAW).read_text() == "raw\n"
    runs.check("U_r1p02")


def test_a_spoilt_copy_of_the_right_size_is_found_by_verify(runs: TwoArchives) -> None:
    runs.dbb("verify", "--archive", "home", "--checksums", "--repair")
    runs.submit()
    (runs.near / RAW).write_text("war\n")
    found = runs.dbb("verify", "--archive", "near", "--checksums", code=1)
    assert "wrong checksum" in found
    assert RAW in found
    (runs.near / RAW).unlink()
    runs.submit()
    runs.dbb("verify", "--checksums")


def test_a_spoilt_output_does_not_come_home(sqlite_url: str, tmp_path: Path) -> None:
    runs = TwoArchives(sqlite_url, tmp_path, "use_home_archive_output = run")
    made = runs.near / "U_r1p01/made/part-1-1.txt"
    runs.order("total", f'cp "{made}" "{tmp_path}/good"; tr r R < "{tmp_path}/good" > "{made}"')
    out = runs.submit(code=3)
    assert "4 of 4 jobs succeeded" in out
    assert "1 outputs of U_r1p01 wait in archive near and are not in home" in out
    assert "is not, or no longer, the file that was registered" in out
    assert runs.places("home") == {RAW, *outputs()} - {"U_r1p01/made/part-1-1.txt"}
    assert '"to_home": 1' in runs.dbb("status", "U_r1p01", "--format", "json")
    assert "waiting" in runs.dbb("report", "U_r1p01")
    made.write_bytes((tmp_path / "good").read_bytes())
    assert "4 of 4 jobs succeeded" in runs.dbb("attend", "U_r1p01")
    runs.check()
    assert "is over" in runs.dbb("attend", "U_r1p01", code=4)


def test_outputs_wait_near_while_home_is_away(runs: TwoArchives) -> None:
    # home is away from when the last step begins
    runs.order("total", f'mv "{runs.home}" "{runs.home}.away"; touch "{runs.home}"')
    out = runs.submit(code=3)
    assert "4 of 4 jobs succeeded" in out
    assert "nothing can be written to the archive" in out
    assert "'dbb attend U_r1p01' tries again" in out
    runs.home.unlink()
    runs.home.with_name("home.away").rename(runs.home)
    assert "U_r1p01/made/total.txt" not in files(runs.home)
    runs.order("total", "")
    runs.dbb("submit", "--resume", "U_r1p01")  # as well as attend
    runs.check()
    assert runs.ask("select count(*) from desfile where filename = 'total.txt'") == [(1,)]


def test_inputs_come_from_a_web_server(runs: TwoArchives) -> None:
    with served(runs.home) as (url, asked), Registry(runs.url) as registry:
        registry.add_archive("web", url)
        with registry.engine.begin() as conn:
            conn.exec_driver_sql("update file_archive_info set archive_name = 'web'")
        runs.submit("--jobs", "2")
        assert asked[f"/{RAW}"] == 1
    assert runs.places("near") == files(runs.near) == {RAW, *outputs()}
    assert runs.places("home") == outputs()


def test_home_may_be_a_bucket(runs: TwoArchives, s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="custody")
    s3_client.upload_file(str(runs.home / RAW), "custody", f"home/{RAW}")
    runs.move_home("s3://custody/home")
    runs.submit("--jobs", "2")
    keys = {one["Key"] for one in s3_client.list_objects_v2(Bucket="custody")["Contents"]}
    assert keys == {f"home/{path}" for path in (RAW, *outputs())}
    assert runs.places("home") == runs.places("near") == files(runs.near) == {RAW, *outputs()}
    runs.dbb("verify", "--archive", "home", "--checksums")


def test_near_may_be_a_bucket(runs: TwoArchives, s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="near")
    with Registry(runs.url) as registry, registry.engine.begin() as conn:
        conn.exec_driver_sql("update ops_archive set root = 's3://near/by' where name = 'near'")
    runs.submit()
    keys = {one["Key"] for one in s3_client.list_objects_v2(Bucket="near")["Contents"]}
    assert keys == {f"by/{path}" for path in (RAW, *outputs())}
    assert files(runs.home) == runs.places("home") == {RAW, *outputs()}


def test_a_failed_transfer_is_a_problem_of_the_jobs_that_need_the_file(runs: TwoArchives) -> None:
    (runs.home / "raw/other.txt").write_text("other\n")
    with Registry(runs.url) as registry:
        registry.ingest_table([{"relpath": "raw/other.txt", "filesize": 6}], filetype="genfile", archive="home")
    (runs.home / "raw/other.txt").unlink()
    runs.change(
        ("    <file seed>", "    <file other>\n filename = other.txt\n dirpat = raw\n </file>\n    <file seed>"),
        ("used = file.seed\n", "used = file.seed, file.other\n"),
    )
    out = runs.submit(code=3)
    assert f"raw/other.txt (home): {runs.home / 'raw/other.txt'}: No such file or directory" in out
    assert runs.states()["seed"] == "succeeded"


def test_settings_that_contradict_each_other_are_refused(runs: TwoArchives) -> None:
    runs.change(("target_archive = near\n", "target_archive = near\nuse_home_archive_output = wrapper\n"))
    out = runs.dbb("check", "submit.des", code=2)
    assert "submit.des:6: error: use_home_archive_output = wrapper with a target archive" in out
    assert "use_home_archive_output = wrapper with a target archive" in runs.submit(code=2)
    runs.change(("use_home_archive_output = wrapper\n", ""), ("near\n", "nowhere\n"))
    assert "target_archive = nowhere: there is no such archive" in runs.submit(code=2)


@pytest.mark.parametrize(("pattern", "why"), [("(a+)+b", "may never end"), ("(v", "is no regular expression")])
def test_a_version_pattern_that_cannot_be_searched_for_is_refused(runs: TwoArchives, pattern: str, why: str) -> None:
    runs.change(("    <exec_1>\n", f"    <exec_1>\n        version_flag = -v\n        version_pattern = {pattern}\n"))
    assert why in runs.dbb("check", "submit.des", code=2)
    out = runs.submit(code=2)
    assert "version_pattern: " in out
    assert why in out


def test_blocks_say_where_they_run(runs: TwoArchives) -> None:
    runs.change(
        ("target_archive = near\n", "target_archive = near\ntarget_site = hill\n"),
        ("<block middle>\n", "<block middle>\n    target_site = dale\n"),
    )
    runs.submit()
    sites = runs.ask("select name, target_site from pfw_block order by blknum")
    assert sites == [("first", "hill"), ("middle", "dale"), ("last", "hill")]
    assert '"runsite": "hill"' in runs.dbb("status", "--format", "json")


def test_what_a_cancelled_run_made_stays_near(runs: TwoArchives) -> None:
    runs.order("total", "sleep 60")
    runs.change(("target_archive = near\n", "target_archive = near\nuse_home_archive_output = run\n"))
    submit = runs.start("submit.des")
    wait_for(lambda: "begin total" in runs.told)
    runs.dbb("cancel", "U_r1p01")
    submit.communicate(timeout=60)
    assert runs.places("home") == {RAW}
    assert "U_r1p01/made/seed.txt" in runs.places("near")
    assert '"to_home": 0' in runs.dbb("status", "U_r1p01", "--format", "json")
    assert "is over" in runs.dbb("attend", "U_r1p01", code=4)


def test_a_campaign_names_units_whose_outputs_wait_near(runs: TwoArchives) -> None:
    (runs.folder / "units.csv").write_text("unitname\nV\n")
    runs.order("total", f'mv "{runs.home}" "{runs.home}.away"; touch "{runs.home}"')
    out = runs.submit("--table", "units.csv", "--resubmit", "1", code=3)
    assert "V of request 1: its jobs succeeded, but " in out
    assert "'dbb attend V_r1p01' tries again" in out
    assert "0 of 1 units succeeded, 1 did not; 1 attempt\n" in out
