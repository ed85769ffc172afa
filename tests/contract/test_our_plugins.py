"""Our own plug-ins keep the contracts that we ask of everybody's."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import fsspec
import numpy as np
import pytest
from astropy.io import fits
from batch_systems import SlurmCluster

import dbb
from dbb.engine import Engine
from dbb.filetypes import Filetype
from dbb.jobs.jobfile import JobRepo
from dbb.jobs.messages import MessagePattern
from dbb.mapper import Mapper
from dbb.pipeline.model import Pipeline
from dbb.plugins import plugins
from dbb.testing import (
    CommandsContract,
    EngineContract,
    FiletypesContract,
    GatherMetadataContract,
    GroupInputsContract,
    MapperContract,
    MessagePatternsContract,
    PrepareStepContract,
    QueryInputsContract,
    ReadPipelineContract,
    StageInContract,
    StageOutContract,
    TranslateHeaderContract,
)
from dbb_cli.commands import dbb_commands
from dbb_mappers.hsc import dbb_mappers, dbb_message_patterns, dbb_translate_header
from dbb_plugins.butler import dbb_prepare_step
from dbb_plugins.fits import dbb_gather_metadata
from dbb_plugins.inputs import dbb_group_inputs, dbb_query_inputs
from dbb_plugins.local import LocalEngine
from dbb_plugins.parsl import ParslEngine
from dbb_plugins.staging import dbb_stage_in, dbb_stage_out
from dbb_plugins.wcl import dbb_read_pipeline

HSC = dbb_mappers()[0]
HEADER: Mapping[str, object] = {
    "EXP-ID": "HSCE00903334",
    "FRAMEID": "HSCA90333426",
    "DET-ID": 23,
    "FILTER01": "HSC-r",
    "OBJECT": "STRIPE82L",
    "DATE-OBS": "2013-06-17",
    "MJD": 56460.5,
    "EXPTIME": 30.0,
    "INST-PA": 0.0,
    "T_CFGFIL": "20130327.cfg",
    "PROP-ID": "o13015",
    "DATA-TYP": "OBJECT",
}


class TestOurMappers(MapperContract):
    @pytest.fixture(params=["hsc", "decam", "generic"])
    def mapper(self, request: pytest.FixtureRequest) -> Mapper:
        return plugins().mapper(request.param)


def test_the_library_names_no_camera() -> None:
    words = re.compile("|".join({*plugins().mappers()} - {"generic"} | {"subaru"}), re.IGNORECASE)
    sources = Path(dbb.__file__).parent.rglob("*.py")
    assert [
        f"{path}: {line}" for path in sources for line in path.read_text("utf-8").splitlines() if words.search(line)
    ] == []


class TestHscHeaders(TranslateHeaderContract):
    @pytest.fixture
    def translate(self) -> Callable[..., dict[str, object] | None]:
        return dbb_translate_header

    @pytest.fixture
    def filetype(self) -> Filetype:
        return HSC.filetypes["hsc_raw"]

    @pytest.fixture
    def header(self) -> Mapping[str, object]:
        return HEADER


class TestFiletypeFiles(FiletypesContract):
    @pytest.fixture
    def paths(self) -> Sequence[Path]:
        return [HSC.path / "filetypes.toml"]


class TestFits(GatherMetadataContract):
    @pytest.fixture
    def gather(self) -> Callable[..., dict[str, object] | None]:
        return dbb_gather_metadata

    @pytest.fixture
    def filetype(self) -> Filetype:
        return HSC.filetypes["hsc_raw"]

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "HSCA90333426.fits"
        fits.PrimaryHDU(np.zeros((2, 2), np.int16), fits.Header(HEADER.items())).writeto(path)
        return path


class TestTableOfInputs(QueryInputsContract):
    @pytest.fixture
    def query_inputs(self) -> Callable[..., Sequence[Mapping[str, object]] | None]:
        return dbb_query_inputs

    @pytest.fixture
    def asked(self, tmp_path: Path) -> tuple[str, Mapping[str, str]]:
        (tmp_path / "inputs.csv").write_text("relpath,visit\nc/1.fits.fz,1\nc/2.fits,\n")
        return "table", {"table": "inputs.csv", "folder": str(tmp_path)}


class TestNeighbours(GroupInputsContract):
    @pytest.fixture
    def group_inputs(self) -> Callable[..., Mapping[str, Sequence[int]] | None]:
        return dbb_group_inputs

    @pytest.fixture
    def asked(self) -> tuple[str, Sequence[Mapping[str, Mapping[str, str]]], Sequence[str]]:
        rows = [{"coadd": {"filename": patch, "tract": "0", "patch": patch}} for patch in ("8x6", "8x7", "1x1", "8x6")]
        return "neighbours", rows, ["tract", "patch"]


class TestStaging(StageInContract):
    @pytest.fixture
    def stage_in(self) -> Callable[..., Any]:
        return dbb_stage_in

    @pytest.fixture
    def root(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        folder = tmp_path_factory.mktemp("served")
        (folder / "file").write_bytes(b"bytes from afar")

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
        ) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()

    @pytest.fixture
    def served(self, root: str) -> tuple[str, bytes]:
        return f"{root}/file", b"bytes from afar"

    @pytest.fixture
    def absent(self, root: str) -> str:
        return f"{root}/nothing"


class TestWcl(ReadPipelineContract):
    @pytest.fixture
    def read_pipeline(self) -> Callable[..., Pipeline | None]:
        return dbb_read_pipeline

    @pytest.fixture
    def submit_file(self, tmp_path: Path) -> Path:
        path = tmp_path / "submit.wcl"
        path.write_text("reqnum = 1\n<module m>\n    a = 1\n</module>\n")
        return path

    @pytest.fixture
    def broken(self, tmp_path: Path) -> Path:
        path = tmp_path / "broken.des"
        path.write_text("<module>\n")
        return path


def _bytes_at(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


class TestSavingHere(StageOutContract):
    @pytest.fixture
    def stage_out(self) -> Callable[..., Any]:
        return dbb_stage_out

    @pytest.fixture
    def root(self, tmp_path_factory: pytest.TempPathFactory) -> str:
        return f"file://{tmp_path_factory.mktemp('archive')}"

    @pytest.fixture
    def content(self, root: str) -> Callable[[str], bytes | None]:
        return lambda relpath: _bytes_at(Path(root.removeprefix("file://")) / relpath)


class TestSavingElsewhere(StageOutContract):
    @pytest.fixture
    def stage_out(self) -> Callable[..., Any]:
        return dbb_stage_out

    @pytest.fixture
    def root(self) -> Iterator[str]:
        files = fsspec.filesystem("memory")
        files.makedirs("/archive", exist_ok=True)
        yield "memory://archive"
        files.rm("/archive", recursive=True)

    @pytest.fixture
    def content(self) -> Callable[[str], bytes | None]:
        files = fsspec.filesystem("memory")
        return lambda relpath: files.cat(f"/archive/{relpath}") if files.exists(f"/archive/{relpath}") else None


class TestRepositories(PrepareStepContract):
    @pytest.fixture
    def prepare(self) -> Callable[..., None]:
        return dbb_prepare_step

    @pytest.fixture
    def repo(self, tmp_path: Path) -> JobRepo:
        manifest = {"schema": 1, "mapper": "hsc", "era": "both", "stage": "auto", "outputs": []}
        return JobRepo(tmp_path, "deep/jobrepo", manifest)


class TestHscMessages(MessagePatternsContract):
    @pytest.fixture
    def patterns(self) -> Sequence[MessagePattern]:
        return dbb_message_patterns()


class TestCommands(CommandsContract):
    @pytest.fixture
    def commands(self) -> Sequence[click.Command]:
        return dbb_commands()


class TestLocalEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return LocalEngine()


class TestParslEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return ParslEngine()


@pytest.mark.long
class TestParslThroughSlurm(EngineContract):
    @pytest.fixture
    def engine(self, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Engine:
        for name, value in slurm.environ.items():
            monkeypatch.setenv(name, value)
        return ParslEngine()

    @pytest.fixture
    def settings(self) -> Mapping[str, str]:
        return {"parsl_site": "slurm", "parsl_walltime": "00:10:00"}
