"""Contracts of the hooks that find and group the inputs of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from dbb.pipeline.inputs import make_lines
from dbb.pipeline.model import Pipeline
from dbb.pipeline.scope import Scope
from dbb.pipeline.section import Section

if TYPE_CHECKING:
    from dbb.api import Registry


class QueryInputsContract:
    """What everything that answers ``query = NAME`` must do."""

    @pytest.fixture
    def query_inputs(self) -> Callable[..., Sequence[Mapping[str, object]] | None]:
        """Return the plug-in's `dbb_query_inputs`."""
        raise NotImplementedError

    @pytest.fixture
    def asked(self) -> tuple[str, Mapping[str, str]]:
        """Return the name of a query and arguments with which it finds files."""
        raise NotImplementedError

    @pytest.fixture
    def registry(self) -> Registry | None:
        """Return the registry that the query asks, or None if it asks none."""
        return None

    def test_every_row_becomes_a_line(
        self, query_inputs: Callable[..., Any], asked: tuple[str, Mapping[str, str]], registry: Registry | None
    ) -> None:
        """Files by nickname, or the keys of one file, each with a name."""
        name, args = asked
        rows = query_inputs(name=name, args=args, registry=registry)
        assert isinstance(rows, Sequence)
        assert rows
        section = Section("list", "module", "inputs", {}, Scope({}), Pipeline({}))
        lines = make_lines(section, [(f"row {number}", row) for number, row in enumerate(rows, 1)], section.error)
        assert len(lines) == len(rows)

    def test_the_same_question_has_the_same_answer(
        self, query_inputs: Callable[..., Any], asked: tuple[str, Mapping[str, str]], registry: Registry | None
    ) -> None:
        """Rows come in one order, so that a plan can be made again."""
        name, args = asked
        first, second = (query_inputs(name=name, args=args, registry=registry) for _ in range(2))
        assert list(first) == list(second)

    def test_other_queries_are_passed_on(self, query_inputs: Callable[..., Any]) -> None:
        """Another plug-in may know them."""
        assert query_inputs(name="a query that nobody has", args={"folder": "."}, registry=None) is None


class GroupInputsContract:
    """What everything that answers ``group_by = NAME`` must do."""

    @pytest.fixture
    def group_inputs(self) -> Callable[..., Mapping[str, Sequence[int]] | None]:
        """Return the plug-in's `dbb_group_inputs`."""
        raise NotImplementedError

    @pytest.fixture
    def asked(self) -> tuple[str, Sequence[Mapping[str, Mapping[str, str]]], Sequence[str]]:
        """Return the name of a grouping, lines that it can group, and keys."""
        raise NotImplementedError

    def test_groups_hold_indexes_of_lines_in_order(
        self,
        group_inputs: Callable[..., Any],
        asked: tuple[str, Sequence[Mapping[str, Mapping[str, str]]], Sequence[str]],
    ) -> None:
        """At least one group, and none of them empty."""
        name, rows, keys = asked
        groups = group_inputs(name=name, rows=rows, keys=keys)
        assert groups
        for group, members in groups.items():
            assert members, group
            assert list(members) == sorted(set(members)), group
            assert set(members) <= set(range(len(rows))), group

    def test_the_same_lines_have_the_same_groups_in_the_same_order(
        self,
        group_inputs: Callable[..., Any],
        asked: tuple[str, Sequence[Mapping[str, Mapping[str, str]]], Sequence[str]],
    ) -> None:
        """Quanta are numbered by them."""
        name, rows, keys = asked
        first, second = (group_inputs(name=name, rows=rows, keys=keys) for _ in range(2))
        assert list(first.items()) == list(second.items())

    def test_other_groupings_are_passed_on(self, group_inputs: Callable[..., Any]) -> None:
        """Another plug-in may know them."""
        assert group_inputs(name="a grouping that nobody has", rows=[], keys=[]) is None
