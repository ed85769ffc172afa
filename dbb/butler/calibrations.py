"""Which calibrations a job's exposures need: by date, detector and filter, exactly one of each type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dbb.butler.spec import CalibSpec
from dbb.errors import AmbiguousError, MissingError, NotFoundError
from dbb.filetypes import Filetype
from dbb.mapper import Dataset, Mapper, eras_of
from dbb.registry import Database
from dbb.registry.calibs import group_keys, validity_join, version_types
from dbb.registry.select import FIXED, FileQuery, describe_place, select_files

_Row = Sequence[Any]
_CHOICE = ("ccd", "filter")


class CalibrationFinder:
    """Collects what the exposures are, then chooses.

    Parameters
    ----------
    db, conn
        The registry.
    camera
        Says which calibration types there are, and which date of an exposure decides.
    era
        Which Butlers will read them.
    order
        All archives in order of preference.
    """

    def __init__(self, db: Database, conn: sa.Connection, camera: Mapper, era: str, order: Sequence[str]) -> None:
        self._db, self._conn, self._camera, self._order = db, conn, camera, tuple(order)
        self._types = {dataset.filetype: dataset for dataset in camera.calibration_types(eras_of(era))}
        self._date, self._keys = camera.date_column, camera.exposure_keys
        self._wanted: dict[tuple[Any, Any, str | None], str] = {}

    def note(self, exposure: Mapping[str, Any]) -> None:
        """Remember that calibrations must fit `exposure`."""
        date = exposure[self._date]
        wanted = (exposure["ccd"], exposure["filter"], None if date is None else str(date)[:10])
        if wanted not in self._wanted:
            self._wanted[wanted] = " ".join(f"{key}={exposure[key]}" for key in self._keys)

    def statements(self, calibs: CalibSpec) -> Iterator[tuple[Dataset, Filetype, sa.Select[Any]]]:
        """Give for each type the SELECT of the version's calibrations that may fit.

        Raises
        ------
        NotFoundError
            If the version, or a type asked for, is unknown.
        """
        there = set(version_types(self._conn, calibs.version))
        for name in calibs.types if calibs.types is not None else sorted(there & self._types.keys()):
            dataset = self._types.get(self._camera.filetype_name(name))
            if dataset is None:
                raise NotFoundError("calibration type", name, [one.name for one in self._types.values()])
            if dataset.filetype not in there:
                raise NotFoundError("calibration type", name, there, f"Version {calibs.version} has none of it")
            filetype = self._db.filetype(dataset.filetype)
            table = self._db.table(filetype)
            assert table is not None
            join = validity_join(filetype, table, calibs.version)
            query = FileQuery(filetype.name, archives=self._order)
            _, statement = select_files(self._db, self._conn, query, join)
            ccds = sorted({ccd for ccd, _, _ in self._wanted})
            yield dataset, filetype, statement.where(join[0].c.desfile_id.is_not(None), table.c.ccd.in_(ccds))

    def choose(self, filetype: Filetype, rows: Iterable[_Row], calibs: CalibSpec) -> Iterator[tuple[_Row, str, str]]:
        """Give each calibration that some exposure needs, with its first and last day.

        Raises
        ------
        MissingError
            If an exposure has none of this type.
        AmbiguousError
            If several fit.
        """
        groups: dict[tuple[Any, ...], list[_Row]] = {}
        names = [column.name for column in filetype.columns]
        keys = [key for key in group_keys(filetype) if key in _CHOICE]
        places = [FIXED + names.index(key) for key in keys]
        for row in rows:
            groups.setdefault(tuple(row[place] for place in places), []).append(row)
        filters = {group[keys.index("filter")] for group in groups} if "filter" in keys else None
        chosen: dict[int, _Row] = {}
        for (ccd, filter_, date), exposure in self._wanted.items():
            if calibs.types is None and filters is not None and filter_ not in filters:
                continue  # e.g. fringe frames exist for the red filters only
            group = tuple({"ccd": ccd, "filter": filter_}[key] for key in keys)
            row = self._one(filetype, groups.get(group, []), date, f"{exposure} ({filter_}, {date})", calibs.version)
            chosen[row[0]] = row
        for row in chosen.values():
            yield row, row[-2], row[-1]

    @staticmethod
    def _one(filetype: Filetype, rows: Sequence[_Row], date: str | None, exposure: str, version: str) -> _Row:
        if date is None:
            raise MissingError(f"exposure {exposure} has no date, so no calibration can be chosen")
        fitting = [row for row in rows if row[-2] <= date <= row[-1]]
        if not fitting:
            ranges = ", ".join(sorted(f"{row[-2]}..{row[-1]}" for row in rows)) or "none at all"
            raise MissingError(
                f"no {filetype.name} of version {version} fits exposure {exposure};"
                f" for its detector and filter there are: {ranges}"
            )
        if len(fitting) > 1:
            listed = "\n    ".join(f"{describe_place(row)} {row[-2]}..{row[-1]}" for row in fitting)
            raise AmbiguousError(f"several {filetype.name} of version {version} fit exposure {exposure}:\n    {listed}")
        return fitting[0]
