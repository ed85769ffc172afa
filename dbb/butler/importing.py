"""Moving in: an existing Gen2 repository becomes files of an archive that holds it, in place and unopened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb.butler.chain import CALIB_REGISTRY, REGISTRY, Link, load_chain
from dbb.butler.config import CONFIG_NAME
from dbb.butler.inversion import Inverter, Reading, inverter_of
from dbb.butler.outputs import Job, listed
from dbb.errors import DbbError, IntegrityError, MissingError, NotFoundError, UsageError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.ingest.calibs import certify_gen2, check_version, read_gen2
from dbb.ingest.foreign import open_foreign
from dbb.ingest.table import register_batch, row_reader, write_files
from dbb.ingest.tables import BATCH, Table
from dbb.mapper import Mapper, eras_of
from dbb.patterns import safe_path
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry.archives import archive_root
from dbb.registry.calibs import Certified
from dbb.registry.files import Refusal, Registered
from dbb.storage import Digest, digest_file, is_local, local_path

_MARKS = (CONFIG_NAME, "_mapper", "_parent")
_OWN = frozenset({*_MARKS, REGISTRY, CALIB_REGISTRY})
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Parameters
    ----------
    files
        Files added, known and refused; those refused are named by their path in the repository.
    certified
        What was certified, by filetype.
    absent
        Rows of the calibration registry whose files are not in the archive.
    parents
        The repository's parents, which were not imported.
    others
        Repositories and linked folders in it, which were not either.
    links
        How many of the files are links.
    """

    files: Registered
    certified: Mapping[str, Certified] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    links: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    relpath: str
    path: str
    size: int
    is_link: bool


def import_repo(
    db: Database,
    repo: str | os.PathLike[str],
    *,
    archive: str,
    run: str | None = None,
    calibs: str | None = None,
    mapper: str | None = None,
    era: str = "both",
    checksums: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Register the files of one Gen2 repository where they lie.

    Parameters
    ----------
    db
        The registry.
    repo
        The repository's folder; of a rerun, the rerun's. Parents and repositories within it are not imported.
    archive
        An archive on this machine whose root is the repository or a folder above it.
    run
        The run that all but raws and calibrations belong to.
    calibs
        The version that the calibration registry is certified in; it is not if left out.
    mapper
        The camera, where the configuration names a class that no plug-in has.
    era
        Whose templates count: ``2017``, ``2021`` or ``both``.
    checksums
        Read the files; by default none is opened, and `dbb verify` fills the checksums.
    dry_run
        Say what would be done.
    progress
        Called with the number of files seen.

    Returns
    -------
    Imported
        A name that no template or several give, or whose exposure is not in the repository's registry, is refused and
        the rest go in. If a file contradicts what is registered, nothing was changed.

    Raises
    ------
    NotFoundError
        If the archive or the camera is unknown.
    MissingError
        If the folder or a parent is no repository.
    UsageError
        If the repository is not in the archive, or has outputs and there is no run.
    ConflictError
        If validity ranges overlap; nothing was changed.

    Notes
    -----
    One transaction; statements grow with batches of 5 000 files. Metadata come from the repository's registry, or its
    parents', and from the paths.
    """
    eras_of(era)
    if calibs is not None:
        check_version(calibs)
    with db.read() as conn:
        below = _below(Path(local_path(os.fspath(repo))).absolute(), archive, archive_root(conn, archive))
    chain = load_chain(Path(local_path(os.fspath(repo))).absolute(), plugins().mapper(mapper) if mapper else None)
    reader = _Reader(db, chain[0], era, run, below, follow_calibs=len(chain) == 1)
    rows, refused = reader.rows(progress)
    if checksums:
        rows, unread = _add_checksums(rows)
        refused += [Refusal(row["relpath"].removeprefix(below), why) for row, why in unread]
    absent: list[str] = []
    certified: dict[str, Certified] = {}

    def work(conn: sa.Connection) -> Registered:
        absent.clear()
        certified.clear()
        taking = row_reader(db, conn, str(repo), None, None)
        total = Registered()
        for batch in Table([{name: row[name] for name in row if name != _SOURCE} for row in rows]).batches():
            total += register_batch(db, conn, archive, taking.files(batch))
        if calibs is not None and not total.conflict:
            path, camera = chain[0].calib_root / CALIB_REGISTRY, chain[0].mapper
            found = read_gen2(path, camera)
            certified.update(certify_gen2(db, conn, camera, found, version=calibs, archive=archive, absent=absent))
        return total

    done = write_files(db, work, dry_run=dry_run)
    against = [replace(one, relpath=one.relpath.removeprefix(below)) for one in done.refused]
    return Imported(
        replace(done, refused=(*against, *refused)),
        certified,
        tuple(absent),
        tuple(str(link.root) for link in chain[1:]),
        tuple(reader.others),
        reader.links,
    )


_SOURCE = "\0source"
"""Where a row's file is; not a column of the registry."""


def _below(repo: Path, archive: str, root: str) -> str:
    """Return the prefix that leads from an archive's root to the repository."""
    if is_local(root):
        for here, there in ((repo, Path(local_path(root))), (repo.resolve(), Path(local_path(root)).resolve())):
            here = Path(os.path.normpath(here))
            if here.is_relative_to(there):
                below = here.relative_to(there).as_posix()
                return "" if below == "." else f"{below}/"
    raise UsageError(
        f"{repo} does not lie in archive {archive} at {root}: add an archive whose root is the repository or above it"
    )


def _add_checksums(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], str]]]:
    """Read the files of rows; return the rows with checksums, and those whose files cannot be read with why."""

    def digest(row: Mapping[str, Any]) -> Digest | OSError:
        try:
            return digest_file(row[_SOURCE])
        except OSError as error:
            return error

    read, unread = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, found in zip(rows, pool.map(digest, rows), strict=True):
            if isinstance(found, OSError):
                unread.append((row, f"it cannot be read: {found.strerror}"))
            else:
                read.append(row | asdict(found))
    return read, unread


class _Reader:
    """Turns the files of a repository into rows to be registered."""

    def __init__(self, db: Database, link: Link, era: str, run: str | None, below: str, *, follow_calibs: bool) -> None:
        self._db, self._link, self._run, self._below = db, link, run, below
        self.others: list[str] = []
        self.links = 0
        camera, root = link.mapper, link.root
        overrides = _overrides(link, camera)
        self._known = Job(root, camera, era, "", overrides)
        if link.registry is not None:
            for row in _exposures(link.registry, camera):
                self._known.add_exposure(row)
        calib = os.path.relpath(link.calib_root, root)
        inside = calib != "." and not calib.startswith("..")
        self._calib = f"{calib}/" if inside else None
        # that of a repository without parents is its own, though it be a link
        self._followed = {calib} if follow_calibs and inside else set()
        self._all = inverter_of(camera, era, overrides)
        self._calibs: Inverter = inverter_of(camera, era, overrides, calibrations=True) if inside else self._all

    def rows(self, progress: Progress | None) -> tuple[list[dict[str, Any]], list[Refusal]]:
        """Return a row for each file, and what cannot be registered."""
        rows: list[dict[str, Any]] = []
        refused: list[Refusal] = []
        for seen, found in enumerate(self._walk(), start=1):
            if isinstance(found, Refusal):
                refused.append(found)
            else:
                try:
                    rows.append(self._row(found))
                    self.links += found.is_link
                except UsageError:
                    raise
                except DbbError as error:
                    refused.append(Refusal(_printable(found.relpath), _printable(str(error))))
            if progress is not None and seen % BATCH == 0:
                progress(seen)
        return rows, refused

    def _walk(self) -> Iterator[_Entry | Refusal]:
        # a stack of its own: folders may be deeper than Python's
        stack = [("", iter(listed(str(self._link.root))))]
        while stack:
            below, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            relpath = below + entry.name
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and Path(entry.path).is_dir()):
                if relpath == "_parent":
                    continue
                linked = entry.is_symlink() and relpath not in self._followed
                if linked or any(os.path.lexists(f"{entry.path}/{mark}") for mark in _MARKS):
                    self.others.append(_printable(relpath))
                    continue
                try:
                    stack.append((f"{relpath}/", iter(listed(entry.path))))
                except OSError as error:
                    yield Refusal(_printable(f"{relpath}/"), f"the folder cannot be listed: {error.strerror}")
            elif not self._is_own(relpath):
                yield _entry(relpath, entry)

    def _is_own(self, relpath: str) -> bool:
        return relpath in _OWN or (self._calib is not None and relpath == self._calib + CALIB_REGISTRY)

    def _row(self, entry: _Entry) -> dict[str, Any]:
        reading = self._reading(entry.relpath)
        dataset = reading.dataset
        if dataset.filetype not in self._db.filetypes():
            raise NotFoundError("filetype", dataset.filetype, hint="The registry lacks it: see dbb register-filetypes")
        filetype = self._db.filetypes()[dataset.filetype]
        is_input = dataset.is_calibration or filetype.name == self._link.mapper.raw_filetype
        if not is_input and self._run is None:
            raise UsageError(f"{entry.relpath} was made by a run: say by which, with --run")
        known = self._known.metadata(reading, filetype)
        _check(known, reading, filetype, self._known)
        if filetype.name == self._link.mapper.raw_filetype and self._known.exposure(reading) is None:
            raise MissingError("the repository's registry has no row of it")
        relpath = safe_path(self._below + entry.relpath, "path in the archive")
        facts = {"relpath": relpath, "filetype": filetype.name, "filesize": entry.size, _SOURCE: entry.path}
        return {**known, **facts, **({} if is_input else {"run": self._run})}

    def _reading(self, relpath: str) -> Reading:
        if self._calib is not None and relpath.startswith(self._calib):
            return self._calibs.read(relpath.removeprefix(self._calib))
        return self._all.read(relpath)


def _entry(relpath: str, entry: os.DirEntry[str]) -> _Entry | Refusal:
    is_link = entry.is_symlink()
    try:
        if entry.is_file():
            return _Entry(relpath, entry.path, entry.stat().st_size, is_link)
        why = f"it is a link to {Path(entry.path).readlink()}, where nothing is" if is_link else "it is no file"
    except OSError as error:
        why = error.strerror or str(error)
    return Refusal(_printable(relpath), _printable(why))


def _check(known: Mapping[str, object], reading: Reading, filetype: Filetype, repository: Job) -> None:
    """Find here what is wrong with one file: a table of all files would be refused as a whole."""
    row = repository.metadata(replace(reading, data_id=_exposure(reading, repository.camera)), filetype)
    for name, value in known.items():
        if row.get(name, value) != value:
            raise IntegrityError(f"its path says {name}={value}, the repository's registry {row[name]}")
        try:
            CONVERTERS[filetype.types[name]](value)
        except (ValueError, TypeError, OverflowError) as error:
            raise IntegrityError(f"column {name}: {error}, not {str(value)[:60]!r}") from error
    complete = {**repository.camera.derive(known), **known}
    missing = [column.name for column in filetype.columns if column.required and complete.get(column.name) is None]
    if missing:
        raise MissingError(f"neither its path nor the repository's registry says its {', '.join(missing)}")


def _exposure(reading: Reading, camera: Mapper) -> dict[str, object]:
    keys = (*camera.exposure_keys, camera.visit_columns[0])
    return {key: reading.data_id[key] for key in keys if key in reading.data_id}


def _overrides(link: Link, camera: Mapper) -> dict[str, str]:
    """Return the templates that the repository's own policy has."""
    found = {}
    for dataset in camera.datasets:
        template = link.config.override(dataset.section, dataset.name).get("template")
        if isinstance(template, str):
            found[dataset.name] = template
    return found


def _exposures(path: Path, camera: Mapper) -> Iterator[Mapping[str, Any]]:
    try:
        with open_foreign(path) as conn:
            there = {row[1] for row in conn.execute("PRAGMA table_info(raw)")}
            missing = [name for name in camera.exposure_keys if name not in there]
            if missing:
                raise IntegrityError(f"{path}: its table raw has no column {', '.join(missing)}")
            # the names come from the mapper, not from the file
            names = [name for name in camera.raw_columns if name in there]
            columns = ", ".join(f'"{name}"' for name in names)
            for row in conn.execute(f"SELECT {columns} FROM raw ORDER BY id"):  # noqa: S608  # quoted names of the mapper, not of the file
                yield dict(zip(names, row, strict=True))
    except sqlite3.Error as error:
        raise IntegrityError(f"{path} cannot be read as the registry of a Gen2 repository: {error}") from error


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
