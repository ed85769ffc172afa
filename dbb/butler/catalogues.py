"""Which files of a reference catalogue a job needs: those of the part of the sky that its inputs cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dbb.butler.linker import source_problem
from dbb.butler.spec import RefcatSpec
from dbb.errors import IntegrityError, MissingError
from dbb.filetypes import Filetype
from dbb.mapper import Mapper
from dbb.members import STALE, Member
from dbb.patch import stored_patch
from dbb.refcats.rows import Catalogue, all_members, catalogue, general_members, named_members
from dbb.refcats.shards import shard_name
from dbb.refcats.tars import SIDECAR, is_compressed
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._tables import image_corners, overlap, overlap_version
from dbb.registry.find import StoredFile, find_files, places_of
from dbb.registry.overlaps import find_version
from dbb.sky import Corners
from dbb.storage import is_local, local_path

if TYPE_CHECKING:
    from dbb.sky.polygons import Floats

WHOLE = "take the catalogue whole ([[refcats]] with whole = true in a job file)"
_Key = tuple[Any, ...]


class CatalogueFinder:
    """Collects what the inputs cover, then chooses.

    Parameters
    ----------
    db, conn
        The registry.
    camera
        Whose raws have the corners of exposures.
    roots, order
        Root of each archive, and their order of preference.
    overlaps
        The overlap version that says where patches are.

    Notes
    -----
    A number of SELECTs that does not grow with the inputs.
    """

    def __init__(
        self,
        db: Database,
        conn: sa.Connection,
        camera: Mapper,
        roots: Mapping[str, str],
        order: Sequence[str],
        overlaps: str | None,
    ) -> None:
        self._db, self._conn, self._camera = db, conn, camera
        self._roots, self._order, self._overlaps = roots, order, overlaps
        self._patches: set[tuple[int, str | None]] = set()
        self._sources: dict[str, Filetype] = {}
        self._polygons: list[Floats] | None = None

    def note_source(self, filetype: Filetype) -> None:
        """Remember a filetype of inputs, whose corners count for exposures with a raw that has none."""
        self._sources[filetype.name] = filetype

    def note(self, data_id: Mapping[str, Any]) -> None:
        """Remember an input that belongs to a tract, perhaps to a patch, and to no exposure."""
        if data_id.get("tract") is not None:
            patch = data_id.get("patch")
            self._patches.add((data_id["tract"], None if patch is None else stored_patch(str(patch))))

    def entry(self, given: RefcatSpec, exposures: Iterable[_Key]) -> dict[str, Any]:
        """Return the manifest's entry for a catalogue.

        Parameters
        ----------
        given
            Which one, and how much of it.
        exposures
            The exposures of the job, by their keys.

        Raises
        ------
        NotFoundError
            If there is no such catalogue.
        MissingError
            If its tar is in no archive, what the inputs cover cannot be told, or the catalogue has nothing there.
        IntegrityError
            If the tar has another size than registered.
        """
        chosen = catalogue(self._conn, given.name)
        place = self._place(chosen)
        members = all_members(self._conn, chosen.tar_id) if given.whole else self._needed(given, chosen, exposures)
        source = f"{self._roots[place.archive or '']}/{place.relpath}"
        if is_local(source) and (problem := source_problem(local_path(source), place.filesize)):
            raise IntegrityError(f"{problem}; {STALE}" if Path(local_path(source)).is_file() else problem)
        seek = {"index": self._seek_index(place)} if is_compressed(source) else {}
        folder = f"in/ref_cats/{given.name}/"
        return {
            "name": given.name,
            "members": [
                {
                    "path": folder + one.name.removeprefix(chosen.folder),
                    "source": source,
                    "offset": one.position,
                    "size": one.size,
                    **seek,
                }
                for one in members
            ],
        }

    def _place(self, chosen: Catalogue) -> StoredFile:
        kept = [one for one in places_of(self._conn, chosen.tar_id) if one.archive is not None]
        if not kept:
            raise MissingError(f"the tar of reference catalogue {chosen.name!r} is kept in no archive")
        return min(kept, key=lambda one: self._order.index(one.archive or ""))

    def _seek_index(self, place: StoredFile) -> str:
        found = find_files(self._conn, f"{place.relpath}{SIDECAR}", place.archive)
        if not found:
            raise MissingError(
                f"{place} is compressed and its seek index is not registered in that archive: run"
                " 'dbb refcat add --reindex' on this copy"
            )
        return f"{self._roots[place.archive or '']}/{place.relpath}{SIDECAR}"

    def _needed(self, given: RefcatSpec, chosen: Catalogue, exposures: Iterable[_Key]) -> list[Member]:
        from dbb.sky.htm import trixels_near  # numpy, for jobs with catalogues only

        if self._polygons is None:
            self._polygons = self._region(set(exposures))
        if not self._polygons:
            raise MissingError(
                f"nothing among the inputs says which part of {given.name} the job needs: add raws or other exposures,"
                f" or {WHOLE}"
            )
        trixels = trixels_near(self._polygons, chosen.depth, given.margin)
        shards = named_members(self._conn, chosen, [shard_name(trixel) for trixel in trixels])
        if not shards:
            shown = ", ".join(map(str, trixels[:4])) + (" …" if len(trixels) > 4 else "")
            raise MissingError(
                f"{given.name} has no shard where the inputs are (HTM depth {chosen.depth}, trixels {shown}): it does"
                " not reach there; choose another catalogue"
            )
        return sorted(general_members(self._conn, chosen) + shards, key=lambda one: one.position)

    def _region(self, exposures: set[_Key]) -> list[Floats]:
        """Return the outlines of all that the inputs cover."""
        outlines: list[Floats] = []
        if self._patches:
            outlines, more = self._patch_region()
            exposures = exposures | more
        return outlines + (self._outlines(exposures) if exposures else [])

    def _outlines(self, exposures: set[_Key]) -> list[Floats]:
        """Return the outlines of exposures, from the corners of their raws, or of inputs where a raw has none."""
        outlines: list[Floats] = []
        missing = exposures
        raw = self._db.filetypes().get(self._camera.raw_filetype)
        first = {} if raw is None else {raw.name: raw}
        for filetype in (first | self._sources).values():
            if missing:
                found, missing = self._corners(filetype, missing)
                outlines += found
        if missing:
            raise self._without_corners(missing)
        return outlines

    def _corners(self, filetype: Filetype, exposures: set[_Key]) -> tuple[list[Floats], set[_Key]]:
        """Return the outlines of the exposures whose corners files of one type have, and the other exposures."""
        import numpy as np

        from dbb.sky.polygons import corner_polygons

        table, keys = self._db.table(filetype), self._camera.exposure_keys
        # a file of several detectors has the visit alone
        picked = [n for n, key in enumerate(keys) if key in filetype.types]
        if table is None or not picked:
            return [], exposures
        ties = [table.c[keys[n].lower()] for n in picked]
        wanted = {tuple(exposure[n] for n in picked) for exposure in exposures}
        chosen = [one_of(tie, sorted({key[n] for key in wanted}), self._db.dialect) for n, tie in enumerate(ties)]
        corners = [image_corners.c[name] for name in Corners.__slots__]
        statement = (
            sa.select(*ties, *corners)
            .join(image_corners, image_corners.c.desfile_id == table.c.desfile_id)
            .where(*chosen, *(corner.is_not(None) for corner in corners))
        )
        width = len(ties)
        rows = [row for row in self._conn.execute(statement) if tuple(row[:width]) in wanted]
        if not rows:
            return [], exposures
        there = {tuple(row[:width]) for row in rows}
        missing = {exposure for exposure in exposures if tuple(exposure[n] for n in picked) not in there}
        return list(corner_polygons(np.array([row[width:] for row in rows], dtype=float))), missing

    def _without_corners(self, missing: set[_Key]) -> MissingError:
        keys = self._camera.exposure_keys
        one = " ".join(f"{key}={value}" for key, value in zip(keys, min(missing), strict=True))
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return MissingError(
            f"the raw of exposure {one}{others} has no corners in the registry, so the shards that it needs cannot"
            f" be told: register the raw with its corners (dbb ingest-files, or columns ra_cent to decc4 of dbb"
            f" ingest-table), or {WHOLE}"
        )

    def _patch_region(self) -> tuple[list[Floats], set[_Key]]:
        """Return the outlines of patches by the sky map; without one, the exposures that overlap them."""
        tract, patch = min(self._patches, key=str)
        shown = f"tract={tract}" + (f" patch={patch}" if patch else "")
        try:
            version = find_version(self._conn, self._overlaps).id
        except MissingError:
            raise MissingError(
                f"inputs of {shown} say nothing about the sky without an overlap version that has a sky map (dbb"
                f" overlaps compute --skymap FILE): load one, or {WHOLE}"
            ) from None
        text = self._conn.scalar(sa.select(overlap_version.c.skymap).where(overlap_version.c.id == version))
        if text is not None:
            return self._by_skymap(text), set()
        pairs = sa.select(overlap.c.tract, overlap.c.patch, overlap.c.visit, overlap.c.ccd).where(
            overlap.c.overlap_version_id == version,
            one_of(overlap.c.tract, sorted({one for one, _ in self._patches}), self._db.dialect),
        )
        rows = [row for row in self._conn.execute(pairs) if {(row.tract, row.patch), (row.tract, None)} & self._patches]
        covered = {(row.tract, row.patch) for row in rows} | {(row.tract, None) for row in rows}
        bare = self._patches - covered
        if bare:
            tract, patch = min(bare, key=str)
            raise MissingError(
                f"inputs of tract={tract}" + (f" patch={patch}" if patch else "") + " say nothing about the sky: the"
                f" overlap version has neither a sky map nor rows for it; load one that has, or {WHOLE}"
            )
        return [], {(row.visit, row.ccd) for row in rows}

    def _by_skymap(self, text: str) -> list[Floats]:
        from dbb.sky.skymap import parse_skymap

        skymap = parse_skymap(text, "the sky map of the overlap version")
        outlines = []
        for number, patch in sorted(self._patches, key=str):
            tract = skymap.tract(number)
            outlines.append(tract.outer if patch is None else tract.patch(patch))
        return outlines
