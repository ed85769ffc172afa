"""A registry of another schema version is refused with what to do; an older one is migrated whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from registries import contents, execute, rows, small_registry

from dbb import Registry, __version__
from dbb.errors import NotFoundError, SchemaVersionError
from dbb.registry import migrate as module
from dbb.registry._tables import SCHEMA_VERSION
from dbb.registry.migrate import migrate


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """A registry with a file, left open so that its schema version can be changed behind dbb's back."""
    with small_registry(registry_url, "calexp") as opened:
        opened.add_archive("home", "/data/home")
        row = {"relpath": "1.fits", "visit": 1, "ccd": 16}
        opened.ingest_table([row], filetype="calexp", archive="home", run="Ht0_r1p1")
        yield opened


def set_version(registry: Registry, version: int, dbb: str = __version__) -> None:
    execute(registry, f"update dbb_schema set version = {version}, dbb = '{dbb}'")


def test_a_newer_registry_is_refused_with_the_version_needed(registry: Registry) -> None:
    set_version(registry, SCHEMA_VERSION + 1, "99.5")
    with pytest.raises(
        SchemaVersionError, match=rf"has schema {SCHEMA_VERSION + 1}, .*: use dbb 99\.5 or newer"
    ) as caught:
        Registry(registry.url)
    assert caught.value.exit_code == 6
    before = contents(registry)
    with pytest.raises(SchemaVersionError, match="newer than") as caught:
        migrate(registry.url)
    assert caught.value.exit_code == 6
    assert contents(registry) == before


def test_an_older_registry_is_refused_with_the_command_that_helps(registry: Registry) -> None:
    set_version(registry, SCHEMA_VERSION - 1)
    with pytest.raises(SchemaVersionError, match="run 'dbb migrate' on it") as caught:
        Registry(registry.url)
    assert caught.value.exit_code == 6


def test_a_registry_of_this_version_needs_no_migration(registry: Registry) -> None:
    before = contents(registry)
    assert migrate(registry.url) == (SCHEMA_VERSION, SCHEMA_VERSION)
    assert contents(registry) == before


def test_an_older_registry_is_brought_up_to_date_step_by_step(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SCHEMA_VERSION - 2
    for version in (first, first + 1):
        statement = sa.text(f"insert into visit_tag (tag, visit) values ('step', {100 + version})")
        monkeypatch.setitem(module.STEPS, version, lambda conn, statement=statement: conn.execute(statement))
    set_version(registry, first, "0.0.1")
    before = contents(registry)
    assert migrate(registry.url, dry_run=True) == (first, SCHEMA_VERSION)
    assert contents(registry) == before
    assert migrate(registry.url) == (first, SCHEMA_VERSION)
    assert rows(registry, "select visit from visit_tag order by visit") == [(100 + first,), (101 + first,)]
    assert rows(registry, "select version, dbb from dbb_schema") == [(SCHEMA_VERSION, __version__)]
    with Registry(registry.url) as again:
        assert [record.relpath for record in again.query("calexp")] == ["1.fits"]


def test_a_migration_that_fails_leaves_the_registry_as_it_was(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(conn: sa.Connection) -> None:
        conn.execute(sa.text("create table half_done (x integer)"))
        conn.execute(sa.text("insert into visit_tag (tag, visit) values ('half', 1)"))
        raise KeyError("step")

    monkeypatch.setitem(module.STEPS, SCHEMA_VERSION - 1, fails)
    set_version(registry, SCHEMA_VERSION - 1)
    before = contents(registry)
    with pytest.raises(KeyError, match="step"):
        migrate(registry.url)
    assert contents(registry) == before


def test_a_registry_too_old_for_any_step_is_refused(registry: Registry) -> None:
    set_version(registry, -5)
    before = contents(registry)
    with pytest.raises(SchemaVersionError, match=r"no migration from schema -5 is known"):
        migrate(registry.url)
    assert contents(registry) == before


def test_there_is_nothing_to_migrate_where_no_registry_is(registry_url: str) -> None:
    with pytest.raises(NotFoundError, match="unknown registry"):
        migrate(registry_url)
