"""Fixtures that all tests may use. With ``CI=true`` what cannot run fails; elsewhere it is skipped with the reason.

Batch systems are skipped even then: not every machine can have them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest
from batch_systems import EngineError, PoolForTests, SlurmCluster, run_pool, run_slurm
from throwaway_postgres import NoPostgresError, PostgresServer, run_postgres

_PROJECT = Path(__file__).resolve().parents[1]
_MEMORY, _ENOUGH = Path("/dev/shm"), 4 << 30

# No test asserts a time, and a machine at work on other things is slow.
hypothesis.settings.register_profile("dbb", deadline=None, max_examples=60)
hypothesis.settings.load_profile("dbb")


def pytest_configure() -> None:
    """Put temporary folders into memory where there is enough: half of the time of the tests goes to the disk."""
    if not _MEMORY.is_dir() or not os.access(_MEMORY, os.W_OK) or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return
    if shutil.disk_usage(_MEMORY).free >= _ENOUGH:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a batch system, so that it can be run alone or left out."""
    for item in items:
        if isinstance(item, pytest.Function) and {"condor_pool", "slurm"} & set(item.fixturenames):
            item.add_marker("engines")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server; one for each process of pytest-xdist."""
    try:
        with run_postgres(tmp_path_factory.mktemp("postgres")) as server:
            yield server
    except NoPostgresError as error:
        _cannot_run(str(error))


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a new, empty PostgreSQL database."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database: the test runs once for each kind of database."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real survey data beside the project."""
    folder = _PROJECT.parent / "shared"
    if not folder.is_dir():
        _cannot_run(f"{folder} is not there: it holds the real data that this test reads")
    return folder


@pytest.fixture(scope="session")
def gen2_src() -> Path:
    """The folder with sources of the real Gen2 client, as folders ``2017`` and ``2021``."""
    named = os.environ.get("GEN2_SRC")
    if not named:
        pytest.skip("GEN2_SRC is not set: it names a folder with sources of the Gen2 Butler")
    folder = Path(named)
    missing = [era for era in ("2017", "2021") if not (folder / era).is_dir()]
    if missing:
        pytest.fail(f"GEN2_SRC={named} lacks the folders {', '.join(missing)}")
    return folder


@pytest.fixture(scope="session")
def _pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolForTests]:
    """One for each process of pytest-xdist, so that no test loses its pool by another that crashes it."""
    with contextlib.ExitStack() as stack:
        try:
            pool = stack.enter_context(run_pool(tmp_path_factory.mktemp("condor")))
        except EngineError as error:
            pytest.skip(str(error))
        yield pool


@pytest.fixture
def condor_pool(_pool: PoolForTests) -> Iterator[PoolForTests]:
    """A running HTCondor with an empty queue. Where it cannot be had the test is skipped, with ``CI=true`` too."""
    yield _pool
    if not _pool.is_running:
        _pool.start(lifeline=True)
    _pool.clear()


@pytest.fixture
def in_pool(condor_pool: PoolForTests, monkeypatch: pytest.MonkeyPatch) -> PoolForTests:
    """The pool, with this process and those that it starts as clients."""
    import htcondor2

    for name, value in condor_pool.environ.items():
        monkeypatch.setenv(name, value)
    htcondor2.reload_config()
    return condor_pool


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A running Slurm of one node. Where it cannot be had the test is skipped, with ``CI=true`` too."""
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(run_slurm(tmp_path_factory.mktemp("slurm")))
        except EngineError as error:
            pytest.skip(str(error))
        yield cluster


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 service on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_client(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 client; dbb finds the same service by the environment, as in a job."""
    import boto3
    import fsspec

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    client = boto3.client("s3")
    yield client
    client.close()
    fsspec.filesystem("s3").clear_instance_cache()


def _cannot_run(reason: str) -> NoReturn:
    """Skip where a developer may lack something, fail where all must be there."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason} (with CI=true this test may not be skipped)")
    pytest.skip(reason)
