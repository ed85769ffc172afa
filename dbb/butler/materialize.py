"""A job repository from the registry: one SELECT per dataset type, its rows straight into the job's files."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb import __version__
from dbb.butler.build import build_job
from dbb.butler.calibrations import CalibrationFinder
from dbb.butler.camera import camera_layout, output_entries
from dbb.butler.catalogues import CatalogueFinder
from dbb.butler.entries import CollectedEntries, Entries
from dbb.butler.exposures import ExposureRows
from dbb.butler.head import Head, Progress, RepoReport
from dbb.butler.packed import PackedFiles
from dbb.butler.places import Place, places
from dbb.butler.spec import CalibSpec, InputSpec, RefcatSpec, RepoSpec
from dbb.errors import AmbiguousError, MissingError, UsageError
from dbb.filetypes import Filetype
from dbb.patterns import butler_spelling, is_safe_path, safe_path
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry.archives import archive_order, archives
from dbb.registry.find import find_file
from dbb.registry.prepared import KeptWanted, prepare_files
from dbb.registry.relpaths import join_relpath
from dbb.registry.runs import full_run
from dbb.registry.select import (
    FIXED,
    FileQuery,
    Wanted,
    describe_place,
    overlaps_used,
    resolve,
    run_text,
)

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
        If an input, a fixed-name file or a calibration is not registered, a place cannot be told, or a reference
        catalogue has nothing where the inputs are or it is not known where that is.
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
    head = _head(spec)
    with registry.read() as conn:
        planner = _Planner(registry, conn, spec)
        with build_job(Path(root), head, dry_run=dry_run, progress=progress) as builder:
            planner.add_all(builder)
            return replace(builder.finish(), overlaps=planner.overlaps)


def plan_repo(registry: Database, spec: RepoSpec) -> dict[str, Any]:
    """Return the manifest of a job repository that somebody else will make, on another machine or later.

    Nothing is written, and no file is looked for: whoever makes it will see whether all are there.

    Raises
    ------
    NotFoundError, MissingError, AmbiguousError
        As `materialize_repo`.
    """
    entries = CollectedEntries()
    with registry.read() as conn:
        _Planner(registry, conn, spec).add_all(entries)
    return entries.manifest(_head(spec))


def _head(spec: RepoSpec) -> Head:
    camera = plugins().mapper(spec.mapper)
    run = full_run(spec.outputs.run).values if spec.outputs else {}
    outputs = output_entries(camera, spec.era, spec.outputs.datasets, run) if spec.outputs else []
    created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return Head(camera.name, spec.era, spec.stage, created, __version__, camera_layout(camera, spec.era), outputs)


class _Planner:
    """Asks the registry for one job."""

    def __init__(self, db: Database, conn: sa.Connection, spec: RepoSpec) -> None:
        camera = plugins().mapper(spec.mapper)
        self._db, self._conn, self._camera, self._spec = db, conn, camera, spec
        self._roots = archives(conn)
        self._order = archive_order(self._roots, spec.archives)
        self.overlaps: str | None = None
        self._placed: dict[str, int] = {}
        self._exposures: set[tuple[Any, ...]] = set()
        self._calibrations = CalibrationFinder(db, conn, camera, spec.era, self._order)
        self._catalogues = CatalogueFinder(db, conn, camera, self._roots, self._order, spec.overlaps)
        self._packed = PackedFiles(conn)
        self._rows, names = ExposureRows(camera), list(camera.raw_columns)
        chosen_by = (camera.keys.detector, camera.keys.filter, camera.date_column)
        self._choice = itemgetter(*(names.index(name) for name in chosen_by))

    def add_all(self, builder: Entries) -> None:
        """Give `builder` everything that the repository is to hold."""
        for given in self._spec.inputs:
            self.add_inputs(builder, given)
        if self._spec.calibs is not None:
            self.add_calibrations(builder, self._spec.calibs)
        for refcat in self._spec.refcats:
            builder.add_refcat(self.catalogue(refcat))
        for file in self._spec.files:
            builder.add("files", self.fixed_file(file.filename, file.as_path))

    def source(self, row: _Row) -> dict[str, Any]:
        """Return what an entry says of where a row's file is: its URL, or that of the tar that holds it."""
        archive, path = row[7], row[8]
        if path is None:
            raise MissingError(f"{describe_place(row)} is registered but kept in no archive, so it cannot be an input")
        relpath = join_relpath(path, row[1], row[2])
        # ingest refuses such paths, but a registry may have been written by somebody else
        return self._source(row[0], archive, relpath if is_safe_path(relpath) else safe_path(relpath, "relpath"))

    def _source(self, file: int, archive: str, relpath: str) -> dict[str, Any]:
        path, extent = self._packed.place(file, archive, relpath)
        return {"source": f"{self._roots[archive]}/{path}", **extent}

    def add_inputs(self, builder: Entries, given: InputSpec) -> None:
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
            files=given.files,
        )
        filetype = self._db.filetype(query.filetype)
        exposure = self._rows.are_of(filetype)
        if exposure:
            self._catalogues.note_source(filetype)
        names = [key for place in where_to for key in place.keys] + (self._rows.names if exposure else [])
        wanted = KeptWanted(
            (self._camera.name, *names, exposure), lambda: self._wanted(filetype, names, exposure=exposure)
        )
        if (version := overlaps_used(self._db, self._conn, query)) is not None:
            self.overlaps = version.way
        found = 0
        with closing(prepare_files(self._db, self._conn, query, wanted).rows(self._conn)) as rows:
            for row in self._packed.noted(resolve(rows, filetype, unique=True)):
                self._add_input(builder, filetype, row, where_to, exposure=exposure)
                found += 1
        if not found:
            raise MissingError(f"no {filetype.name} fits {_asked(given)}: nothing to stage")

    def _wanted(self, filetype: Filetype, names: Sequence[str], *, exposure: bool) -> Wanted:
        """Return what gives the values called `names`: of the raw exposure first, patches as the Butler spells them."""
        table, camera = self._db.table(filetype), self._camera
        raw = self._db.filetypes().get(camera.raw_filetype) if exposure else None
        raw_table = self._db.table(raw) if raw is not None and raw.name != filetype.name else None
        joined = None if raw_table is None else raw_table.alias("exposure")

        def value(name: str) -> sa.ColumnElement[Any]:
            known: list[sa.ColumnElement[Any]] = []
            if joined is not None and name.lower() in joined.c:
                known.append(joined.c[name.lower()])
            if table is not None and name in filetype.types:
                own = table.c[name.lower()]
                known.append(sa.func.replace(own, "x", ",") if filetype.types[name] == "patch" else own)
            return sa.func.coalesce(*known) if len(known) > 1 else known[0] if known else sa.null()

        # a raw of several detectors has the visit alone
        tied = set(filetype.types) & (set(raw.types) if raw is not None else set())
        ties = tuple(key.lower() for key in camera.exposure_keys if key in tied)
        return Wanted(tuple(value(name) for name in names), joined, ties)

    def _add_input(
        self, builder: Entries, filetype: Filetype, row: _Row, where_to: Sequence[Place], *, exposure: bool
    ) -> None:
        at = FIXED + len(filetype.keys)
        data_id = dict(zip(filetype.keys, row[FIXED:at], strict=True))
        if "patch" in data_id:
            data_id = butler_spelling(data_id)
        for place in where_to:
            end = at + len(place.keys)
            path = place.path(row[at:end], row[2], lambda: describe_place(row))
            at = end
            if self._placed.setdefault(path, row[0]) != row[0]:
                raise AmbiguousError(f"two files want to be {path}; the second is {describe_place(row)}")
            if builder.has(path):
                continue
            builder.add("inputs", self._entry(row, path, place.dataset.name, data_id))
        if not exposure:
            self._catalogues.note(data_id)
        else:
            values = row[at:]
            for one in self._rows.of_file(values, lambda: describe_place(row)) if self._rows.several else (values,):
                self._add_exposure(builder, one)

    def _entry(self, row: _Row, path: str, dataset: str, data_id: Mapping[str, Any]) -> dict[str, Any]:
        entry = {
            "dataset": dataset,
            "data_id": data_id,
            "run": run_text(row),
            **self.source(row),
            "path": path,
            "filesize": row[3],
            "md5sum": row[4],
        }
        if row[5] is not None:
            entry["sha256"] = row[5]
        return entry

    def _add_exposure(self, builder: Entries, values: Sequence[Any]) -> None:
        key = self._rows.key(values)
        if key not in self._exposures:
            self._exposures.add(key)
            builder.add_exposure(values)
            self._calibrations.note(key, *self._choice(values))

    def add_calibrations(self, builder: Entries, calibs: CalibSpec) -> None:
        """Stage the calibrations that fit the exposures, by date, detector and filter."""
        for place, filetype, statement in self._calibrations.statements(calibs):
            at = FIXED + len(filetype.keys)
            rows = self._packed.noted(resolve(self._conn.execute(statement), filetype, unique=False))
            for row, start, end in self._calibrations.choose(filetype, rows, calibs):
                data_id = dict(zip(filetype.keys, row[FIXED:at], strict=True))
                values = row[at : at + len(place.keys)]
                path = place.path(values, row[2], partial(describe_place, row))
                entry = self._entry(row, path, place.dataset.name, data_id)
                dates = {"calib_date": data_id[self._camera.keys.calib_date], "valid_start": start, "valid_end": end}
                builder.add("calibs", entry | dates)

    def catalogue(self, given: RefcatSpec) -> dict[str, Any]:
        """Return the entry of a reference catalogue, for what the inputs so far cover."""
        return self._catalogues.entry(given, self._exposures)

    def fixed_file(self, name: str, as_path: str) -> dict[str, Any]:
        """Return the entry of a file that must have a fixed name."""
        found = find_file(self._conn, name, self._order)
        if found.archive is None or found.relpath is None:
            raise MissingError(f"{found} is registered but kept in no archive, so it cannot be an input")
        self._packed.ask([found.id])
        entry = self._source(found.id, found.archive, found.relpath)
        entry |= {"path": f"in/{as_path}", "filesize": found.filesize, "md5sum": found.md5sum}
        return entry | ({"sha256": found.sha256} if found.sha256 else {})


def _asked(given: InputSpec) -> str:
    parts = [f"where {given.where!r}"] if given.where else []
    parts += [f"id {text!r}" for text in given.id]
    parts += [f"in runs {', '.join(given.runs)}"] if given.runs else []
    return " and ".join(parts) or "without any condition"
