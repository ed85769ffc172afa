"""A job repository from the registry: one SELECT per dataset type, its rows straight into the job's files."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb import __version__
from dbb.butler.build import Head, JobBuilder, Progress, RepoReport, build_job
from dbb.butler.calibrations import CalibrationFinder
from dbb.butler.camera import camera_layout, output_entries
from dbb.butler.spec import CalibSpec, InputSpec, RepoSpec
from dbb.errors import AmbiguousError, MissingError, NotFoundError, UsageError
from dbb.filetypes import Filetype
from dbb.mapper import Dataset, Mapper, eras_of
from dbb.patch import butler_patch
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry._tables import desfile, file_archive_info
from dbb.registry.archives import archive_order, archives
from dbb.registry.files import join_relpath, split_relpath
from dbb.registry.runs import Run, all_runs, full_run
from dbb.registry.select import FIXED, FileQuery, describe_place, resolve, select_files

_FETCH = 2_000
_Row = Sequence[Any]


def materialize_repo(
    registry: Database,
    root: str | os.PathLike[str],
    spec: RepoSpec,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RepoReport:
    """Lay out the Gen2 repository of one job at `root`, from the registry alone.

    Parameters
    ----------
    registry
        Knows the files.
    root
        The job's folder; it must not exist, and appears whole or not at all.
    spec
        What the job reads and writes.
    dry_run
        Find and check everything, write nothing.
    progress
        Called with the number of files staged so far.

    Returns
    -------
    RepoReport
        What there is.

    Raises
    ------
    NotFoundError
        If a mapper, dataset type, column, run, tag, version or archive is unknown.
    MissingError
        If an input, a fixed-name file or a calibration is not registered, or a place cannot be told.
    AmbiguousError
        If two files have one data id and no order of runs decides.
    IntegrityError
        If a file is absent or has another size or checksum than registered.
    ConflictError
        If `root` exists.

    Notes
    -----
    No input is opened unless it is copied. One SELECT per entry of ``inputs`` and per calibration type; memory grows
    by about 0.5 kB per input.
    """
    camera = plugins().mapper(spec.mapper)
    run = full_run(spec.outputs.run).values if spec.outputs else {}
    outputs = output_entries(camera, spec.era, spec.outputs.datasets, run) if spec.outputs else []
    created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    head = Head(camera.name, spec.era, spec.stage, created, __version__, camera_layout(camera, spec.era), outputs)
    with registry.read() as conn:
        planner = _Planner(registry, conn, camera, spec)
        with build_job(Path(root), head, dry_run=dry_run, progress=progress) as builder:
            for given in spec.inputs:
                planner.add_inputs(builder, given)
            if spec.calibs is not None:
                planner.add_calibrations(builder, spec.calibs)
            for file in spec.files:
                builder.add("files", planner.fixed_file(file.filename, file.as_path))
            return builder.finish()


@dataclass(frozen=True, slots=True)
class Place:
    """One Butler path of a dataset type: the template and the keys that it needs values for."""

    dataset: Dataset
    prefix: str
    needed: tuple[str, ...]
    values: Callable[[Mapping[str, Any]], Any]

    @classmethod
    def of(cls, dataset: Dataset) -> Place:
        """Prepare a dataset type."""
        keys = dataset.keys
        # itemgetter gives a bare value for one key and refuses none
        values = (
            (lambda known: ())
            if not keys
            else (lambda known: (known[keys[0]],))
            if len(keys) == 1
            else itemgetter(*keys)
        )
        return cls(dataset, "in/CALIB/" if dataset.is_calibration else "in/", keys, values)

    def path(self, known: Mapping[str, Any], describe: Callable[[], str]) -> str:
        """Return the path in the job for these values; a missing one is a MissingError."""
        if None in self.values(known):
            missing = next(key for key in self.needed if known[key] is None)
            raise MissingError(
                f"{describe()}: no value for {missing!r}, which its place {self.dataset.template!r} needs: register the"
                " raw exposure too, or give the value when registering the file"
            )
        return self.prefix + self.dataset.template % known


def places(camera: Mapper, name: str, era: str) -> list[Place]:
    """Return the places of a dataset type under the Butlers of `era`, each path once."""
    layouts = camera.layouts(name, eras_of(era))
    named = [dataset for dataset in layouts if dataset.name.lower() == name.lower()]
    by_template = {dataset.template: dataset for dataset in [*layouts, *named]}
    return [Place.of(dataset) for dataset in by_template.values()]


class _Planner:
    """Asks the registry for one job."""

    def __init__(self, db: Database, conn: sa.Connection, camera: Mapper, spec: RepoSpec) -> None:
        self._db, self._conn, self._camera, self._spec = db, conn, camera, spec
        self._roots = archives(conn)
        self._order = archive_order(self._roots, spec.archives)
        self._runs: dict[int, Run] | None = None
        self._placed: dict[str, int] = {}
        self._exposures: set[tuple[Any, ...]] = set()
        self._calibrations = CalibrationFinder(db, conn, camera, spec.era, self._order)
        self._raw_names = tuple(camera.raw_columns)
        self._exposure_key = itemgetter(*camera.exposure_keys)

    def run_text(self, number: int | None) -> str | None:
        if number is None:
            return None
        if self._runs is None:
            self._runs = all_runs(self._conn)
        return str(self._runs[number])

    def source(self, row: _Row) -> str:
        """Return the URL of a row's file."""
        archive, path = row[7], row[8]
        if path is None:
            raise MissingError(f"{describe_place(row)} is registered but kept in no archive, so it cannot be an input")
        return f"{self._roots[archive]}/{join_relpath(path, row[1], row[2])}"

    def add_inputs(self, builder: JobBuilder, given: InputSpec) -> None:
        """Stage the files that one entry of ``inputs`` asks for, with the exposures that they refer to."""
        spec, camera = self._spec, self._camera
        where_to = places(camera, given.dataset, spec.era)
        if where_to[0].dataset.is_validity_ranged:
            raise UsageError(
                f"{given.dataset} is a calibration: it is chosen by date, so give its version (--calibs VERSION)"
            )
        query = FileQuery(
            filetype=where_to[0].dataset.filetype,
            where=given.where,
            ids=given.id,
            runs=given.runs,
            overlaps=spec.overlaps,
            archives=self._order,
            binds=spec.binds,
        )
        filetype = self._db.filetype(query.filetype)
        join, joined = self._exposure_join(filetype)
        filetype, statement = select_files(self._db, self._conn, query, join)
        reader = _RowReader(filetype, joined, self._raw_names)
        found = 0
        with self._conn.execution_options(yield_per=_FETCH).execute(statement) as rows:
            for row in resolve(rows, filetype, unique=True):
                self._add_input(builder, row, reader, where_to)
                found += 1
        if not found:
            raise MissingError(f"no {filetype.name} fits {_asked(given)}: nothing to stage")

    def _exposure_join(self, filetype: Filetype) -> tuple[Any, list[str]]:
        """Return what joins the raw exposures to files that are of one, and the names that this gives."""
        camera = self._camera
        own = {column.name for column in filetype.columns}
        if filetype.name == camera.raw_filetype or not set(camera.exposure_keys) <= own:
            return None, []
        raw = self._db.filetypes().get(camera.raw_filetype)
        table = self._db.table(raw) if raw is not None else None
        if raw is None or table is None:
            return None, []
        names = [name for name in self._raw_names if name in raw.types]
        other = table.alias("exposure")
        return (other, [key.lower() for key in camera.exposure_keys], [other.c[name.lower()] for name in names]), names

    def _add_input(self, builder: JobBuilder, row: _Row, reader: _RowReader, where_to: Sequence[Place]) -> None:
        known = reader.known(row)
        run = self.run_text(row[6])
        source = self.source(row)
        entry: dict[str, Any] = {
            "dataset": "",
            "data_id": {key: known[key] for key in reader.keys},
            "run": run,
            "source": source,
            "path": "",
            "filesize": row[3],
            "md5sum": row[4],
        }
        if row[5] is not None:
            entry["sha256"] = row[5]
        for place in where_to:
            path = place.path(known, lambda: describe_place(row)) + row[2]
            if path in self._placed:
                if self._placed[path] != row[0]:
                    raise AmbiguousError(f"two files want to be {path}; the second is {describe_place(row)}")
                continue
            self._placed[path] = row[0]
            builder.add("inputs", entry | {"dataset": place.dataset.name, "path": path})
        if reader.has_exposure:
            self._add_exposure(builder, known, reader)

    def _add_exposure(self, builder: JobBuilder, known: Mapping[str, Any], reader: _RowReader) -> None:
        key = self._exposure_key(known)
        if key in self._exposures:
            return
        self._exposures.add(key)
        builder.add_exposure(reader.exposure(known))
        self._calibrations.note(known)

    def add_calibrations(self, builder: JobBuilder, calibs: CalibSpec) -> None:
        """Stage the calibrations that fit the exposures, by date, detector and filter."""
        for dataset, filetype, statement in self._calibrations.statements(calibs):
            place = Place.of(dataset)
            rows = resolve(self._conn.execute(statement), filetype, unique=False)
            for row, start, end in self._calibrations.choose(filetype, rows, calibs):
                values = dict(zip((column.name for column in filetype.columns), row[FIXED:], strict=False))
                entry = {
                    "dataset": dataset.name,
                    "data_id": {key: values[key] for key in filetype.keys},
                    "run": self.run_text(row[6]),
                    "source": self.source(row),
                    "path": place.path(values, lambda row=row: describe_place(row)) + row[2],  # type: ignore[misc]
                    "filesize": row[3],
                    "md5sum": row[4],
                    "calib_date": values["calibDate"],
                    "valid_start": start,
                    "valid_end": end,
                }
                builder.add("calibs", entry | ({"sha256": row[5]} if row[5] else {}))

    def fixed_file(self, name: str, as_path: str) -> dict[str, Any]:
        """Return the entry of a file that must have a fixed name."""
        path, filename, compression = split_relpath(name)
        place = file_archive_info
        statement = (
            sa.select(*(desfile.c[key] for key in ("id", "filename", "compression", "filesize", "md5sum", "sha256")))
            .add_columns(desfile.c.pfw_attempt_id, place.c.archive_name, place.c.path)
            .outerjoin(place, place.c.desfile_id == desfile.c.id)
            .where(desfile.c.filename == filename, desfile.c.compression == compression)
        )
        if "/" in name:
            statement = statement.where(place.c.path == path)
        rows = self._conn.execute(statement.order_by(desfile.c.id, place.c.archive_name)).all()
        if not rows:
            raise NotFoundError("file", name, hint="No registered file has this name")
        if len({row[0] for row in rows}) > 1:
            listed = "\n    ".join(dict.fromkeys(describe_place(row) for row in rows))
            raise AmbiguousError(
                f"several files are called {name}:\n    {listed}\nGive the relpath of the one you mean"
            )
        row = min(rows, key=lambda one: self._order.index(one.archive_name) if one.archive_name else len(self._order))
        entry = {"source": self.source(row), "path": f"in/{as_path}", "filesize": row[3], "md5sum": row[4]}
        return entry | ({"sha256": row[5]} if row[5] else {})


class _RowReader:
    """Turns a row of a SELECT into the values that templates, data ids and registries need."""

    def __init__(self, filetype: Filetype, joined: Sequence[str], raw_names: Sequence[str]) -> None:
        own = [column.name for column in filetype.columns]
        self._own, self._joined, self._raw = own, joined, raw_names
        self._end = FIXED + len(own)
        self.keys = filetype.keys
        self.has_exposure = {"visit", "ccd"} <= set(own) if not joined else True
        self._absent = dict.fromkeys(raw_names)
        self._patches = [column.name for column in filetype.columns if column.type == "patch"]

    def known(self, row: _Row) -> dict[str, Any]:
        """Return every value by its name, those of the raw exposure first, patches as the Butler spells them."""
        known: dict[str, Any] = self._absent | dict(zip(self._own, row[FIXED : self._end], strict=True))
        if self._joined:
            joined = zip(self._joined, row[self._end :], strict=True)
            known |= {name: value for name, value in joined if value is not None}
        for name in self._patches:
            known[name] = butler_patch(known[name])
        return known

    def exposure(self, known: Mapping[str, Any]) -> list[Any]:
        """Return the row of the job's table ``raw``."""
        return [known[name] for name in self._raw]


def _asked(given: InputSpec) -> str:
    parts = [f"where {given.where!r}"] if given.where else []
    parts += [f"id {text!r}" for text in given.id]
    parts += [f"in runs {', '.join(given.runs)}"] if given.runs else []
    return " and ".join(parts) or "without any condition"
