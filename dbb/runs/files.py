"""Files that jobs made and where they were put, as rows; what contradicts the registry becomes a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from dbb.errors import UnsafePathError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._insert import insert_missing, insert_rows, run_many, take_ids
from dbb.registry._tables import desfile, file_archive_info, now, ops_filetype, task
from dbb.registry.files import insert_corners
from dbb.registry.relpaths import split_relpath
from dbb.runs.facts import Facts, Made, Saved

COMPRESS = "compress_files"
"""Name of the task that compresses the files of a step or job."""
PLAIN_FILETYPES = frozenset({"genfile", "junk_tar", "list", "log", "wcl"})
"""Filetypes without metadata that every run has, and a registry gets when the first such file comes."""
_DESFILE = (
    *("id", "filename", "compression", "filetype", "filesize", "md5sum", "sha256"),
    *("pfw_attempt_id", "wgb_task_id", "created_date"),
)
_PLACE = ("filename", "path", "compression", "archive_name", "desfile_id")
_Key = tuple[int, str, str]


@dataclass(slots=True)
class MadeFiles:
    """The ids of files that were reported, by owner, name and compression; the last report of a name counts.

    `fresh` are those that were not registered before, `sums` the checksums of all that are spoken of.
    """

    latest: dict[_Key, int] = field(default_factory=dict)
    fresh: dict[int, Made] = field(default_factory=dict)
    sums: dict[int, str | None] = field(default_factory=dict)


class FileWriter:
    """Registers files that tasks made.

    Parameters
    ----------
    db
        The registry, for its filetypes.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known = db.filetypes()

    def register(self, conn: sa.Connection, facts: Facts) -> MadeFiles:
        """Insert the files that are not registered yet, with their metadata.

        Notes
        -----
        A fixed number of statements and one per metadata table; a file that an earlier try of the same task made with
        the same checksum is the same file.
        """
        done = MadeFiles()
        known = _made_before(conn, facts.made)
        new: dict[tuple[int, str, str, str | None], list[Made]] = {}
        for one in facts.made:
            new.setdefault((one.task, one.filename, one.compression, one.md5sum), []).append(one)
        fresh = [key for key in new if key not in known]
        known |= zip(fresh, take_ids(conn, desfile, len(fresh)) if fresh else (), strict=True)
        done.fresh = {known[key]: new[key][0] for key in fresh}
        for one in facts.made:
            key = one.task, one.filename, one.compression, one.md5sum
            done.latest[one.owner, one.filename, one.compression] = known[key]
            done.sums[known[key]] = one.md5sum
        self._insert(conn, done.fresh, facts)
        return done

    def _insert(self, conn: sa.Connection, fresh: Mapping[int, Made], facts: Facts) -> None:
        self._add_filetypes(conn, fresh.values(), facts)
        moment = now(conn.dialect.name)
        rows = [
            (number, *one[3:9], one.job.attempt, one.task, moment)  # from filename to sha256
            for number, one in fresh.items()
        ]
        insert_rows(conn, desfile, _DESFILE, rows)
        by_filetype: dict[str, list[int]] = {}
        for number, one in fresh.items():
            by_filetype.setdefault(one.filetype, []).append(number)
        for name, numbers in by_filetype.items():
            if name in self._known:
                self._insert_metadata(conn, self._known[name], {number: fresh[number] for number in numbers}, facts)
        insert_corners(conn, [(number, *one.corners) for number, one in fresh.items() if one.corners is not None])

    def _add_filetypes(self, conn: sa.Connection, made: Iterable[Made], facts: Facts) -> None:
        unknown = {one.filetype: one for one in made if one.filetype not in self._known}
        insert_missing(conn, ops_filetype, [{"filetype": name} for name in sorted(unknown)])
        for name, one in unknown.items():
            if name not in PLAIN_FILETYPES:
                text = (
                    f"the registry has no filetype {name}: {one.filename} and others like it are registered without"
                    " metadata (see dbb register-filetypes)"
                )
                facts.complain(one.job, one.owner, text)

    def _insert_metadata(self, conn: sa.Connection, filetype: Filetype, made: Mapping[int, Made], facts: Facts) -> None:
        table = self._db.table(filetype)
        if table is None:
            return
        rows = []
        converters = [(column.name.lower(), CONVERTERS[column.type]) for column in filetype.columns]
        for number, one in made.items():
            values: list[object] = [number]
            for name, convert in converters:
                value = one.metadata.get(name)
                try:
                    values.append(None if value is None else convert(value))
                except (ValueError, TypeError, OverflowError) as error:
                    values.append(None)
                    facts.complain(one.job, one.owner, f"{one.filename}, {name}: {error}, not {str(value)[:60]!r}")
            rows.append(values)
        insert_rows(conn, table, ["desfile_id", *(name for name, _ in converters)], rows)


def _made_before(conn: sa.Connection, made: Sequence[Made]) -> dict[tuple[int, str, str, str | None], int]:
    # of a job's first try nothing can be known
    tasks = list({one.task for one in made if one.job.tries > 1})
    if not tasks:
        return {}
    one, dialect = desfile.c, conn.dialect.name
    packed = sa.and_(task.c.name == COMPRESS, one_of(task.c.parent_task_id, tasks, dialect))
    maker = sa.case((task.c.name == COMPRESS, task.c.parent_task_id), else_=task.c.id).label("maker")
    rows = conn.execute(
        sa.select(one.id, maker, one.filename, one.compression, one.md5sum)
        .where(one.wgb_task_id == task.c.id, sa.or_(one_of(task.c.id, tasks, dialect), packed))
        .order_by(one.id.desc())
    )
    return {(row.maker, row.filename, row.compression, row.md5sum): row.id for row in rows}


def find_made(conn: sa.Connection, wanted: Iterable[_Key], made: MadeFiles) -> dict[_Key, int]:
    """Return the files of steps and jobs by owner, name and compression; of several the newest."""
    asked = dict.fromkeys(wanted)
    found = {key: made.latest[key] for key in asked if key in made.latest}
    missing = [key for key in asked if key not in found]
    if not missing:
        return found
    dialect = conn.dialect.name
    owners, names = list({key[0] for key in missing}), list({key[1] for key in missing})
    select = (
        sa.select(
            *(desfile.c[name] for name in ("id", "filename", "compression", "md5sum")), task.c.id, task.c.parent_task_id
        )
        .where(task.c.id == desfile.c.wgb_task_id, one_of(desfile.c.filename, names, dialect))
        .where(sa.or_(one_of(task.c.id, owners, dialect), one_of(task.c.parent_task_id, owners, dialect)))
        .order_by(desfile.c.id)
    )
    still = set(missing)
    for number, filename, compression, md5sum, *owners_of in conn.execute(select):
        for one in owners_of:
            if (one, filename, compression) in still:
                found[one, filename, compression] = number
                made.sums[number] = md5sum
    return found


def register_places(conn: sa.Connection, archives: Iterable[str], made: MadeFiles, facts: Facts) -> None:
    """Note in which archives files were put.

    A later try of a step replaces what an earlier one had put in a place. A place that holds another file otherwise
    keeps it, and the contradiction becomes a message.

    Notes
    -----
    At most four statements, whatever the number of files.
    """
    places = _places(conn, set(archives), made, facts)
    there = _at_places(conn, list(places))
    rows, moved = [], []
    for place, (one, number) in places.items():
        path, filename, compression, archive = place
        holder = there.get(place)
        if holder is None:
            rows.append((filename, path, compression, archive, number))
        elif holder.id != number and one.owner in holder.makers:
            if one.latest:
                row = (filename, path, compression, archive)
                moved.append({"new": number} | {f"its_{name}": value for name, value in zip(_PLACE, row, strict=False)})
        elif holder.id != number and holder.md5sum != (md5sum := made.sums.get(number)):
            _refuse(facts, one, holder.md5sum, md5sum)
    insert_rows(conn, file_archive_info, _PLACE, rows)
    if moved:
        this = sa.and_(*(file_archive_info.c[name] == sa.bindparam(f"its_{name}") for name in _PLACE[:4]))
        run_many(conn, sa.update(file_archive_info).where(this).values(desfile_id=sa.bindparam("new")), moved)


_Place = tuple[str, str, str, str]


def _places(conn: sa.Connection, archives: set[str], made: MadeFiles, facts: Facts) -> dict[_Place, tuple[Saved, int]]:
    """Return what was saved by path, name, compression and archive."""
    places: dict[_Place, tuple[Saved, int]] = {}
    files = find_made(conn, [(one.owner, one.filename, one.compression) for one in facts.saved], made)
    for one in facts.saved:
        number, problem = files.get((one.owner, one.filename, one.compression)), ""
        try:
            place = (*split_relpath(one.relpath, one.compression), one.archive)
        except UnsafePathError as error:
            problem = str(error)
        if one.archive not in archives:
            problem = f"the registry has no archive {one.archive} (see dbb archive add)"
        if number is None:
            problem = "it never told that it made this file"
        if problem or number is None:
            name = f"{one.filename}{one.compression}"
            facts.complain(one.job, one.owner, f"the job saved {name} as {one.relpath} in {one.archive}, but {problem}")
            continue
        other = places.setdefault(place, (one, number))
        if other[0].owner == one.owner:
            places[place] = one, number
        elif made.sums.get(other[1]) != made.sums.get(number):
            _refuse(facts, one, made.sums.get(other[1]), made.sums.get(number))
    return places


@dataclass(frozen=True, slots=True)
class _Holder:
    """The file that a place holds: its task and the step or job above that."""

    id: int
    md5sum: str | None
    makers: tuple[int | None, int | None]


def _at_places(conn: sa.Connection, places: Sequence[_Place]) -> dict[_Place, _Holder]:
    if not places:
        return {}
    place, dialect = file_archive_info.c, conn.dialect.name
    where = [place.path, place.filename, place.compression, place.archive_name]
    select = (
        sa.select(*where, desfile.c.id, desfile.c.md5sum, desfile.c.wgb_task_id, task.c.parent_task_id)
        .select_from(file_archive_info.join(desfile).outerjoin(task, task.c.id == desfile.c.wgb_task_id))
        .where(
            one_of(place.filename, list({one[1] for one in places}), dialect),
            one_of(place.path, list({one[0] for one in places}), dialect),
        )
    )
    rows = conn.execute(select)
    return {tuple(row[:4]): _Holder(row[4], row[5], (row[6], row[7])) for row in rows}


def _refuse(facts: Facts, one: Saved, first: str | None, md5sum: str | None) -> None:
    text = (
        f"{one.relpath} in {one.archive} is registered with md5sum {first}, but the job saved it with {md5sum}:"
        " the registry keeps the first (see dbb verify)"
    )
    facts.complain(one.job, one.owner, text)
