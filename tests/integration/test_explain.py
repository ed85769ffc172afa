"""How the database answers a question, what is warned of, and that its statistics follow the registry's growth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner
from registries import execute, rows, small_registry

from dbb import Registry
from dbb.errors import NotFoundError, ParseError
from dbb.registry.explain import Explanation, explain_files
from dbb.registry.prepared import prepare_files
from dbb.registry.select import FileQuery
from dbb_cli.main import cli

RUN = "Ht0_r11p95"


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """A registry with 900 calexps of one visit: too few for statistics."""
    with small_registry(registry_url, "calexp", "hsc_raw") as opened:
        opened.add_archive("home", "/data/home")
        add(opened, "a")
        yield opened


def add(registry: Registry, folder: str) -> None:
    files = [{"relpath": f"{folder}/{folder}{ccd}.fits", "visit": 7, "ccd": ccd} for ccd in range(900)]
    registry.ingest_table(files, filetype="calexp", archive="home", run=RUN)


def explained(registry: Registry, where: str | None, *, limited: bool = False, big: int = 100) -> Explanation:
    """Explain as if much less were much, with statistics as they should be."""
    execute(registry, "ANALYZE")
    with registry.read() as conn:
        prepared = prepare_files(registry, conn, FileQuery("calexp", where))
        return explain_files(conn, prepared, ["visit", "ccd"], limited=limited, big=big)


def steps_at(explanation: Explanation, table: str) -> list[tuple[str, str | None]]:
    return [(step.does, step.by) for step in explanation.steps if step.table == table]


def test_a_look_up_by_the_data_id_is_warned_of_in_no_way(registry: Registry) -> None:
    execute(registry, "UPDATE calexp SET visit = ccd")
    found = explained(registry, "visit = 7")
    assert found.warnings == ()
    [(does, by)] = steps_at(found, "calexp")
    assert (does, by is not None and "ix_calexp_keys" in by) == ("looks up", True)


@pytest.mark.parametrize("where", ["filter = 'HSC-R'", "filter = 'HSC-R' OR visit = 7", None])
def test_reading_all_of_a_big_table_is_warned_of_with_the_key_to_ask_for(registry: Registry, where: str | None) -> None:
    found = explained(registry, where)
    assert any(
        "reads all of calexp, 900 rows: a condition on visit (=, IN, <, >)" in warning for warning in found.warnings
    )


def test_a_small_table_may_be_read_as_a_whole(registry: Registry) -> None:
    assert explained(registry, "filter = 'HSC-R'", big=901).warnings == ()


def test_only_the_first_files_in_the_order_of_an_index_are_not_warned_of(sqlite_url: str) -> None:
    with small_registry(sqlite_url, "calexp", "hsc_raw") as registry:
        registry.add_archive("home", "/data/home")
        add(registry, "a")
        assert explained(registry, None, limited=True).warnings == ()


def test_a_pattern_of_paths_is_warned_of(registry: Registry) -> None:
    found = explained(registry, "relpath GLOB 'a/a1*'")
    assert any("reads all of file_archive_info" in one and "filename" in one for one in found.warnings)


QUESTIONS: list[dict[str, Any]] = [
    {"where": "visit = 7 AND ccd IN (1..200)"},
    {"ids": ["visit=7 ccd=1^2"]},
    {"where": "visit = 7", "runs": [RUN], "limit": 3},
    {"order_by": ["-filesize"], "limit": 3},
    {"where": "tag = 'X' OR relpath GLOB '*7*'", "order_by": ["relpath"]},
]


@pytest.mark.parametrize("asked", QUESTIONS, ids=str)
def test_every_question_can_be_explained_and_is_not_answered(registry: Registry, asked: dict[str, Any]) -> None:
    found = registry.explain("calexp", **asked)
    assert found.sql.startswith("SELECT desfile.id")
    assert {"calexp", "desfile", "file_archive_info"} <= {step.table for step in found.steps}


def test_what_is_wrong_with_a_question_is_told_as_by_the_query(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="unknown name 'cdc'"):
        registry.explain("calexp", where="cdc = 1")
    with pytest.raises(ParseError):
        registry.explain("calexp", where="ccd ==")


def test_the_command_shows_sql_steps_and_warnings(sqlite_url: str) -> None:
    with small_registry(sqlite_url, "calexp", "hsc_raw") as registry:
        registry.add_archive("home", "/data/home")
        add(registry, "a")
        execute(registry, "ANALYZE")
        # as if there were many more
        execute(registry, "UPDATE sqlite_stat1 SET stat = '900000 ' || substr(stat, 5) WHERE stat LIKE '900 %'")
    words = ["--registry", sqlite_url, "explain", "calexp", "--where", "filter = 'HSC-R'", "--columns", "visit"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0
    assert "FROM calexp JOIN desfile" in done.stdout
    assert "\nreads all  calexp" in done.stdout
    assert done.stderr.startswith("warning: reads all of calexp, 900000 rows: a condition on visit")
    whole = json.loads(CliRunner().invoke(cli, [*words, "--format", "json"]).stdout)
    assert list(whole) == ["sql", "parameters", "steps", "warnings"]
    assert whole["parameters"] == [0, "HSC-R"]
    assert whole["steps"][0] == {"does": "reads all", "table": "calexp", "by": "ix_calexp_keys", "rows": 900000}


def test_a_plan_that_is_bad_without_statistics_becomes_good_as_the_registry_grows(registry: Registry) -> None:
    # all files are of one visit, which the database cannot know; a name picks out one
    where = "visit = 7 AND filename = 'a5.fits'"
    [(_, by)] = steps_at(registry.explain("calexp", where=where), "calexp")
    assert by is not None
    assert "visit" in by
    add(registry, "b")
    [(_, by)] = steps_at(registry.explain("calexp", where=where), "calexp")
    assert by is not None
    assert "visit" not in by


def test_statistics_are_made_again_only_when_there_is_reason(registry: Registry) -> None:
    def known() -> int:
        if registry.dialect == "sqlite":
            return int(
                rows(registry, "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = 'desfile'")[0][0]
            )
        return int(rows(registry, "SELECT reltuples FROM pg_class WHERE relname = 'desfile'")[0][0])

    sizes = []
    for folder in "bcdefgh":
        add(registry, folder)
        sizes.append(known())
    # with 1800, 3600 and 7200 files; SQLite estimates
    assert [one == other for one, other in pairwise(sizes)] == [True, False, True, True, True, False]
