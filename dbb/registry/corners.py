"""Which exposures overlap a patch, from the corners of their images: a coarse index in SQL, an exact test after it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

from dbb.errors import MissingError
from dbb.filetypes import Filetype
from dbb.keys import CameraKeys
from dbb.query.bounds import Box, Boxes
from dbb.registry._connect import compile_once, rows_table, run_compiled
from dbb.registry._tables import image_corners
from dbb.registry.database import Database

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from sqlalchemy.sql.compiler import SQLCompiler

    from dbb.sky.skymap import SkyMap
    from dbb.sky.tracts import Tract

    Floats: TypeAlias = npt.NDArray[np.float64]
    _Patch: TypeAlias = tuple[Tract, tuple[int, int], str]

OverlapRow: TypeAlias = tuple[int, str, int, int]
_BATCH = 50_000
_FEW_PATCHES = 200  # more are found by going through all images
_CORNERS = tuple(f"{axis}c{corner}" for corner in (1, 2, 3, 4) for axis in ("ra", "dec"))
NO_CORNERS = (
    "no exposure has corners in the registry, so what overlaps a patch cannot be found: ingest files with their corners"
    " (ra_cent … decc4), or load a table of overlaps with 'dbb overlaps load'"
)


@dataclass(frozen=True, slots=True)
class _Source:
    """A metadata table that says which exposures images are; `raw` is that of the raws, which come first."""

    table: sa.Table
    keys: CameraKeys
    raw: sa.Table | None

    def exposures(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Return the SELECT of visit and detector of images, and `columns`, where no raw has corners instead."""
        own = self._exposure(self.table)
        statement = sa.select(*own, *columns).where(self.table.c.desfile_id == image_corners.c.desfile_id)
        # the exact test needs both: an overlap is of one visit and one detector
        statement = statement.where(*(column.is_not(None) for column in own))
        if self.raw is None:
            return statement
        raw, theirs = self.raw.alias("raw_exposure"), image_corners.alias("raw_corners")
        same = [one == other for one, other in zip(self._exposure(raw), own, strict=True)]
        better = sa.select(raw.c.desfile_id).where(*same, theirs.c.desfile_id == raw.c.desfile_id)
        return statement.where(~better.correlate(self.table).exists())

    def _exposure(self, table: sa.FromClause) -> list[Any]:
        return [table.c[key.lower()] for key in (self.keys.visit, self.keys.detector)]


def live_overlaps(db: Database, conn: sa.Connection, filetype: Filetype, skymap: str, boxes: Boxes) -> list[OverlapRow]:
    """Return tract, patch, visit and detector of the overlaps of exposures that lie in any of `boxes`.

    Parameters
    ----------
    db, conn
        The registry, and the connection to ask.
    filetype
        Whose files are looked for: where its exposures have no raw with corners, its own corners count.
    skymap
        The sky map, as TOML.
    boxes
        Tracts and patches.

    Raises
    ------
    NotFoundError
        If a box is of a tract, or a patch of it, that the sky map does not have.
    MissingError
        If no image has corners.

    Notes
    -----
    One statement tells which classes of the index are in use; then one reads the candidates of each of the raws and of
    `filetype`. Where more than 200 patches come into question all images are read, 50 000 at a time.
    """
    sources = _sources(db, filetype)
    classes = _classes(conn)
    if not classes:
        raise MissingError(NO_CORNERS)
    check_places(skymap, boxes)
    sky = parsed_skymap(skymap)
    patches = _patches(sky, boxes)
    if patches is None:
        found = (row for source in sources for _, rows in _all_overlaps(conn, source, sky) for row in rows)
        return [row for row in found if any(_holds(box, row) for box in boxes)]
    return _near(conn, sources, classes, patches)


def computed_overlaps(db: Database, conn: sa.Connection, skymap: str) -> Iterator[tuple[int, list[OverlapRow]]]:
    """Give the overlaps of all exposures with corners in batches: number of images so far, and rows.

    An exposure counts with the corners of its raw, or of its other files where that has none.
    """
    sky, done = parsed_skymap(skymap), 0
    for source in _sources(db, None):
        for images, rows in _all_overlaps(conn, source, sky):
            done += images
            yield done, rows


@lru_cache(maxsize=8)
def parsed_skymap(text: str) -> SkyMap:
    """Return a sky map that the registry keeps."""
    from dbb.sky.skymap import parse_skymap

    return parse_skymap(text, "the registry's sky map")


def _sources(db: Database, filetype: Filetype | None) -> list[_Source]:
    """Return where exposures' corners are found: the raws, then `filetype`, or all if None; each table once."""
    return db.kept(("corner sources", filetype and filetype.name), lambda: _make_sources(db, filetype))


def _make_sources(db: Database, filetype: Filetype | None) -> list[_Source]:
    filetypes = db.filetypes()
    asked = list(filetypes.values()) if filetype is None or not _is_exposure(db, filetype) else [filetype]
    sources: dict[str, _Source] = {}
    for one in asked:
        camera = db.mapper(one.name)
        raw = None if camera is None else filetypes.get(camera.raw_filetype)
        if raw is not None and not _is_exposure(db, raw):
            raw = None
        raw_table = None if raw is None else db.table(raw)
        for kind, better in ((raw, None), (one, raw_table)):
            table = None if kind is None else db.table(kind)
            if kind is not None and table is not None and _is_exposure(db, kind) and table is not better:
                sources.setdefault(table.name, _Source(table, db.keys(kind.name), better))
    return list(sources.values())


def _is_exposure(db: Database, filetype: Filetype) -> bool:
    keys, own = db.keys(filetype.name), {column.name.lower() for column in filetype.columns}
    return filetype.table is not None and {keys.visit.lower(), keys.detector.lower()} <= own


def _classes(conn: sa.Connection) -> list[int]:
    """Return the classes of size that images in the registry have."""
    return [number for (number,) in run_compiled(conn, _classes_used(conn.dialect), {})]


# Making these statements takes longer than the databases need to answer them.
@lru_cache(maxsize=8)
def _classes_used(dialect: sa.Dialect) -> SQLCompiler:
    from dbb.sky.cells import CLASS_BITS

    cell, bits = image_corners.c.cell, sa.literal(CLASS_BITS, sa.Integer)
    # from each class's first cell to the next one's, without reading what lies between
    found = sa.select(sa.func.min(cell).op(">>")(bits).label("class")).cte("found", recursive=True)
    following = sa.select(sa.func.min(cell)).where(cell >= (found.c["class"] + 1).op("<<")(bits)).scalar_subquery()
    found = found.union_all(sa.select(following.op(">>")(bits)).where(found.c["class"].is_not(None)))
    return compile_once(sa.select(found.c["class"]).where(found.c["class"].is_not(None)), dialect)


@lru_cache(maxsize=64)
def _candidates_of(source: _Source, dialect: sa.Dialect) -> SQLCompiler:
    given = rows_table(None, ("first", "last"), dialect.name)
    within = image_corners.c.cell.between(given.c.first, given.c.last)
    return compile_once(source.exposures(*(image_corners.c[name] for name in _CORNERS)).where(within), dialect)


def check_places(skymap: str, boxes: Boxes) -> None:
    """See to it that tracts and patches that are asked for by name are in a sky map of the registry.

    Raises
    ------
    NotFoundError
        If one is not.
    """
    sky = parsed_skymap(skymap)
    for box in boxes:
        if box.tract is not None:
            tract = sky.tract(box.tract)
            if box.patches is not None and len(box.patches) == 1:
                tract.place(next(iter(box.patches)))


def _holds(box: Box, row: OverlapRow) -> bool:
    return box.has_tract(row[0]) and (box.patches is None or row[1] in box.patches)


def _patches(sky: SkyMap, boxes: Boxes) -> list[_Patch] | None:
    """Return the patches in the boxes, or None if there are many."""
    wanted: dict[tuple[int, str], _Patch] = {}
    ids = sky.tract_ids()
    for box in boxes:
        if box.tracts is None and box.patches is None:
            return None
        numbers = [box.tract] if box.tract is not None else [number for number in ids if box.has_tract(number)]
        if len(numbers) > _FEW_PATCHES:
            return None
        for number in numbers:
            tract = sky.tract(number)
            names = tract.patches() if box.patches is None else sorted(box.patches)
            places = {name: tract.place(name) for name in names if tract.has(name)}
            if len(wanted) + len(places) > _FEW_PATCHES:
                return None
            wanted.update({(number, name): (tract, place, name) for name, place in places.items()})
    return list(wanted.values())


def _near(
    conn: sa.Connection, sources: Sequence[_Source], classes: Sequence[int], patches: Sequence[_Patch]
) -> list[OverlapRow]:
    from dbb.sky.cells import cell_ranges
    from dbb.sky.htm import merged_ranges

    circles = [tract.circle(*place) for tract, place, _ in patches]
    ranges = merged_ranges(one for circle in circles for number in classes for one in cell_ranges(*circle, number))
    rows: list[OverlapRow] = []
    for source in sources:
        found = run_compiled(conn, _candidates_of(source, conn.dialect), {"rows": json.dumps(ranges)})
        polygons = _polygons(found, 2)
        for tract, place, name in patches:
            hits = tract.overlapping(*place, polygons).nonzero()[0].tolist()
            rows += [(tract.id, name, found[hit][0], found[hit][1]) for hit in hits]
    return rows


def _all_overlaps(conn: sa.Connection, source: _Source, sky: SkyMap) -> Iterator[tuple[int, list[OverlapRow]]]:
    """Give the overlaps of all images of a source in batches, with the number of images in each."""
    import numpy as np

    number, last = image_corners.c.desfile_id, -1
    images: Sequence[Sequence[Any]]
    statement = source.exposures(number, *(image_corners.c[name] for name in _CORNERS))
    statement = statement.where(image_corners.c.cell.is_not(None)).order_by(number).limit(_BATCH)
    while images := conn.execute(statement.where(number > last)).all():
        exposures = np.array([(image[0], image[1]) for image in images], dtype=np.int64)
        found, tracts, patches = sky.overlaps(_polygons(images, 3))
        visits, ccds = exposures[found].T.tolist()
        yield len(images), list(zip(tracts.tolist(), patches.tolist(), visits, ccds, strict=True))
        last = images[-1][2]


def _polygons(rows: Sequence[Sequence[Any]], first: int) -> Floats:
    """Return the outlines of images whose corners stand in rows from the column `first` on."""
    import numpy as np

    from dbb.sky.polygons import unit_vectors

    values = np.fromiter(chain.from_iterable(rows), dtype=np.float64).reshape(len(rows), first + len(_CORNERS))
    return unit_vectors(values[:, first::2], values[:, first + 1 :: 2])
