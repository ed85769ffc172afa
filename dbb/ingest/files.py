"""Registering files by looking into them: metadata as the filetype says, checksums, and where asked a copy or link."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa

from dbb.errors import ConflictError, DbbError, IntegrityError, NotFoundError, PluginError, UsageError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.ingest.gather import gather_metadata
from dbb.ingest.rows import RowReader, shown
from dbb.ingest.table import register_batch, row_reader, write_files
from dbb.ingest.tables import BATCH, Batch
from dbb.ingest.transfer import TRANSFERS, Found, absent, bring, check_places, remove_sources, url_digest
from dbb.ingest.withdraw import check_brought, withdraw
from dbb.patterns import Pattern, safe_path
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._tables import file_archive_info
from dbb.registry.archives import archive_root
from dbb.registry.files import Refusal, Registered
from dbb.registry.newfiles import NewFiles
from dbb.registry.relpaths import join_relpath, split_relpath
from dbb.registry.runs import Run, full_run
from dbb.storage import is_local, local_path

Progress = Callable[[int], object]


def ingest_files(
    db: Database,
    sources: Sequence[str],
    *,
    filetype: str,
    archive: str,
    run: str | None = None,
    transfer: str = "direct",
    given: Mapping[str, str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Registered:
    """Look into files, bring them into an archive if asked, and register them.

    Parameters
    ----------
    db
        The registry.
    sources
        Paths, URLs or glob patterns of them.
    filetype, archive, run
        What they are, where they belong, and what made them.
    transfer
        ``direct``: they lie in the archive already and keep their names. Otherwise they go to the place that the
        filetype's archive patterns say, by ``copy``, ``move``, ``symlink``, ``relsymlink`` or ``hardlink``.
    given
        Values that win over what the files say, by column.
    dry_run
        Do everything but transfer and register.
    progress
        Called with the number of files looked into.

    Returns
    -------
    Registered
        A file whose header cannot be read or lacks a key is refused and the rest go in.

    Raises
    ------
    ConflictError
        If a file contradicts what is registered or what lies in the archive; nothing was changed.
    NotFoundError
        If nothing matches, or archive or filetype is unknown.
    UsageError
        If the transfer is impossible between these places, or a given value does not fit its column.

    Notes
    -----
    Each file is read once for its checksums and once for its header.
    """
    if transfer not in TRANSFERS:
        raise UsageError(f"transfer {transfer!r} is none of {', '.join(TRANSFERS)}")
    with db.read() as conn:
        root = archive_root(conn, archive)
    kind = definition(db, db.filetype(filetype))
    camera = db.mapper(kind.name)
    made_by = full_run(run) if run else None
    look = Looker(kind, root, transfer, made_by, by_column(kind, given or {}), camera.derive if camera else None)
    files = _expand(sources, root if transfer == "direct" else "")
    if transfer != "direct":
        check_places(files, root, transfer)
    found, refused = look.at_all(files, progress)
    conflicts = _register(db, found, kind, archive, run, root=None)
    if conflicts.conflict:
        return replace(conflicts, refused=conflicts.refused + tuple(refused))
    waiting = [] if transfer == "direct" else absent(found, root, _registered(db, archive, found))
    if dry_run:
        return replace(conflicts, refused=tuple(refused))

    def undo(some: Sequence[Found]) -> None:
        withdraw(db, archive, root, [one.relpath for one in some])

    brought = bring(waiting, root, transfer, undo)
    done = _register(db, found, kind, archive, run, root=root)
    if done.conflict:  # another process registered something meanwhile
        undo(brought)
    if transfer == "move" and not done.conflict:
        remove_sources(found, root)
    return replace(done, refused=done.refused + tuple(refused))


def definition(db: Database, stored: Filetype) -> Filetype:
    """Return the filetype as its camera or plug-in has it by now; the registry knows it as it was registered."""
    camera = db.mapper(stored.name)
    known = plugins().filetypes() if camera is None else camera.filetypes
    return known.get(stored.name, stored)


def by_column(filetype: Filetype, given: Mapping[str, str]) -> dict[str, str]:
    """Return given values by the declared names of their columns, each fit for its column."""
    out = {}
    for name, value in given.items():
        column = filetype.column(name)
        try:
            CONVERTERS[column.type](value)
        except (ValueError, OverflowError) as error:
            raise UsageError(f"column {column.name}: {error}, not {shown(value)}") from error
        out[column.name] = value
    return out


def _expand(sources: Iterable[str], root: str) -> list[str]:
    """Return the files that paths, URLs and patterns name, in order, each once."""
    found: dict[str, None] = {}
    for source in sources:
        matches = _matches(source, root)
        if not matches:
            raise NotFoundError("file", source, hint="Nothing matches")
        found.update(dict.fromkeys(matches))
    return list(found)


def _matches(source: str, root: str) -> list[str]:
    if is_local(source) and (not root or is_local(root) or source.startswith("/")):
        import glob

        path = local_path(source)
        # what is not found from here may be named as the archive names it
        for place in [path, os.path.join(glob.escape(local_path(root)), path)] if root else [path]:
            if os.path.lexists(place):
                return [os.path.abspath(place)]
            if found := [os.path.abspath(one) for one in glob.glob(place, recursive=True) if os.path.isfile(one)]:
                return sorted(found)
        return []
    import fsspec

    url = source if "://" in source else f"{root}/{source}"
    files, path = fsspec.core.url_to_fs(url)
    # a file system spells its URLs in its own way: what lies under the root shall begin as the root does
    same = root.partition("://")[0] == url.partition("://")[0]
    base = fsspec.core.url_to_fs(root)[1] + "/" if same else None
    return [
        f"{root}/{match.removeprefix(base)}" if base and match.startswith(base) else files.unstrip_protocol(match)
        for match in sorted(files.glob(path))
    ]


class _OutsideError(UsageError):
    """A file that should be registered where it lies, but does not lie in the archive."""


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks into files of one filetype."""

    filetype: Filetype
    root: str
    transfer: str
    run: Run | None
    given: Mapping[str, str]
    derive: Callable[[Mapping[str, object]], dict[str, object]] | None = None

    def at_all(self, sources: Sequence[str], progress: Progress | None) -> tuple[list[Found], list[Refusal]]:
        """Return what was found out, and the files that could not be understood."""
        found, refused = [], []
        outside: list[_OutsideError] = []
        for number, source in enumerate(sources, start=1):
            try:
                found.append(self.at(source))
            except _OutsideError as error:
                outside.append(error)
                refused.append(self._refusal(source, error))
            except (UsageError, ConflictError, NotFoundError, PluginError):
                raise  # the request is wrong, not this one file
            except (DbbError, OSError, UnicodeError) as error:
                refused.append(self._refusal(source, error))
            if progress is not None:
                progress(number)
        if outside and len(outside) == len(sources):
            raise outside[0]  # the request is wrong, not one file among others
        return found, refused

    def _refusal(self, source: str, error: Exception) -> Refusal:
        return Refusal(self._name(source).encode(errors="backslashreplace").decode(), str(error))

    def _name(self, source: str) -> str:
        prefix = (local_path(self.root) if is_local(source) else self.root).rstrip("/") + "/"
        return source.removeprefix(prefix)

    def at(self, source: str) -> Found:
        """Read one file's metadata and checksums."""
        if self.transfer == "direct" and self._name(source) == source:
            raise _OutsideError(
                f"{source} does not lie in the archive at {self.root}: give --transfer copy (or move, symlink, …)"
            )
        metadata: dict[str, Any] = dict(self._from_name(source))
        metadata |= gather_metadata(source, self.filetype)
        metadata |= self.given
        if self.derive is not None:
            metadata = self.derive(metadata) | metadata
        self._check(metadata)
        row = {name.lower(): value for name, value in metadata.items() if name != "corners"}
        corners = metadata.get("corners")
        if corners is not None:
            row |= {name: getattr(corners, name) for name in type(corners).__dataclass_fields__}
        digest = url_digest(source)
        relpath = str(CONVERTERS["str"](self._relpath(source, metadata)))
        facts = {"relpath": relpath, "filesize": digest.filesize, "md5sum": digest.md5sum, "sha256": digest.sha256}
        return Found(source, relpath, row | facts, digest)

    def _check(self, metadata: Mapping[str, object]) -> None:
        """Find here what is wrong with one file: the table of all files would be refused as a whole."""
        for column in self.filetype.columns:
            value = metadata.get(column.name)
            try:
                if value is not None:
                    CONVERTERS[column.type](value)
                elif column.required:
                    pattern = self.filetype.name_pattern
                    where = (
                        f"the name does not fit {pattern.text}"
                        if pattern and column.source == "name"
                        else column.source
                    )
                    raise ValueError(f"nothing says it ({where})")
            except (ValueError, OverflowError) as error:
                raise IntegrityError(f"column {column.name}: {error}") from error

    def _from_name(self, source: str) -> Mapping[str, object]:
        if self.filetype.name_pattern is None:
            return {}
        types = {**self.filetype.types, "reqnum": "int", "attnum": "int"}
        name = _without_compression(PurePosixPath(source).name)
        values = self.filetype.name_pattern.invert(name, types) or {}
        return {key: value for key, value in values.items() if key in self.filetype.types}

    def _relpath(self, source: str, metadata: Mapping[str, object]) -> str:
        if self.transfer == "direct":
            return safe_path(self._name(source), "path in the archive")
        name = PurePosixPath(source).name
        suffix = name.removeprefix(_without_compression(name))
        values = {**metadata, **(self.run.values if self.run else {}), "filename": _without_compression(name)}
        parts = [_expand_pattern(self.filetype, what, values) for what in ("directory", "name_pattern")]
        return safe_path("/".join(part for part in parts if part) + suffix, "path in the archive")


def _expand_pattern(filetype: Filetype, what: str, values: Mapping[str, object]) -> str:
    pattern: Pattern | None = getattr(filetype, what)
    if pattern is None and what == "name_pattern":
        return str(values["filename"])
    return "" if pattern is None else pattern.expand(values)


def _without_compression(name: str) -> str:
    return name[:-3] if name.endswith((".fz", ".gz")) else name


def _register(
    db: Database, found: Sequence[Found], filetype: Filetype, archive: str, run: str | None, *, root: str | None
) -> Registered:
    """Register files that lie below the root given; without one only say what would be done."""

    def work(conn: sa.Connection) -> Registered:
        if root is not None:
            check_brought(root, (one.relpath for one in found))
        reader = row_reader(db, conn, f"files of {filetype.name}", filetype.name, run)
        total = Registered()
        for start in range(0, len(found), BATCH):
            total += register_batch(db, conn, archive, read_found(reader, found[start : start + BATCH], start))
        return total

    return write_files(db, work, dry_run=root is None)


def _registered(db: Database, archive: str, found: Sequence[Found]) -> set[str]:
    """Return which of the paths the archive has registered."""
    place = file_archive_info
    names = list({split_relpath(one.relpath)[1] for one in found})
    with db.read() as conn:
        rows = conn.execute(
            sa.select(place.c.path, place.c.filename, place.c.compression).where(
                place.c.archive_name == archive, one_of(place.c.filename, names, conn.dialect.name)
            )
        )
        return {join_relpath(*row) for row in rows}


def read_found(reader: RowReader, found: Sequence[Found], start: int) -> list[NewFiles]:
    """Return the files to register for those that were looked into; `start` is the number of the first."""
    names = dict.fromkeys(name for one in found for name in one.row)
    return reader.files(Batch({name: [one.row.get(name) for one in found] for name in names}, start + 1, len(found)))
