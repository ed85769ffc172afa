"""Which calibrations a job's exposures need: by date, detector and filter, exactly one of each type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from dbb.butler.places import Place
from dbb.butler.spec import CalibSpec
from dbb.errors import AmbiguousError, DbbError, MissingError, NotFoundError
from dbb.filetypes import Filetype
from dbb.mapper import Mapper, eras_of
from dbb.registry import Database
from dbb.registry.calibs import CalibrationType, Validity, certified_in, certified_ranges, version_types
from dbb.registry.select import FIXED, FileQuery, Wanted, describe_place, select_files

_Row = Sequence[Any]
Wish: TypeAlias = "tuple[Any, Any, str | None]"
"""What calibrations are chosen by: detector, filter and day."""


class CalibrationFinder:
    """Collects what the exposures are, then chooses.

    Parameters
    ----------
    db, conn
        The registry.
    camera
        Says which calibration types there are.
    era
        Which Butlers will read them.
    order
        All archives in order of preference.
    """

    def __init__(self, db: Database, conn: sa.Connection, camera: Mapper, era: str, order: Sequence[str]) -> None:
        self._db, self._conn, self._camera, self._order = db, conn, camera, tuple(order)
        self._types = {dataset.filetype: dataset for dataset in camera.calibration_types(eras_of(era))}
        self._keys = camera.keys
        self._exposure = camera.exposure_keys
        self._wanted: dict[Wish, str] = {}

    def note(self, exposure: tuple[object, ...], detector: object, filter_: object, date: object) -> Wish:
        """Remember that calibrations must fit an exposure, which `exposure` has the keys of; return what counts."""
        wanted = (detector, filter_, None if date is None else str(date)[:10])
        if wanted not in self._wanted:
            shown = (f"{key}={value}" for key, value in zip(self._exposure, exposure, strict=True))
            self._wanted[wanted] = " ".join(shown)
        return wanted

    def statements(self, calibs: CalibSpec) -> Iterator[tuple[Place, Filetype, sa.Select[Any]]]:
        """Give for each type its place and the SELECT of the version's calibrations that may fit.

        After the data id, each row has the values of the place's keys, the first and the last day.

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
            place = Place.of(dataset, self._camera.calib_root)
            certified, chosen = certified_in(filetype, calibs.version)
            columns = (*(table.c[key.lower()] for key in place.keys), certified.c.valid_start, certified.c.valid_end)
            query = FileQuery(filetype.name, archives=self._order)
            wanted = Wanted(columns, certified, ("desfile_id",))
            _, statement = select_files(self._db, self._conn, query, wanted)
            yield place, filetype, statement.where(*chosen, *self._narrow(certified, table))

    def _narrow(self, certified: sa.FromClause, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        detectors = sorted({detector for detector, _, _ in self._wanted})
        dates = sorted(date for _, _, date in self._wanted if date is not None)
        days = [certified.c.valid_start <= dates[-1], certified.c.valid_end >= dates[0]] if dates else []
        return [table.c[self._keys.detector.lower()].in_(detectors), *days]

    def choose(self, filetype: Filetype, rows: Iterable[_Row], calibs: CalibSpec) -> Iterator[tuple[_Row, str, str]]:
        """Give each calibration that some exposure needs, with its first and last day.

        Raises
        ------
        MissingError
            If an exposure has none of this type.
        AmbiguousError
            If several fit.
        """
        chosen = {row[0]: row for row in self.fit(filetype, rows, calibs).values()}
        for row in chosen.values():
            yield row, row[-2], row[-1]

    def fit(
        self, filetype: Filetype, rows: Iterable[_Row], calibs: CalibSpec, *, optional: bool = False
    ) -> dict[Wish, _Row]:
        """Return the calibration for each detector, filter and day that was noted.

        Parameters
        ----------
        filetype, rows
            Of one of `statements`.
        calibs
            As given to it.
        optional
            Leave out what has none.

        Raises
        ------
        MissingError, AmbiguousError
            As `choose`.
        """
        detector_key, filter_key = self._keys.detector, self._keys.filter
        keys = [key for key in filetype.keys if key in {detector_key, filter_key}]
        places = [FIXED + filetype.keys.index(key) for key in keys]
        groups: dict[tuple[Any, ...], list[_Row]] = {}
        for row in rows:
            groups.setdefault(tuple(row[place] for place in places), []).append(row)
        found: dict[Wish, _Row] = {}
        filters: set[object] = set()
        for wish, exposure in self._wanted.items():
            detector, filter_, date = wish
            group = tuple({detector_key: detector, filter_key: filter_}[key] for key in keys)
            fitting = [row for row in groups.get(group, ()) if date is not None and row[-2] <= date <= row[-1]]
            if not fitting and optional:
                continue
            if not fitting and calibs.types is None and filter_key in keys:
                place = keys.index(filter_key)
                filters = filters or {one.group[place] for one in self._ranges(filetype, calibs.version)}
                if filter_ not in filters:
                    continue  # e.g. fringe frames exist for the red filters only
            if len(fitting) != 1:
                raise self._wrong(filetype, group, fitting, f"{exposure} ({filter_}, {date})", date, calibs.version)
            found[wish] = fitting[0]
        return found

    def _ranges(self, filetype: Filetype, version: str) -> list[Validity]:
        table = self._db.table(filetype)
        assert table is not None
        return certified_ranges(self._conn, version, CalibrationType(filetype, table, self._keys.calib_date))

    def _wrong(
        self,
        filetype: Filetype,
        group: tuple[Any, ...],
        fitting: Sequence[_Row],
        exposure: str,
        date: str | None,
        version: str,
    ) -> DbbError:
        if fitting:
            listed = "\n    ".join(f"{describe_place(row)} {row[-2]}..{row[-1]}" for row in fitting)
            return AmbiguousError(
                f"several {filetype.name} of version {version} fit exposure {exposure}:\n    {listed}"
            )
        if date is None:
            return MissingError(f"exposure {exposure} has no date, so no {filetype.name} can be chosen for it")
        alike = [one for one in self._ranges(filetype, version) if one.group == group]
        ranges = ", ".join(sorted(f"{one.valid_start}..{one.valid_end}" for one in alike)) or "none at all"
        return MissingError(
            f"no {filetype.name} of version {version} fits exposure {exposure};"
            f" for its detector and filter there are: {ranges}"
        )
