"""Inputs into the archive near the machines: ahead of the jobs where they are known, and before each job begins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dbb.errors import DbbError
from dbb.pipeline.levels import ArchiveLevels
from dbb.registry import Database
from dbb.registry.archives import archive_order
from dbb.runs.copies import Place, StagedFile, find_elsewhere, find_staged, register_copies
from dbb.runs.transfers import Key, Transfer, Transfers
from dbb.storage import digest_file, is_local, local_path

_MOST_SHOWN = 5


class Prestage:
    """Sees to it that what jobs read lies in the target archive.

    Parameters
    ----------
    db
        The registry.
    levels
        The archives of the run, which has a target.
    roots
        The URLs of all archives.
    transfers
        What copies.
    given_up
        Whether nobody waits any more.
    """

    def __init__(
        self,
        db: Database,
        levels: ArchiveLevels,
        roots: Mapping[str, str],
        transfers: Transfers,
        given_up: Callable[[], bool],
    ) -> None:
        assert levels.target is not None
        self._db, self._roots, self._transfers, self._given_up = db, roots, transfers, given_up
        self._target, self._may_stay = levels.target, levels.inputs == "all"
        self._order = archive_order(roots, levels.prefers)
        self._known: dict[Place, StagedFile] = {}

    def begin(self, places: Sequence[Place]) -> None:
        """Let files be copied that jobs are going to read, in the order in which they need them."""
        self._find(places)
        self._transfers.add(
            self._transfer(place, file)
            for place in places
            if (file := self._known.get(place)) is not None and file.there is None
        )

    def localize(self, content: dict[str, Any]) -> None:
        """Wait until the target has all that a job file names, and let it name the copies there.

        Raises
        ------
        DbbError
            If a file cannot be copied.
        """
        sources = list(_sources(content, self._roots))
        moved = self._bring(dict.fromkeys(place for place, _ in sources))
        for place, name in sources:
            if (relpath := moved.get(place)) is not None:
                name(self._target, self._roots[self._target], relpath)

    def _bring(self, places: Collection[Place]) -> dict[Place, str]:
        """Return the paths in the target of the files at `places`, once they are there."""
        self._find(places)
        lacking: dict[Place, Transfer] = {}
        spoilt: dict[Place, StagedFile] = {}
        for place in places:
            file = self._known.get(place)
            if file is not None and file.there is None:
                lacking[place] = self._transfer(place, file)
            elif file is not None and not self._is_whole(file):
                spoilt[place] = file
        lacking |= self._again(spoilt)
        errors = self._copy(lacking)
        if errors and not self._may_stay:
            listed = "\n    ".join(errors[:_MOST_SHOWN])
            more = f"\n    and {len(errors) - _MOST_SHOWN} more" if len(errors) > _MOST_SHOWN else ""
            raise DbbError(f"{len(errors)} inputs cannot be copied to archive {self._target}:\n    {listed}{more}")
        known = ((place, self._known.get(place)) for place in places)
        return {place: file.there for place, file in known if file is not None and file.there is not None}

    def _copy(self, lacking: Mapping[Place, Transfer]) -> list[str]:
        """Copy files; return why some could not be."""
        if not lacking:
            return []
        by_key: dict[Key, list[Place]] = {}
        for place, one in lacking.items():
            by_key.setdefault(one.key, []).append(place)
        self._transfers.add(lacking.values(), first=True)
        self._transfers.wait(by_key, self._given_up)
        over = self._transfers.take(by_key)
        register_copies(self._db, [lacking[by_key[key][0]] for key, why in over.items() if not why])
        errors = []
        for key, places in by_key.items():
            if why := over.get(key, "it was given up"):
                errors.append(f"{places[0].relpath} ({places[0].archive}): {why}")
            for place in places:
                self._known[place] = replace(self._known[place], there=None if why else key[0])
        return errors

    def _find(self, places: Iterable[Place]) -> None:
        new = [place for place in dict.fromkeys(places) if place not in self._known]
        if new:
            self._known |= find_staged(self._db, new, self._target)

    def _transfer(self, place: Place, file: StagedFile) -> Transfer:
        facts = file.filesize, file.md5sum, file.sha256
        return Transfer(file.file, place.relpath, place.archive, self._target, *facts)

    def _is_whole(self, file: StagedFile) -> bool:
        """Whether the copy that the registry knows has its size; a file system for a while may have lost it."""
        if not is_local(self._roots[self._target]):
            return True
        try:
            size = self._path(file).stat().st_size
        except OSError:
            return False
        return file.filesize in {None, size}

    def _path(self, file: StagedFile) -> Path:
        return Path(local_path(self._roots[self._target]), file.there or "")

    def _again(self, spoilt: Mapping[Place, StagedFile]) -> dict[Place, Transfer]:
        """Return what replaces copies that are lost or spoilt; of those that nobody else has, none can."""
        if not spoilt:
            return {}
        others = find_elsewhere(self._db, [one.file for one in spoilt.values()], self._target, self._order)
        found = {}
        for place, file in spoilt.items():
            other = others.get(file.file)
            if other is None:
                if not self._may_stay:
                    raise DbbError(
                        f"{self._path(file)} is lost, or not the file that was registered, and no other archive has it"
                        f" (see dbb verify --archive {self._target})"
                    )
                continue
            path = self._path(file)
            wrong = frozenset({digest_file(path).md5sum}) if path.is_file() else frozenset[str]()
            found[place] = replace(self._transfer(other, file), replaces=wrong)
        return found


_Name = Callable[[str, str, str], None]
"""Puts another place into a job file: archive, its root, and the path there."""


def _sources(content: dict[str, Any], roots: Mapping[str, str]) -> Iterator[tuple[Place, _Name]]:
    """Give every place that a job file takes a file from, and what puts another in its stead."""
    for step in content["steps"]:
        for one in step["inputs"]:
            if source := one.get("source"):
                yield Place(source["archive"], source["relpath"]), _namer(source)
    if content["repository"] is not None:
        manifest = content["repository"]["manifest"]
        members = (member for catalogue in manifest["refcats"] for member in catalogue["members"])
        for entry in (*manifest["inputs"], *manifest["calibs"], *manifest["files"], *members):
            for key in ("index", "source"):  # a tar is of no use without its index
                if key in entry and (place := _place(entry[key], roots)) is not None:
                    yield place, _url_namer(entry, key)


def _namer(source: dict[str, Any]) -> _Name:
    return lambda archive, _, relpath: source.update(archive=archive, relpath=relpath)


def _url_namer(entry: dict[str, Any], key: str) -> _Name:
    return lambda _, root, relpath: entry.update({key: f"{root}/{relpath}"})


def _place(url: str, roots: Mapping[str, str]) -> Place | None:
    """Return the place that a URL names; of archives in one another the inner one has it."""
    fitting = [name for name, root in roots.items() if url.startswith(f"{root}/")]
    if not fitting:
        return None
    name = max(fitting, key=lambda one: len(roots[one]))
    return Place(name, url[len(roots[name]) + 1 :])
