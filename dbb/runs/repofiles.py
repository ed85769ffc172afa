"""What a step reads through the repository beside its named inputs: calibrations, reference catalogues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dbb.mapper import Mapper
from dbb.pipeline.workflow import Instance

CALIBS, REFCATS = "calibs", "ref_cats"


@dataclass(frozen=True, slots=True)
class RepositoryFiles:
    """Finds in a manifest what the Butler would give a step that reads raws.

    Parameters
    ----------
    manifest
        Of the job's repository.
    camera
        Its camera.
    folder
        The link farm's place in the job.
    roots
        The URLs of archives by name.
    """

    manifest: Mapping[str, Any]
    camera: Mapper
    folder: str
    roots: Mapping[str, str]

    def inputs_of(self, instance: Instance) -> list[dict[str, Any]]:
        """Return the files as a job file has inputs; none for a step that tells no exposure."""
        visit, detector = self.camera.exposure_keys
        wanted = {key: instance.loop.get(key) for key in (visit, detector)}
        for exposure in self.manifest["exposures"]:
            if None not in wanted.values() and all(str(exposure[key]) == value for key, value in wanted.items()):
                return [*self._calibrations(exposure), *self._catalogues()]
        return []

    def _calibrations(self, exposure: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        day, keys = str(exposure[self.camera.date_column]), (self.camera.keys.detector, self.camera.keys.filter)
        seen = set()
        for entry in self.manifest["calibs"]:
            fits = all(entry["data_id"].get(key, exposure[key]) == exposure[key] for key in keys)
            if fits and entry["valid_start"] <= day <= entry["valid_end"] and entry["source"] not in seen:
                seen.add(entry["source"])  # both eras may have it, under two names
                yield self._input(CALIBS, entry["source"], entry["path"], entry)

    def _catalogues(self) -> Iterator[dict[str, Any]]:
        for catalogue in self.manifest["refcats"]:
            tars = {member["source"]: member["path"] for member in catalogue["members"]}
            for source, path in tars.items():
                yield self._input(REFCATS, source, path, {})

    def _input(self, nick: str, source: str, path: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        place = next(
            (
                {"archive": name, "relpath": source[len(root) + 1 :]}
                for name, root in self.roots.items()
                if source.startswith(f"{root}/")
            ),
            {},
        )
        facts = {key: entry[key] for key in ("filesize", "md5sum") if entry.get(key) is not None}
        return {
            "nick": nick,
            "filename": source.rpartition("/")[2],
            "fullname": f"{self.folder}/{path}",
            "source": {**place, **facts} if place else {},
        }
