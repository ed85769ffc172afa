"""Writers of one registry take turns, and wait for them only so long; what passes by itself is tried again.

One writer at a time is what SQLite can do, and what PostgreSQL is asked for by an advisory lock: so no two find the
same file unknown and both register it, there is no deadlock, and the server's queue gives everybody a turn. Readers
neither wait nor make anybody wait.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dbb.errors import DbbError
from dbb.registry.snapshots import refuse_snapshot

PATIENCE = 600
"""Seconds that a program waits for its turn: longer than anybody should write at once."""
CONNECTION_PATIENCE = 120
"""Seconds that a program waits for a server that has no connection to spare, or is just starting."""
_SILENCE = 15
_COLLISIONS = 5
_FORSAKEN = 600_000  # milliseconds after which the server ends a transaction whose program says nothing any more
_WRITERS = int.from_bytes(b"dbb")
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# no lock within the time given; no connection left; the server ends the session, is shutting down, or starting up
_PASSING = {"55P03", "53300", "57P01", "57P02", "57P03"}
# somebody who does not wait for a turn came between: the same key, no common order of events, each waits for the other
_COLLIDED = {"23505", "40001", "40P01"}
# the server has no other way to say so: there is no code before there is a connection
_NO_CONNECTION = (
    *("too many clients", "too many connections", "connection slots are reserved"),
    *("starting up", "shutting down", "recovery mode", "not yet accepting"),
)
_log = logging.getLogger(__name__)
T = TypeVar("T")


def describe(error: BaseException) -> str:
    """Return the first line of a database error, without SQL and parameters."""
    original = getattr(error, "orig", None) or error
    reason = str(original).strip().splitlines() or ["no reason given"]
    return f"{type(original).__name__}: {reason[0]}"


def run_transaction(
    engine: sa.Engine, work: Callable[[sa.Connection], T], keep: Callable[[T], bool] = lambda result: True
) -> T:
    """Run `work` in one write transaction, one at a time in a registry; it must be safe to repeat.

    It is run again if a program that does not wait for its turn came between, or if the server went away.

    What it did is undone if it raises, or if `keep` says so of its result.

    Raises
    ------
    ConflictError
        If the registry is a snapshot.
    DbbError
        If the database refuses for another reason, or still after ten minutes or five collisions.
    """
    if engine.get_execution_options().get("dbb_snapshot", False):
        refuse_snapshot(engine)
    began, tries, collisions = time.monotonic(), 0, 0
    while True:
        tries += 1
        try:
            with engine.connect().execution_options(dbb_write=True) as connection, connection.begin() as transaction:
                if engine.dialect.name == "postgresql":
                    _queue(connection, _SILENCE if tries == 1 else PATIENCE)
                result = work(connection)
                if not keep(result):
                    transaction.rollback()
                return result
        except DBAPIError as error:
            collisions += _state(error) in _COLLIDED
            waited = time.monotonic() - began
            if not _is_passing(error) or collisions == _COLLISIONS:
                raise DbbError(f"the registry refused: {describe(error)}") from error
            if waited > PATIENCE:
                raise _gave_up(waited, error) from error
            if waited > _SILENCE / 2:
                _log.warning("the registry has been busy for %.0f s; trying again", waited)
        pause(tries)


def pause(tries: int) -> None:
    """Sleep before the next try: longer after each, and never in step with others."""
    time.sleep(random.uniform(0.02, 0.1) * 2 ** min(tries, 5))  # noqa: S311  # jitter, no secret


def _gave_up(waited: float, error: BaseException) -> DbbError:
    return DbbError(
        f"the registry has been busy for {waited:.0f} s, so nothing was written ({describe(error)}): find out which"
        " program writes to it for so long, and run this again"
    )


def _queue(connection: sa.Connection, seconds: int) -> None:
    """Wait, where others wait, until nobody else writes; as BEGIN IMMEDIATE on SQLite."""
    settings = {
        "lock_timeout": f"{seconds}s",
        "idle_in_transaction_session_timeout": str(_FORSAKEN),
        "max_parallel_workers_per_gather": "0",  # what a writer asks by key is answered before workers have started
    }
    chosen = [sa.func.set_config(name, value, True) for name, value in settings.items()]
    connection.execute(sa.select(*chosen, sa.func.pg_advisory_xact_lock(_WRITERS)))


def take_turn(connection: sa.Connection, busy_timeout: int) -> None:
    """Begin to write to SQLite as soon as nobody else does; `busy_timeout` is what the connection has otherwise.

    SQLite's own way to wait looks again ten times a second. Where several write all the time, the one that has just
    written is always the first again, and others wait for as long as it goes on. Who looks often, at random, gets in.
    """
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout=0")
    began, told = time.monotonic(), False
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise DBAPIError("BEGIN IMMEDIATE", None, error) from error
                waited = time.monotonic() - began
                if waited > PATIENCE:
                    raise _gave_up(waited, error) from error
            if waited > _SILENCE and not told:
                told = True
                _log.warning("another program has been writing to the registry for %.0f s; waiting for it", waited)
            time.sleep(random.uniform(0.001, 0.004) if waited < 1 else random.uniform(0.005, 0.02))  # noqa: S311  # jitter
    finally:
        driver.execute(f"PRAGMA busy_timeout={busy_timeout}")


def connect_patiently(connect: Callable[[], Any], failure: type[BaseException], where: str) -> Any:
    """Connect to a server, waiting where it has no connection to spare.

    Parameters
    ----------
    connect
        Makes the connection.
    failure
        What it raises.
    where
        The server, for messages.

    Raises
    ------
    DbbError
        If it still has none after two minutes.
    """
    began, tries, told = time.monotonic(), 0, False
    while True:
        try:
            return connect()
        except failure as error:
            if not any(text in str(error) for text in _NO_CONNECTION):
                raise
            tries, waited = tries + 1, time.monotonic() - began
            if waited > CONNECTION_PATIENCE:
                raise DbbError(
                    f"{where} has had no connection to spare for {waited:.0f} s ({describe(error)}): run fewer programs"
                    " at once, raise max_connections, or give jobs a snapshot"
                ) from error
            if waited > _SILENCE and not told:
                told = True
                _log.warning("%s has had no connection to spare for %.0f s; waiting for one", where, waited)
        pause(tries)


def _is_busy(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _is_passing(error: DBAPIError) -> bool:
    gone = error.connection_invalidated  # perhaps after it had committed: then the work is found to be done
    return gone or _is_busy(error.orig) or _state(error) in _PASSING | _COLLIDED
