"""A campaign runs each row of a table as an attempt of its own, and goes on where it was broken off."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from batch_systems import PoolForTests
from campaigns import Campaigns
from registries import execute
from submitted_runs import descendants, is_alive, kill_all, wait_for

from dbb import Registry

_LONG = 100


@pytest.fixture
def campaign(registry_url: str, tmp_path: Path) -> Campaigns:
    return Campaigns(registry_url, tmp_path)


@pytest.fixture
def small(sqlite_url: str, tmp_path: Path) -> Campaigns:
    return Campaigns(sqlite_url, tmp_path)


def succeeded(*units: str, number: int = 1) -> list[tuple[str, int, str]]:
    return [(unit, number, "succeeded") for unit in units]


def test_each_row_is_an_attempt_with_its_own_folder_and_log(campaign: Campaigns) -> None:
    out = campaign.run("--at-once", "2")
    assert "units: 2 of 2 units succeeded; 2 attempts\n" in out
    assert "[2/2]" in out
    assert campaign.attempts() == succeeded("U1", "U2")
    assert sorted(path.name for path in (campaign.folder / "units").glob("U*")) == [
        *("U1_r7p01", "U1_r7p01.log", "U2_r7p01", "U2_r7p01.log"),
    ]
    assert campaign.ask("select reqnum, campaign from pfw_request") == [(7, "units")]
    assert "2 of 2 units succeeded; 0 attempts" in campaign.run()
    assert campaign.attempts() == succeeded("U1", "U2")


def test_so_many_attempts_run_at_once_and_never_more(sqlite_url: str, tmp_path: Path) -> None:
    campaign = Campaigns(sqlite_url, tmp_path, units=4)
    for number in range(1, 5):
        campaign.order(f"U{number}-a", f"until [ $(grep -c begin {campaign.folder}/told) -ge 3 ]; do sleep 0.1; done")
    campaign.run("--at-once", "3", "--jobs", "1")
    assert campaign.most_at_once() == 3


def test_a_unit_that_failed_is_resubmitted_and_resumes(campaign: Campaigns) -> None:
    campaign.order("U2-b", f"[ -f {campaign.folder}/twice ] || {{ touch {campaign.folder}/twice; exit 5; }}")
    out = campaign.run("--resubmit", "1")
    assert f"U2_r7p01_two_j0002: step 2: {campaign.folder}/make ended with exit status 5; to be resubmitted" in out
    assert "U2_r7p02: resumes U2_r7p01" in out
    assert campaign.attempts() == [
        *(("U1", 1, "succeeded"), ("U2", 1, "failed"), ("U2", 2, "succeeded")),
    ]
    assert campaign.told.count("begin U2-a") == 1


def test_a_unit_that_fails_ever_again_is_given_up(small: Campaigns) -> None:
    small.order("U2-a", "exit 5")
    out = small.run("--resubmit", "1", code=3)
    assert "1 of 2 units succeeded, 1 did not; 3 attempts" in out
    assert f"\nU2 of request 7: U2_r7p02_one_j0001: step 1: {small.folder}/make ended with exit status 5" in out
    assert [number for unit, number, _ in small.attempts() if unit == "U2"] == [1, 2]
    small.order("U2-a", "")
    assert "U2_r7p03: resumes U2_r7p02" in small.run()


def test_after_so_many_failures_nothing_more_is_begun_and_what_runs_ends(sqlite_url: str, tmp_path: Path) -> None:
    campaign = Campaigns(sqlite_url, tmp_path, units=5)
    for unit in ("U2", "U3", "U4", "U5"):
        campaign.order(f"{unit}-a", "exit 5")
    campaign.order("U1-a", f"until grep -q 'begin U3-a' {campaign.folder}/told; do sleep 0.1; done; sleep 1")
    out = campaign.run("--at-once", "2", "--stop-after", "2", code=3)
    assert "1 of 5 units succeeded, 2 did not, 2 were not begun; 3 attempts" in out
    assert campaign.attempts() == [("U1", 1, "succeeded"), ("U2", 1, "failed"), ("U3", 1, "failed")]


def test_all_wrong_rows_are_named_and_nothing_is_begun(small: Campaigns) -> None:
    small.table("name,reqnum,table", "U1,7,x", "U2,7,x", "U1,7,x", "U/4,7,x", "U5,seven,x", "U6,7,x")
    small.change(("filename = raw.txt", "filename = ${missing}.txt"))
    out = small.run(code=2)
    assert "units.csv: 6 of 6 rows cannot run, so nothing was begun" in out
    assert "rows 1-2, 6: " in out
    assert "row 3: unit U1 of request 7 is in row 1 already" in out
    assert "row 4: " in out
    assert "row 5: reqnum (a number) and unitname are needed" in out
    assert small.ask("select * from pfw_request") == []
    assert not (small.folder / "units").exists()


def test_units_that_make_the_same_file_are_refused(small: Campaigns) -> None:
    small.change(("ops = ${submit_run}/made", "ops = made"), ("b = ${unitname}-b.txt", "b = same.txt"))
    assert "row 2: row 1 makes made/same.txt too" in small.run(code=2)


def test_a_dry_run_tells_what_would_run(small: Campaigns) -> None:
    small.order("U2-b", "exit 5")
    small.table("name", "U1", "U2")
    small.run(code=3)
    small.table("name", "U1", "U2", "U3")
    out = small.run("--dry-run")
    assert "U1_r7p01: succeeded already\n" in out
    assert f"U2_r7p02: 2 jobs would run in {small.folder}/units/U2_r7p02, 1 quanta taken over\n" in out
    assert f"U3_r7p01: 2 jobs would run in {small.folder}/units/U3_r7p01\n" in out
    assert len(small.attempts()) == 2


def test_a_request_has_one_campaign(small: Campaigns) -> None:
    small.table("name,campaign", "U1,first")
    small.run()
    small.table("name", "U2")
    assert "row 1: request 7 belongs to campaign 'first', not 'units': choose another reqnum" in small.run(code=2)
    small.table("name,campaign", "U2,first", "U3,second")
    assert "row 2: request 7 belongs to campaign 'first', not 'second'" in small.run(code=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_campaign_ends_its_attempts_in_good_order(small: Campaigns, number: int) -> None:
    small.table("name", "U1", "U2", "U3")
    for unit in ("U1", "U2"):
        small.order(f"{unit}-b", f"echo $$ > {small.folder}/{unit}; sleep 60")
    submit = small.start("submit.des", "--table", "units.csv", "--at-once", "2")
    wait_for(lambda: all((small.folder / unit).exists() and (small.folder / unit).read_text() for unit in ("U1", "U2")))
    submit.send_signal(number)
    out, err = submit.communicate(timeout=_LONG)
    assert submit.returncode == 130, err
    assert "0 of 3 units succeeded, 2 did not, 1 were not begun; 2 attempts" in out
    assert not any(is_alive(int((small.folder / unit).read_text())) for unit in ("U1", "U2"))
    assert small.attempts() == [("U1", 1, "killed"), ("U2", 1, "killed")]
    small.order("U1-b", "")
    small.order("U2-b", "")
    small.table("name", "U1", "U2")
    small.run()
    assert small.told.count("begin U1-a") == small.told.count("begin U2-a") == 1


def test_a_campaign_that_was_killed_with_all_that_it_began_is_done_again(campaign: Campaigns) -> None:
    campaign.order("U2-b", "sleep 60")
    submit = campaign.start("submit.des", "--table", "units.csv")
    campaign.wait_until_told("begin U2-b")
    kill_all(submit)
    campaign.order("U2-b", "")
    out = campaign.run()
    assert "U2_r7p02: resumes U2_r7p01" in out
    assert "2 of 2 units succeeded; 1 attempt" in out
    assert campaign.told.count("begin U1-a") == campaign.told.count("begin U2-a") == 1
    assert campaign.ask("select count(*) from task where state in ('ready', 'unready', 'running')") == [(0,)]


def test_attempts_outlive_a_campaign_that_was_killed_and_the_next_one_waits_for_them(small: Campaigns) -> None:
    small.order("U1-b", f"until [ -f {small.folder}/go ]; do sleep 0.1; done")
    submit = small.start("submit.des", "--table", "units.csv")
    small.wait_until_told("begin U1-b")
    submit.kill()
    submit.communicate()
    again = small.start("submit.des", "--table", "units.csv")
    assert again.stderr is not None
    assert "U1_r7p01: waits for its end: 'dbb submit' still runs U1_r7p01" in again.stderr.readline()
    (small.folder / "go").touch()
    out, err = again.communicate(timeout=_LONG)
    assert "2 of 2 units succeeded; 1 attempt" in out, err
    assert small.attempts() == succeeded("U1", "U2")
    assert small.most_at_once() == 1


def test_an_attempt_that_was_killed_is_resumed_once_its_jobs_are_over(small: Campaigns) -> None:
    small.order("U1-a", f"until [ -f {small.folder}/go ]; do sleep 0.1; done")
    submit = small.start("submit.des", "--table", "units.csv", "--resubmit", "1")
    small.wait_until_told("begin U1-a")
    (attempt,) = [pid for pid in descendants(submit.pid) if "dbb_cli\0submit" in _command(pid)]
    os.kill(attempt, signal.SIGKILL)
    (small.folder / "go").touch()
    out, err = submit.communicate(timeout=_LONG)
    assert submit.returncode == 0, out + err
    assert small.attempts()[1:] == [("U1", 2, "succeeded"), ("U2", 1, "succeeded")]
    assert small.told.count("begin U1-a") == small.most_at_once() == 1


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_two_campaigns_do_not_share_a_folder(small: Campaigns) -> None:
    small.order("U1-a", "sleep 60")
    submit = small.start("submit.des", "--table", "units.csv")
    small.wait_until_told("begin U1-a")
    assert "a campaign runs in" in small.run(code=4)
    kill_all(submit)


def test_a_registry_that_is_away_is_waited_for(small: Campaigns) -> None:
    small.order("U1-a", f"until [ -f {small.folder}/go ]; do sleep 0.1; done")
    submit = small.start("submit.des", "--table", "units.csv", "--resubmit", "1")
    small.wait_until_told("begin U1-a")
    with Registry(small.url) as registry:
        execute(registry, "alter table pfw_attempt_val rename to elsewhere")
        (attempt,) = [pid for pid in descendants(submit.pid) if "dbb_cli\0submit" in _command(pid)]
        os.kill(attempt, signal.SIGKILL)
        assert submit.stderr is not None
        assert "begun" in submit.stderr.readline()
        assert "waiting: the registry refused: " in submit.stderr.readline()
        execute(registry, "alter table elsewhere rename to pfw_attempt_val")
    (small.folder / "go").touch()
    out, err = submit.communicate(timeout=_LONG)
    assert submit.returncode == 0, out + err
    assert small.told.count("begin U1-a") == 1


@pytest.mark.long
@pytest.mark.timeout(300)
def test_runs_in_a_batch_system_outlive_all_that_watched_them_and_are_waited_for(
    small: Campaigns, in_pool: PoolForTests
) -> None:
    small.order("U1-b", f"until [ -f {small.folder}/go ]; do sleep 0.1; done")
    words = ("submit.des", "--table", "units.csv", "--engine", "htcondor")
    submit = small.start(*words)
    wait_for(lambda: "begin U1-b" in small.told, 120)
    kill_all(submit)
    again = small.start(*words)
    assert again.stderr is not None
    assert "U1_r7p01: waits for its end: " in again.stderr.readline()
    (small.folder / "go").touch()
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, out + err
    assert small.attempts() == succeeded("U1", "U2")
    assert all(small.told.count(f"begin {unit}-{name}") == 1 for unit in ("U1", "U2") for name in "ab")
