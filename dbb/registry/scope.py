"""What the names of an expression mean: metadata columns, synonyms, runs, tags, overlaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from dbb.filetypes import Filetype
from dbb.keys import CameraKeys
from dbb.mapper import Mapper
from dbb.query.sql import Column
from dbb.registry._tables import (
    EVERY_CCD,
    blacklist,
    desfile,
    file_archive_info,
    image_corners,
    pfw_attempt,
    proctag,
    visit_tag,
)
from dbb.registry.relpaths import HERE, split_relpath
from dbb.registry.runs import parse_run

_ATTEMPT_TYPES = {"reqnum": "int", "unitname": "str", "attnum": "int"}
_FILE_TYPES = {
    "filename": "str",
    "filesize": "int",
    "md5sum": "str",
    "sha256": "str",
    "filetype": "str",
    "pfw_attempt_id": "int",
}
_CORNER_NAMES = tuple(column.name for column in image_corners.columns if column.name != "desfile_id")
OVERLAP_TYPES = {"tract": "int", "patch": "patch"}


class FileScope:
    """The names that an expression about one filetype may use.

    Parameters
    ----------
    filetype
        Whose files are looked for.
    table
        The (alias of the) filetype's metadata table, or None.
    files
        The (alias of) desfile.
    mapper
        Its camera, for synonyms and what keys are called; None if there is none, or none of its names is asked for.
    overlaps
        The (alias of) the overlap table that has ``tract`` and ``patch``, where the filetype has not.
    """

    def __init__(
        self,
        filetype: Filetype,
        table: sa.FromClause | None,
        files: sa.FromClause,
        mapper: Mapper | None,
        overlaps: sa.FromClause | None = None,
    ) -> None:
        self.filetype, self.table, self.files, self.mapper, self.overlaps = filetype, table, files, mapper, overlaps
        self._columns = {column.name.lower(): column for column in filetype.columns}
        keys = CameraKeys() if mapper is None else mapper.keys
        self._visit, self._detector = keys.visit.lower(), keys.detector.lower()

    def names(self) -> Sequence[str]:
        """Return every name, for error messages."""
        names = [column.name for column in self.filetype.columns]
        names += [synonym for synonym, name in self._synonyms().items() if name.lower() in self._columns]
        if self.overlaps is not None:
            names += [name for name in OVERLAP_TYPES if name not in self._columns]
        if self._has_visits():
            names += ["visit_tag", "blacklist"]
        return [*names, *_ATTEMPT_TYPES, "run", "tag", *_FILE_TYPES, "relpath", "archive", *_CORNER_NAMES]

    def _synonyms(self) -> dict[str, str]:
        return {} if self.mapper is None else self.mapper.synonyms

    def _has_visits(self) -> bool:
        return self.table is not None and self._visit in self._columns

    def column(self, name: str) -> Column | None:
        """Return what `name` stands for, or None."""
        name = name.lower()
        if name not in self._columns and not self._is_fixed(name) and name in self._synonyms():
            return self._synonym(name)
        if self.table is not None and name in self._columns:
            return Column(self.table.c[name], self._columns[name].type)
        if self.overlaps is not None and name in OVERLAP_TYPES:
            return Column(self.overlaps.c[name], OVERLAP_TYPES[name])
        if name in _FILE_TYPES:
            return Column(self.files.c[name], _FILE_TYPES[name])
        if name in _CORNER_NAMES:
            return Column(image_corners.c[name], "float", wrap=self._with_corners)
        return self._special(name)

    def _is_fixed(self, name: str) -> bool:
        return name in _FILE_TYPES or name in _ATTEMPT_TYPES or name in {"run", "tag", "relpath", "archive"}

    def _synonym(self, name: str) -> Column | None:
        assert self.mapper is not None
        column = self.column(self.mapper.synonyms[name])
        if column is None or name != "band":
            return column
        bands = self.mapper.bands

        def equals(value: object) -> sa.ColumnElement[bool]:
            return column.expression.in_([value, *(filter_ for filter_, band in bands.items() if band == value)])

        return Column(column.expression, column.type, equals=equals)

    def _special(self, name: str) -> Column | None:
        attempt = pfw_attempt
        if name in _ATTEMPT_TYPES:
            return Column(attempt.c[name], _ATTEMPT_TYPES[name], wrap=self._with_attempt)
        if name == "run":
            padded = sa.case((attempt.c.attnum < 10, "0"), else_="") + sa.cast(attempt.c.attnum, sa.Text)
            label = attempt.c.unitname + "_r" + sa.cast(attempt.c.reqnum, sa.Text) + "p" + padded
            return Column(label, "str", equals=_is_run, wrap=self._with_attempt)
        if name == "tag":
            return Column(proctag.c.tag, "str", wrap=self._with_tag)
        if name == "relpath":
            place = file_archive_info
            folder = sa.case((place.c.path == HERE, ""), else_=place.c.path + "/")
            return Column(
                folder + place.c.filename + place.c.compression, "str", equals=_is_relpath, wrap=self._with_place
            )
        if name == "archive":
            return Column(file_archive_info.c.archive_name, "str", wrap=self._in_archive)
        if name == "visit_tag" and self._has_visits():
            return Column(visit_tag.c.tag, "str", wrap=self._with_visit_tag)
        if name == "blacklist" and self._has_visits():
            return Column(blacklist.c.reason, "str", wrap=self._with_reason)
        return None

    def _with_attempt(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        return self._with_run(sa.select(pfw_attempt.c.id).where(condition))

    def _with_tag(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        return self._with_run(sa.select(proctag.c.pfw_attempt_id).where(condition))

    def _with_run(self, attempts: sa.Select[Any]) -> sa.ColumnElement[bool]:
        # a file without a run must be false here, not unknown, so that the negation holds for it
        attempt = self.files.c.pfw_attempt_id
        return sa.and_(attempt.is_not(None), attempt.in_(attempts))

    def _with_place(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        return self.files.c.id.in_(sa.select(file_archive_info.c.desfile_id).where(condition))

    def _in_archive(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        # asked file by file: an archive's name alone picks out nothing
        here = file_archive_info.c.desfile_id == self.files.c.id
        return sa.select(file_archive_info.c.path).where(here, condition).correlate(self.files).exists()

    def _with_corners(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        return self.files.c.id.in_(sa.select(image_corners.c.desfile_id).where(condition))

    def _with_visit_tag(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        assert self.table is not None
        visit = self.table.c[self._visit]
        return sa.and_(visit.is_not(None), visit.in_(sa.select(visit_tag.c.visit).where(condition)))

    def _with_reason(self, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        assert self.table is not None
        ccds = [EVERY_CCD, self.table.c[self._detector]] if self._detector in self._columns else [EVERY_CCD]
        same = sa.and_(blacklist.c.visit == self.table.c[self._visit], blacklist.c.ccd.in_(ccds))
        return sa.select(blacklist.c.visit).where(same, condition).correlate(self.table).exists()


def _is_run(value: object) -> sa.ColumnElement[bool]:
    run = parse_run(str(value))
    unit = [pfw_attempt.c.unitname == run.unitname] if run.unitname else []
    return sa.and_(pfw_attempt.c.reqnum == run.reqnum, pfw_attempt.c.attnum == run.attnum, *unit)


def _is_relpath(value: object) -> sa.ColumnElement[bool]:
    path, filename, compression = split_relpath(str(value))
    place = file_archive_info
    return sa.and_(place.c.filename == filename, place.c.path == path, place.c.compression == compression)


def needs_overlaps(filetype: Filetype, names: frozenset[str], keys: Callable[[str], CameraKeys]) -> bool:
    """Whether `names` hold a tract or patch that only an overlap table can answer for `filetype`.

    `keys` tells what a filetype's camera calls its keys; it is asked only where that matters.
    """
    own = {column.name.lower() for column in filetype.columns}
    return bool(names & overlap_names(filetype)) and keys(filetype.name).visit.lower() in own


def overlap_names(filetype: Filetype) -> frozenset[str]:
    """Return which of ``tract`` and ``patch`` are no column of `filetype` itself."""
    return frozenset(OVERLAP_TYPES) - {column.name.lower() for column in filetype.columns}


def overlap_ties(
    filetype: Filetype, keys: CameraKeys, table: sa.FromClause, pairs: sa.FromClause
) -> list[sa.ColumnElement[bool]]:
    """Return what ties overlap rows to files: visit and detector; the visit alone for files of several detectors."""
    own = {column.name.lower() for column in filetype.columns}
    names = {"visit": keys.visit.lower(), "ccd": keys.detector.lower()}
    return [table.c[name] == pairs.c[column] for column, name in names.items() if name in own]


def desfile_alias() -> sa.FromClause:
    """Return desfile under a name of its own, for a subquery."""
    return desfile.alias("overlapping_file")
