"""The files that DAGMan works from: read back, no pool needed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.engine import EngineJob
from dbb.errors import UsageError
from dbb_plugins.htcondor.dag import Rendered, arguments, render
from dbb_plugins.htcondor.nodelog import NodeLog
from dbb_plugins.htcondor.settings import CondorSettings, read_settings

JOBS = (
    EngineJob("U_r1p01_a_j0001", (), {"request_memory": "100", "priority": "5"}, ("warp",)),
    EngineJob("U_r1p01_a_j0002", (), {"request_memory": "100", "priority": "5"}, ("warp",)),
    EngineJob("U_r1p01_b_j0003", ("U_r1p01_a_j0001", "U_r1p01_a_j0002"), {"request_cpus": "4"}, ("coadd", "measure")),
)


@dataclass(frozen=True)
class Run:
    """A run as the engine sees it before it starts."""

    jobs: Sequence[EngineJob] = JOBS
    folder: Path = Path("/runs/my $HOME 'x'/U_r1p01")
    settings: Mapping[str, str] = field(default_factory=lambda: {"project": 'A "B"', "campaign": "Y6"})
    run: str = "U_r1p01"
    registry: str = "postgresql://me:it's secret@host/db"
    at_once: int = 7
    retries: int = 2
    is_cancelled: bool = False

    def command(self, job: Path) -> Sequence[str]:
        return ["/usr/bin/python3", "-m", "dbb_cli", "run-job", str(job)]

    def attendant(self) -> Sequence[str]:
        return ["/usr/bin/python3", "-m", "dbb_cli", "attend", self.run]

    def prepare(self, name: str) -> Path | None:
        raise NotImplementedError

    def collect(self, names: Sequence[str]) -> None:
        raise NotImplementedError

    def ended(self, name: str, problem: str = "") -> None:
        raise NotImplementedError

    def ended_together(self, problems: Mapping[str, str]) -> None:
        raise NotImplementedError

    def is_over(self, name: str) -> bool:
        raise NotImplementedError


def rendered(run: Run | None = None, **settings: str) -> Rendered:
    return render(run or Run(), read_settings(settings), (), ("U_r1p01_a_j0001", "U_r1p01_a_j0002"))


def statements(files: Rendered) -> dict[str, list[list[str]]]:
    """Return the words of each kind of statement in the DAG."""
    found: dict[str, list[list[str]]] = {}
    for line in files.texts[files.dag].splitlines():
        if not line.startswith("#"):
            word, *words = line.split()
            found.setdefault(word, []).append(words)
    return found


def commands(text: str) -> dict[str, str]:
    """Return what a submit file says."""
    *lines, last = text.splitlines()
    assert last == "queue"
    return dict(line.split(" = ", 1) for line in lines)


def test_each_job_is_a_node_after_those_it_waits_for() -> None:
    said = statements(rendered())
    assert [words[0] for words in said["JOB"]] == [job.name for job in JOBS]
    assert said["PARENT"] == [["U_r1p01_a_j0001", "U_r1p01_a_j0002", "CHILD", "U_r1p01_b_j0003"]]


def test_a_failed_node_is_tried_again_as_often_as_told() -> None:
    assert statements(rendered())["RETRY"] == [[job.name, "2"] for job in JOBS]
    assert "RETRY" not in statements(rendered(Run(retries=0)))


def test_only_nodes_whose_job_file_is_not_there_are_looked_after_before_they_start() -> None:
    said = statements(rendered())
    assert [words for words in said["SCRIPT"] if words[0] == "PRE"] == [["PRE", "U_r1p01_b_j0003", "pre.sh", "$JOB"]]
    assert said["PRE_SKIP"] == [["U_r1p01_b_j0003", "85"]]


def test_every_node_reports_its_end() -> None:
    posts = [words for words in statements(rendered())["SCRIPT"] if words[0] == "POST"]
    assert posts == [["POST", job.name, "post.sh", "$JOB", "$RETURN", "$RETRY", "$MAX_RETRIES"] for job in JOBS]


def test_jobs_keep_their_priority() -> None:
    assert statements(rendered())["PRIORITY"] == [["U_r1p01_a_j0001", "5"], ["U_r1p01_a_j0002", "5"]]


def test_dagman_starts_no_more_at_once_than_may() -> None:
    assert "DAGMAN_MAX_JOBS_SUBMITTED = 7\n" in rendered().texts["dagman.config"]


def test_jobs_of_one_kind_share_a_submit_file() -> None:
    files = rendered()
    assert [words[1] for words in statements(files)["JOB"]] == ["warp.sub", "warp.sub", "coadd+measure.sub"]


def test_jobs_of_the_same_modules_that_ask_for_other_things_have_files_of_their_own() -> None:
    jobs = [EngineJob(f"j{memory}", (), {"request_memory": str(memory)}, ("warp",)) for memory in (100, 200)]
    files = rendered(Run(jobs=jobs))
    assert [words[1] for words in statements(files)["JOB"]] == ["warp.sub", "warp-2.sub"]
    assert commands(files.texts["warp-2.sub"])["request_memory"] == "200"


def test_a_submit_file_asks_for_what_the_pipeline_does() -> None:
    assert commands(rendered().texts["coadd+measure.sub"])["request_cpus"] == "4"


def test_memory_grows_with_each_try() -> None:
    jobs = [EngineJob("j1", (), {"request_memory": "100", "request_memory_growth": "1.5"}, ("warp",))]
    said = commands(rendered(Run(jobs=jobs)).texts["warp.sub"])
    assert (said["dbb_memory"], said["request_memory"]) == ("100 * pow(1.5, $(RETRY))", "$INT(dbb_memory)")
    assert "request_memory_growth" not in said


@pytest.mark.parametrize("growth", ["0.5", "a lot", "-2", "1e9", "101", ""])
def test_a_growth_of_memory_that_makes_no_sense_is_refused(growth: str) -> None:
    jobs = [EngineJob("j1", (), {"request_memory": "100", "request_memory_growth": growth}, ("warp",))]
    with pytest.raises(UsageError, match="request_memory_growth"):
        rendered(Run(jobs=jobs))


def test_ads_of_jobs_and_of_dagman_name_the_run() -> None:
    files = rendered()
    said = commands(files.texts["warp.sub"])
    assert said["My.dbb_run"] == '"U_r1p01"'
    assert said["My.dbb_project"] == r'"A \"B\""'
    assert (said["My.dbb_job"], said["My.dbb_module"]) == ('"$(JOB)"', '"warp"')
    assert ["dbb_run", "=", '"U_r1p01"'] in statements(files)["SET_JOB_ATTR"]


def test_commands_of_the_operator_win() -> None:
    said = commands(rendered(condor_accounting_group="lsst.prod", condor_getenv="PATH, AWS_*").texts["warp.sub"])
    assert (said["accounting_group"], said["getenv"]) == ("lsst.prod", "PATH, AWS_*")


@pytest.mark.parametrize(
    ("name", "value"), [("condor_file_transfer", "perhaps"), ("condor_requirements", "true\nqueue 1000")]
)
def test_unusable_settings_are_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        read_settings({name: value})


def test_a_folder_with_blanks_quotes_and_dollars_reaches_the_job() -> None:
    said = commands(rendered().texts["warp.sub"])
    assert said["initialdir"] == "/runs/my $(DOLLAR)HOME 'x'/U_r1p01/jobs/$(JOB)"
    folder = "'/runs/my $(DOLLAR)HOME ''x''/U_r1p01/jobs/$(JOB)/job.json'"
    assert said["arguments"] == f'"-m dbb_cli run-job {folder}"'


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=6), max_size=4))
def test_arguments_read_back_as_they_were(words: list[str]) -> None:
    text = arguments(words)
    assert text[0] == text[-1] == '"'
    inner = text[1:-1].replace('""', "\0")
    assert '"' not in inner
    found = re.findall(r"(?:'(?:[^']|'')*'|[^\s'])+", inner.replace("\0", '"'))
    assert [re.sub(r"'((?:[^']|'')*)'", lambda one: one[1].replace("''", "'"), word) for word in found] == words


def test_only_its_owner_can_read_where_the_registry_is() -> None:
    files = rendered()
    assert [name for name, text in files.texts.items() if "secret" in text] == ["attend.sh"]
    assert "attend.sh" in files.programs
    assert f"DBB_REGISTRY={shlex.quote(Run().registry)}\n" in files.texts["attend.sh"]


def test_what_need_not_run_is_done_in_a_rescue_file() -> None:
    files = render(Run(), CondorSettings(), ("U_r1p01_a_j0001",), ("U_r1p01_a_j0002",))
    assert files.texts["U_r1p01.dag.rescue001"] == "DONE U_r1p01_a_j0001\n"


def test_rendering_twice_gives_the_same_bytes() -> None:
    assert rendered() == rendered()


_LOG = """000 (002.000.000) 2026-11-24 17:56:18 Job submitted from host: <127.0.0.1:9728>
    DAG Node: A
...
000 (003.000.000) 2026-11-24 17:56:18 Job submitted from host: <127.0.0.1:9728>
    DAG Node: B
...
001 (002.000.000) 2026-11-24 17:56:19 Job executing on host: <127.0.0.1:9728>
...
001 (003.000.000) 2026-11-24 17:56:19 Job executing on host: <127.0.0.1:9728>
...
"""
_END = """005 (002.000.000) 2026-11-24 17:56:19 Job terminated.
\t(1) Normal termination (return value 0)
...
005 (003.000.000) 2026-11-24 17:56:19 Job terminated.
\t(1) Normal termination (return value 1)
...
"""


def test_the_log_of_the_nodes_tells_which_jobs_run(tmp_path: Path) -> None:
    path = tmp_path / "nodes.log"
    log = NodeLog(path)
    assert log.running() == []
    path.write_text(_LOG)
    assert log.running() == ["A", "B"]
    path.write_text(_LOG + _END)
    assert (log.running(), log.succeeded) == ([], {"A"})


@given(st.integers(0, len(_LOG + _END)))
def test_a_log_is_read_however_far_it_is_written(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("log") / "nodes.log"
    log = NodeLog(path)
    path.write_text((_LOG + _END)[:length])
    log.running()
    path.write_text(_LOG + _END)
    assert (log.running(), log.succeeded) == ([], {"A"})
