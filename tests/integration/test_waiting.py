"""Who cannot write at once waits, is told of it, and gives up in the end with everything unchanged."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest
import sqlalchemy as sa
from registries import contents, small_registry

from dbb import Registry
from dbb.errors import DbbError
from dbb.registry import _turns


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    with small_registry(registry_url, "calexp") as opened:
        yield opened


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Registry]:
    with small_registry(postgres_url, "calexp") as opened:
        yield opened


def add_archive(registry: Registry) -> None:
    registry.add_archive("home", "/data/home")


@contextmanager
def somebody_writes(registry: Registry) -> Iterator[Callable[[], None]]:
    """Hold the turn of a writer, as a program of its own does, until what is given is called."""
    if registry.dialect == "sqlite":
        with closing(sqlite3.connect(registry.engine.url.database or "", check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield lambda: other.rollback()
        return
    with psycopg.connect(plain(registry.url)) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_turns._WRITERS])
        yield connection.rollback


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


def test_a_writer_waits_for_another(registry: Registry) -> None:
    with somebody_writes(registry) as stop:
        writer = threading.Thread(target=add_archive, args=(registry,))
        writer.start()
        time.sleep(0.3)
        assert writer.is_alive()
        assert contents(registry)["ops_archive"] == []
        stop()
        writer.join(60)
    assert len(contents(registry)["ops_archive"]) == 1


def test_who_waits_too_long_is_told_and_changes_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_turns, "PATIENCE", 1)
    monkeypatch.setattr(_turns, "_SILENCE", 0.5)
    with (
        caplog.at_level(logging.WARNING),
        somebody_writes(registry),
        pytest.raises(DbbError, match=r"has been busy for \d s, so nothing was written \(.*\): find out which program"),
    ):
        add_archive(registry)
    assert "writing to the registry" in caplog.text or "has been busy" in caplog.text
    assert contents(registry)["ops_archive"] == []
    add_archive(registry)


@pytest.mark.parametrize("state", ["40001", "40P01", "23505", "57P01", "gone"])
def test_what_passes_by_itself_is_tried_again(postgres: Registry, state: str) -> None:
    tries = []

    def work(conn: sa.Connection) -> int:
        tries.append(conn)
        conn.exec_driver_sql("INSERT INTO visit_tag VALUES ('deep', 1)")
        if len(tries) == 1 and state == "gone":
            conn.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        if len(tries) == 1:
            conn.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
        return len(tries)

    assert postgres.write(work) == 2
    assert contents(postgres)["visit_tag"] == [("deep", 1)]


def test_a_collision_that_does_not_pass_is_an_error(postgres: Registry) -> None:
    tries = []

    def work(conn: sa.Connection) -> None:
        tries.append(conn)
        conn.exec_driver_sql("INSERT INTO visit_tag VALUES ('deep', 1), ('deep', 1)")

    with pytest.raises(DbbError, match="the registry refused: UniqueViolation"):
        postgres.write(work)
    assert len(tries) == 5


def test_a_server_without_a_connection_to_spare_is_waited_for(postgres: Registry) -> None:
    postgres.close()
    with ExitStack() as stack:
        others = [stack.enter_context(one) for one in every_connection(postgres.url)]
        reader = threading.Thread(target=contents, args=(postgres,))
        reader.start()
        time.sleep(0.3)
        assert reader.is_alive()
        others.pop().close()
        reader.join(60)
        assert not reader.is_alive()


def test_one_that_has_none_for_long_is_an_error_that_says_what_to_do(
    postgres: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.close()
    monkeypatch.setattr(_turns, "CONNECTION_PATIENCE", 0.2)
    with ExitStack() as stack:
        for one in every_connection(postgres.url):
            stack.enter_context(one)
        with pytest.raises(
            DbbError,
            match=r"the PostgreSQL server at 127\.0\.0\.1 has had no connection to spare for .*too many clients already"
            r"\): run fewer programs at once, raise max_connections, or give jobs a snapshot",
        ):
            contents(postgres)


def every_connection(url: str) -> Iterator[psycopg.Connection]:
    """Take each connection that the server has."""
    try:
        while True:
            yield psycopg.connect(plain(url))
    except psycopg.OperationalError:
        return


def test_a_program_that_fell_silent_does_not_keep_its_turn(postgres: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "_FORSAKEN", 200)
    tries = []

    def work(conn: sa.Connection) -> None:
        tries.append(conn)
        time.sleep(1.0 if len(tries) == 1 else 0)
        conn.exec_driver_sql("INSERT INTO visit_tag VALUES ('deep', 1)")

    postgres.write(work)
    assert len(tries) == 2
