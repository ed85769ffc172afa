"""Which registered files a job reads: by name, within the run first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbb.errors import AmbiguousError, MissingError
from dbb.pipeline.names import split_compression
from dbb.pipeline.workflow import InputFile, Instance
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._tables import desfile, file_archive_info, pfw_attempt
from dbb.registry.archives import archive_order, archives
from dbb.registry.relpaths import join_relpath
from dbb.registry.runs import Run

_BATCH = 5_000
_MOST_SHOWN = 20
_COLUMNS = (
    *(desfile.c[name] for name in ("id", "filename", "compression", "filetype", "filesize", "md5sum")),
    file_archive_info.c.archive_name,
    file_archive_info.c.path,
    *(pfw_attempt.c[name] for name in ("unitname", "reqnum", "attnum")),
)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A registered file at its place in the preferred archive; `run` is what made it, or None."""

    id: int
    filename: str
    compression: str
    filetype: str
    filesize: int | None
    md5sum: str | None
    archive: str
    relpath: str
    run: str | None

    def source(self) -> dict[str, object]:
        """Return what a job file says of where it is."""
        facts = {"archive": self.archive, "relpath": self.relpath, "filesize": self.filesize, "md5sum": self.md5sum}
        return {key: value for key, value in (facts | {"run": self.run}).items() if value is not None}


def find_inputs(
    db: Database, inputs: Iterable[InputFile], run: str, preferred: Sequence[str] = ()
) -> dict[str, KnownFile]:
    """Return the registered files that inputs are, by their names; copies in `preferred` archives before others.

    A plan that asked the registry knows which file it means. Of others the name must be unique, or that of one file of
    `run`.

    Raises
    ------
    MissingError
        If some are not registered, or in no archive; lists them.
    AmbiguousError
        If a name fits several files.

    Notes
    -----
    One SELECT for 5 000 names.
    """
    wanted = {one.filename: one for one in inputs}
    found: dict[str, list[KnownFile]] = {name: [] for name in wanted}
    packed: dict[str, str] = {}
    with db.read() as conn:
        order = archive_order(archives(conn), preferred)
        for one in _candidates(conn, list(wanted), order, db.dialect):
            if one.filename + one.compression in found:
                found[one.filename + one.compression].append(one)
            elif one.compression:
                packed[one.filename] = f" (kept as {one.filename}{one.compression} only: compress_files says so)"
    missing = [name + packed.get(name, "") for name, files in found.items() if not files]
    if missing:
        listed = "\n    ".join(missing[:_MOST_SHOWN])
        more = f"\n    and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        raise MissingError(
            f"{len(missing)} inputs are in no archive and no job of the run makes them:\n    {listed}{more}"
        )
    return {name: _chosen(wanted[name], files, run) for name, files in found.items()}


def made_names(instances: Iterable[Instance]) -> set[str]:
    """Return the names of all files that quanta make, compressed ones under both names."""
    return {name for one in instances for output in one.outputs for name in _names(output.filename, output.compress)}


def not_made(
    instances: Iterable[Instance], made: Set[str], left_out: Mapping[str, Sequence[str]]
) -> Iterator[InputFile]:
    """Give the inputs that are not `made`; `left_out` are nicknames of a module that need not be there."""
    for instance in instances:
        skipped = left_out.get(instance.module, ())
        yield from (one for one in instance.inputs if one.nick not in skipped and one.filename not in made)


def _names(filename: str, compress: bool) -> tuple[str, ...]:
    return (filename, f"{filename}.fz") if compress else (filename,)


def _candidates(conn: sa.Connection, names: Sequence[str], order: Sequence[str], dialect: str) -> Iterator[KnownFile]:
    rank = {name: place for place, name in enumerate(order)}
    for at in range(0, len(names), _BATCH):
        bare = list(dict.fromkeys(split_compression(name)[0] for name in names[at : at + _BATCH]))
        statement = (
            sa.select(*_COLUMNS)
            .join(file_archive_info, file_archive_info.c.desfile_id == desfile.c.id)
            .outerjoin(pfw_attempt, pfw_attempt.c.id == desfile.c.pfw_attempt_id)
            .where(one_of(desfile.c.filename, bare, dialect))
        )
        best: dict[int, tuple[int, KnownFile]] = {}
        for row in conn.execute(statement):
            one = _known(row)
            place = rank.get(one.archive, len(rank))
            if one.id not in best or place < best[one.id][0]:
                best[one.id] = (place, one)
        yield from (one for _, one in best.values())


def _known(row: sa.Row[Any]) -> KnownFile:
    relpath = join_relpath(row.path, row.filename, row.compression)
    run = None if row.reqnum is None else str(Run(row.unitname, row.reqnum, row.attnum))
    facts = row.id, row.filename, row.compression, row.filetype, row.filesize, row.md5sum
    return KnownFile(*facts, row.archive_name, relpath, run)


def _chosen(wanted: InputFile, files: Sequence[KnownFile], run: str) -> KnownFile:
    relpath = wanted.source.get("relpath")
    fitting = [one for one in files if one.relpath == relpath] if relpath else []
    fitting = fitting or [one for one in files if one.run == run] or list(files)
    if len(fitting) > 1:
        listed = "\n    ".join(sorted(f"{one.relpath} ({one.archive}, {one.run or 'no run'})" for one in fitting))
        raise AmbiguousError(f"several files are called {wanted.filename}, which {wanted.nick} asks for:\n    {listed}")
    return fitting[0]
