"""Contract tests for the hooks that jobs ask; `dbb.testing` gives them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dbb.jobs.jobfile import JobRepo
from dbb.jobs.messages import MessagePattern, MessageRules
from dbb.storage import SaveOutcome, SaveRequest, digest_file


class StageOutContract:
    """What everything that saves files in archives must do."""

    @pytest.fixture
    def stage_out(self) -> Callable[..., Sequence[SaveOutcome] | None]:
        """Return the plug-in's `dbb_stage_out`."""
        raise NotImplementedError

    @pytest.fixture
    def root(self) -> str:
        """Return the URL of an empty archive of your kind."""
        raise NotImplementedError

    @pytest.fixture
    def content(self) -> Callable[[str], bytes | None]:
        """Return what gives the bytes at a relpath of the archive, or None if there is nothing."""
        raise NotImplementedError

    def _request(self, root: str, relpath: str, source: Path, content: bytes, *replaces: str) -> SaveRequest:
        source.write_bytes(content)
        return SaveRequest(str(source), root, relpath, digest_file(source), frozenset(replaces))

    def test_files_arrive_and_the_sources_stay(
        self, stage_out: Callable[..., Any], root: str, content: Callable[[str], bytes | None], tmp_path: Path
    ) -> None:
        """Folders are made; outcomes come in the order of the requests."""
        requests = [self._request(root, f"r1/{name}", tmp_path / name, name.encode()) for name in ("a", "b")]
        outcomes = stage_out(requests=requests)
        assert [(outcome.request, outcome.made, outcome.error) for outcome in outcomes] == [
            (request, True, "") for request in requests
        ]
        assert (content("r1/a"), content("r1/b")) == (b"a", b"b")
        assert (tmp_path / "a").read_bytes() == b"a"

    def test_saving_again_is_harmless(
        self, stage_out: Callable[..., Any], root: str, content: Callable[[str], bytes | None], tmp_path: Path
    ) -> None:
        """The second time nothing is new."""
        request = self._request(root, "a", tmp_path / "a", b"a")
        stage_out(requests=[request])
        (outcome,) = stage_out(requests=[request])
        assert (outcome.made, outcome.error, content("a")) == (False, "", b"a")

    def test_other_bytes_under_the_name_are_left_alone_and_the_rest_is_saved(
        self, stage_out: Callable[..., Any], root: str, content: Callable[[str], bytes | None], tmp_path: Path
    ) -> None:
        """A failure is an outcome with its reason."""
        stage_out(requests=[self._request(root, "a", tmp_path / "a", b"first")])
        requests = [self._request(root, "a", tmp_path / "a", b"other"), self._request(root, "b", tmp_path / "b", b"b")]
        outcomes = stage_out(requests=requests)
        assert [bool(outcome.error) for outcome in outcomes] == [True, False]
        assert (content("a"), content("b")) == (b"first", b"b")

    def test_what_an_earlier_try_left_is_replaced(
        self, stage_out: Callable[..., Any], root: str, content: Callable[[str], bytes | None], tmp_path: Path
    ) -> None:
        """Its MD5 sum is in the request."""
        first = self._request(root, "a", tmp_path / "a", b"first")
        stage_out(requests=[first])
        (outcome,) = stage_out(requests=[self._request(root, "a", tmp_path / "a", b"second try", first.digest.md5sum)])
        assert (outcome.made, outcome.error, content("a")) == (True, "", b"second try")

    def test_a_source_that_is_gone_is_an_outcome_and_leaves_nothing(
        self, stage_out: Callable[..., Any], root: str, content: Callable[[str], bytes | None], tmp_path: Path
    ) -> None:
        """A place in the archive holds a whole file or none."""
        request = self._request(root, "a", tmp_path / "a", b"a")
        (tmp_path / "a").unlink()
        (outcome,) = stage_out(requests=[request])
        assert outcome.error
        assert content("a") is None

    def test_archives_of_another_kind_are_passed_on(self, stage_out: Callable[..., Any], tmp_path: Path) -> None:
        """Another plug-in may know them."""
        assert stage_out(requests=[self._request("unheard-of://a", "b", tmp_path / "b", b"b")]) is None


class PrepareStepContract:
    """What everything that makes the repositories of jobs must do."""

    @pytest.fixture
    def prepare(self) -> Callable[..., None]:
        """Return the plug-in's `dbb_prepare_step`."""
        raise NotImplementedError

    @pytest.fixture
    def repo(self) -> JobRepo:
        """Return a repository that can be made, in an empty work folder."""
        raise NotImplementedError

    def test_the_folder_is_there_and_stays_as_it_is(self, prepare: Callable[..., None], repo: JobRepo) -> None:
        """What a step wrote must be there for the next one."""
        prepare(step={"wrapnum": 1}, repo=repo)
        (repo.work / repo.folder / "written").write_text("by a step")
        before = sorted(repo.work.rglob("*"))
        prepare(step={"wrapnum": 2}, repo=repo)
        assert sorted(repo.work.rglob("*")) == before
        assert (repo.work / repo.folder / "written").read_text() == "by a step"


class MessagePatternsContract:
    """What every set of message patterns must be."""

    @pytest.fixture
    def patterns(self) -> Sequence[MessagePattern]:
        """Return what `dbb_message_patterns` returns."""
        raise NotImplementedError

    def test_patterns_can_be_used(self, patterns: Sequence[MessagePattern]) -> None:
        """Each is a regular expression with sensible values, and comes back from a job file."""
        MessageRules(patterns)
        assert [MessagePattern.from_dict(one.as_dict()) for one in patterns] == list(patterns)

    def test_patterns_have_numbers_of_their_own(self, patterns: Sequence[MessagePattern]) -> None:
        """Messages refer to them by number."""
        numbers = [one.id for one in patterns]
        assert len(set(numbers)) == len(numbers)

    def test_an_empty_line_is_no_message(self, patterns: Sequence[MessagePattern]) -> None:
        """Such a pattern would fit every line."""
        for one in patterns:
            assert MessageRules([one]).matcher([one.execname]).feed(b"\n") == [], one.pattern
