"""The miniature of ci_hsc in a registry, as most tests about job repositories need it."""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbb import Registry
from dbb.butler import CalibSpec, FileSpec, InputSpec, OutputSpec, RepoSpec

_EXAMPLE = Path(__file__).parents[2] / "examples" / "ci_hsc_mini"
CALIBS = "2014A"
OVERLAPS = "ci_hsc"
RUN_A, RUN_B = "Ht0_r12p01", "Ht0_r11p95"
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Demo:
    """The files, and a SQLite registry of them that nobody changes."""

    folder: Path

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'registry.db'}"

    def copy(self, folder: Path) -> str:
        """Return the URL of a copy of the registry that the caller may change."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / "registry.db", folder / "registry.db")
        return f"sqlite:///{folder / 'registry.db'}"

    def rows(self, table: str) -> Rows:
        return table_rows(self.folder / f"{table}.csv")


def table_rows(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as stream:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(stream)]


def make_demo(factory: pytest.TempPathFactory) -> Demo:
    """Make the miniature once for each process of pytest-xdist."""
    return _make_demo(factory.getbasetemp() / "demo")


@functools.cache
def _make_demo(folder: Path) -> Demo:
    demo = Demo(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_EXAMPLE))
        importlib.import_module("make").make(folder)
    fill(demo, demo.url).close()
    return demo


def fill(demo: Demo, url: str, root: str | None = None, *, calibs: bool = True) -> Registry:
    """Make a registry of the miniature, whose archive ``home`` is at `root`."""
    registry = Registry.create(url, mapper="hsc")
    registry.add_archive("home", str(demo.archive))
    added = [registry.ingest_files([f"{demo.archive}/raw/*.fits"], filetype="hsc_raw", archive="home").added]
    added += [registry.ingest_table(demo.folder / f"{name}.csv", archive="home").added for name in TABLES]
    rows = demo.rows("calibs")
    files = [{key: value for key, value in row.items() if not key.startswith("valid")} for row in rows]
    added.append(registry.ingest_table(files, archive="home").added)
    assert added == [33, 38, 42, 1, 64]
    for filetype in ("bias", "dark", "flat") if calibs else ():
        dated = [row for row in rows if row["filetype"] == filetype]
        registry.certify_calibrations(dated, version=CALIBS, filetype=filetype)
    registry.load_overlaps(demo.folder / "overlaps.csv", version=OVERLAPS)
    registry.tag("PROTO-0.1", RUN_A, RUN_B)
    if root is not None:
        move_archive(registry, root)
    return registry


TABLES = ("calexps", "coadds", "files")


def move_archive(registry: Registry, root: str, name: str = "home") -> None:
    """Say that the files of an archive are elsewhere now, as an operator would in SQL."""
    with registry.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE ops_archive SET root = '{root}' WHERE name = '{name}'")


FULL = RepoSpec(
    mapper="hsc",
    inputs=(
        InputSpec("raw"),
        InputSpec("calexp", runs=(RUN_A, "r11p95")),
        InputSpec("deepCoadd_calexp"),
        InputSpec("deepCoadd_tempExp"),
    ),
    calibs=CalibSpec(CALIBS),
    files=(FileSpec("skyMap-1.pickle", "deepCoadd/skyMap.pickle"),),
    outputs=OutputSpec("Ht0_r20p01", ("calexp", "src", "deepCoadd_calexp", "deepCoadd_tempExp")),
    overlaps=OVERLAPS,
)
"""Everything that the miniature has."""


def tree(folder: Path) -> dict[str, str]:
    """Return what is below `folder`: relative path to the target of a link or a digest of the bytes of a file."""
    found = {}
    for path, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            entry = Path(path) / name
            key = str(entry.relative_to(folder))
            if entry.is_symlink():
                found[key] = f"-> {entry.readlink()}"
            elif entry.is_dir():
                found[key] = "folder"
            else:
                found[key] = sha256(entry)
    return found


def links(folder: Path) -> dict[str, Path]:
    """Return relative path to resolved target of every link to a file below `folder`."""
    return {
        str(path.relative_to(folder)): path.resolve()
        for path in folder.rglob("*")
        if path.is_symlink() and not path.is_dir()
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def select(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask an SQLite file that must be there."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


@contextmanager
def counted(registry: Registry) -> Iterator[list[str]]:
    """Collect the statements that the database is sent."""
    sent: list[str] = []

    def note(conn: object, cursor: object, statement: str, *others: object) -> None:
        sent.append(statement)

    sa.event.listen(registry.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(registry.engine, "before_cursor_execute", note)


def without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in names}


class Survey:
    """A registry with hand-made files: text in, rows out."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder / 'survey.db'}"
        self.registry = Registry.create(self.url, mapper="hsc")
        self.roots: dict[str, Path] = {}
        self.add_archive("home")

    def add_archive(self, name: str) -> Path:
        self.roots[name] = self.folder / f"archive-{name}"
        self.roots[name].mkdir(parents=True)
        self.registry.add_archive(name, str(self.roots[name]))
        return self.roots[name]

    def add(
        self, filetype: str, relpath: str, *, run: str | None = None, archive: str = "home", content: str = "",
        **metadata: object,
    ) -> Path:  # fmt: skip
        """Write a file and register it with its size and checksum."""
        path = self.roots[archive] / relpath
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (content or relpath).encode()
        path.write_bytes(data)
        md5sum = hashlib.md5(data, usedforsecurity=False).hexdigest()
        row = {"relpath": relpath, "filesize": len(data), "md5sum": md5sum, **metadata}
        assert self.registry.ingest_table([row], filetype=filetype, archive=archive, run=run).added == 1
        return path

    def add_raw(self, visit: int, ccd: int, *, relpath: str = "", **changes: object) -> Path:
        return self.add("hsc_raw", relpath or f"raw/{visit}-{ccd}.fits", **raw_values(visit, ccd) | changes)

    def add_calib(self, filetype: str, ccd: int, date: str, start: str, end: str, filter: str = "NONE") -> Path:  # noqa: A002  # the name is the column's
        relpath = f"CALIB/{filetype}-{filter}-{ccd}-{date}.fits"
        path = self.add(filetype, relpath, ccd=ccd, calibDate=date, filter=filter)
        row = {"relpath": relpath, "validStart": start, "validEnd": end}
        self.registry.certify_calibrations([row], version=CALIBS, filetype=filetype)
        return path


def raw_values(visit: int, ccd: int) -> dict[str, object]:
    """Return all metadata of a raw exposure."""
    return {
        "field": "STRIPE82L", "visit": visit, "ccd": ccd, "pointing": 533, "filter": "HSC-R", "proposal": "o13015",
        "dateObs": "2013-06-17", "taiObs": "2013-06-17", "expTime": 30.0, "pa": -30.0, "autoguider": 5,
        "ccdTemp": -99.5, "config": "cfg.txt", "frameId": f"HSCA{visit:06d}{ccd:02d}", "expId": f"HSCE{visit:08d}",
        "dataType": "OBJECT",
    }  # fmt: skip
