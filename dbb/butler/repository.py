"""A small reader of Gen2 repositories for people without the stack; it finds what the Butler finds.

It follows the configurations of a repository and its parents, the templates and the SQLite registries. It opens no data
file, unpickles nothing and runs no code that a repository names.
"""

from __future__ import annotations

import glob
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from dbb.butler.chain import CALIB_REGISTRY, Link, load_chain
from dbb.butler.lookup import RegistryFiles, Row
from dbb.butler.typedids import DataIdReader
from dbb.errors import (
    AmbiguousError,
    ConflictError,
    IntegrityError,
    MissingError,
    NotFoundError,
    UnsafePathError,
    UsageError,
)
from dbb.mapper import Dataset, Mapper, eras_of
from dbb.patterns import is_safe_path, safe_path
from dbb.storage import local_path, new_file

_SKY_KEYS = ("tract", "patch")  # the Butler never looks these up, and asks no registry by them
_BY_VISIT = {"filter", "expTime", "taiObs"}  # for these alone the Butler asks raw_visit by visit
_COMPRESSED = ("", ".gz", ".fz")


@dataclass(frozen=True, slots=True)
class _Layout:
    """A dataset type with one repository's overrides.

    `camera_keys` are the keys of the camera's own template, `chosen_by` the columns that a calibration is selected by.
    """

    dataset: Dataset
    camera_keys: tuple[str, ...]
    chosen_by: tuple[str, ...]


class Repository:
    """A Gen2 repository and its parents.

    Parameters
    ----------
    path
        The folder. ``JOB/out`` finds what the job was given through its parent ``JOB/in``.
    mapper
        The camera; by default that plug-in's whose Butler class the configuration names.
    era
        Whose templates are tried: ``2017``, ``2021`` or ``both`` (2021 first).

    Raises
    ------
    MissingError
        If the folder or one of its parents is no repository.
    NotFoundError
        If no plug-in has the camera.
    UsageError
        If a configuration cannot be used.

    Notes
    -----
    Data ids are given as keywords: ``visit=903334, ccd=16``. Numbers may be texts, a patch is ``8,6`` or ``8x6``, keys
    may be the camera's synonyms (``detector``). Registries stay open until `close` or the end of a ``with`` block.
    """

    def __init__(self, path: str | os.PathLike[str], mapper: Mapper | None = None, era: str = "both") -> None:
        self._eras = sorted(eras_of(era), reverse=True)
        self._chain = load_chain(Path(local_path(os.fspath(path))).absolute(), mapper)
        self._keys = DataIdReader(self.mapper)
        self._files = RegistryFiles()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Repository({str(self.root)!r})"

    def close(self) -> None:
        """Close the registries; a later question opens them again."""
        self._files.close()

    @property
    def root(self) -> Path:
        """The absolute path of the repository."""
        return self._chain[0].root

    @property
    def mapper(self) -> Mapper:
        """The camera."""
        return self._chain[0].mapper

    def get_uri(self, dataset: str, **data_id: object) -> str:
        """Return the absolute path of a dataset, in the first repository of the chain that has it.

        Raises
        ------
        MissingError
            If no repository has it; says why in each.
        IntegrityError
            If what is there is a link to nothing, or a registry cannot be read.
        AmbiguousError
            If a template with wildcards fits several files.
        NotFoundError
            If the camera has no such dataset type or key.
        """
        found = self._find(dataset, data_id)
        if not found.exists():
            raise IntegrityError(f"{found} is a link to {found.readlink()}, which is not there")
        return str(found)

    def exists(self, dataset: str, **data_id: object) -> bool:
        """Return whether a dataset can be read; a link to nothing cannot.

        Raises
        ------
        AmbiguousError, IntegrityError, NotFoundError
            If a template fits several files, a registry cannot be read, or a name is unknown, as `get_uri`.
        """
        try:
            return self._find(dataset, data_id).exists()
        except MissingError:
            return False

    def query_metadata(self, dataset: str, keys: str | Sequence[str], **data_id: object) -> list[tuple[object, ...]]:
        """Return the distinct values of `keys` that the registry has for a dataset type and a partial data id.

        Returns
        -------
        rows
            Tuples in the order of `keys`, sorted; of one value where `keys` is one text. They come from the first
            repository of the chain that has any. Whether files exist does not matter.

        Raises
        ------
        MissingError
            If no repository of the chain has a registry that can be asked this.
        NotFoundError
            If the camera has no such dataset type or key.
        """
        names = [self._keys.key(key) for key in ([keys] if isinstance(keys, str) else keys)]
        ids, reasons, answered = self._keys.read(data_id), [], False
        for link, layout in self._layouts(dataset):
            try:
                rows = self._rows(link, layout, names, ids)
            except MissingError as error:
                reasons.append(f"{link.root}: {error}")
                continue
            if rows:
                return [tuple(row[name] for name in names) for row in rows]
            answered = True
        if not answered:
            raise MissingError(
                f"no registry knows {dataset} for {_shown(data_id)}: {'; '.join(dict.fromkeys(reasons))}"
            )
        return []

    def subset(self, dataset: str, **data_id: object) -> list[dict[str, object]]:
        """Return the complete data ids that fit a partial one, whether or not files exist.

        Returns
        -------
        data_ids
            For exposures one for each row of the registry; otherwise the data id itself, which must be complete.

        Raises
        ------
        MissingError
            If keys are missing that no registry has.
        NotFoundError
            If the camera has no such dataset type or key.
        """
        ids = self._keys.read(data_id)
        keys = self._complete(dataset)
        if all(key in ids for key in keys):
            return [ids]
        return [ids | dict(zip(keys, row, strict=True)) for row in self.query_metadata(dataset, keys, **data_id)]

    def put(self, dataset: str, source: str | os.PathLike[str] | bytes, **data_id: object) -> str:
        """Copy a file, or write bytes, to the place of a dataset in this repository and return that place.

        Raises
        ------
        MissingError
            If the registry does not complete the data id, or `source` cannot be read.
        UnsafePathError
            If the place is not below the repository, be it through a link on the way.
        ConflictError
            If something is in the way that is not a file or link.

        Notes
        -----
        The file is written aside and renamed; a link at its place is replaced and what it points to is not touched.
        The Butler of 2021 writes calibrations below the repository and not its ``CALIB``; so does this, unless `era`
        is 2017.
        """
        link, layout = next(iter(self._layouts(dataset)))
        place = safe_path(self._place(link, layout, self._keys.read(data_id)), f"the place of {dataset}")
        base = link.calib_root if layout.dataset.is_calibration and layout.dataset.era == "2017" else link.root
        target = base / place
        if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(self.root)):
            raise UnsafePathError(f"{target} is not below {self.root}: a link on the way leads out of it")
        _write(target, source)
        return str(target)

    def _find(self, dataset: str, data_id: Mapping[str, object]) -> Path:
        """Return what is at the first place that has anything, be it a link to nothing: that hides later ones too."""
        ids, reasons = self._keys.read(data_id), []
        for link, layout in self._layouts(dataset):
            try:
                base, place = _base(link, layout.dataset), self._place(link, layout, ids)
            except MissingError as error:
                reasons.append(f"{link.root}: {error}")
                continue
            found = _search(base, place)
            if found is not None:
                return found
            reasons.append(f"{base / place} is not there")
        raise MissingError(f"no {dataset} for {_shown(data_id)}: {'; '.join(dict.fromkeys(reasons))}")

    def _complete(self, dataset: str) -> list[str]:
        """Return the keys of a complete data id; as in the Butler's, what is known of an exposure comes along."""
        first, mapper = next(layout for _, layout in self._layouts(dataset)), self.mapper
        # Parents have the camera's own template, whatever this repository's override asks for.
        keys = dict.fromkeys([*first.dataset.keys, *first.camera_keys])
        if not first.dataset.tables or not keys.keys() >= set(mapper.exposure_keys):
            return list(keys)
        more = [name for name in mapper.raw_columns if name in _BY_VISIT or name in mapper.visit_columns]
        return list(dict.fromkeys([*mapper.exposure_keys, *keys, *more]))

    def _layouts(self, name: str) -> Iterator[tuple[Link, _Layout]]:
        self.mapper.layouts(name, self._eras)
        for link in self._chain:
            try:
                known = link.mapper.layouts(name, self._eras)
            except NotFoundError:  # a parent may be of another camera
                continue
            called_so = {dataset.era for dataset in known if dataset.name == name}
            # Two types may share a filetype; a type's own name means that type wherever its era knows it.
            chosen = (dataset for dataset in known if dataset.name == name or dataset.era not in called_so)
            for dataset in sorted(chosen, key=lambda dataset: dataset.era, reverse=True):
                yield link, _with_overrides(link, dataset)

    def _place(self, link: Link, layout: _Layout, ids: Mapping[str, object]) -> str:
        """Return the relative path, completing the data id from the registries; MissingError if that is impossible."""
        template = layout.dataset.template
        missing = [key for key in layout.dataset.keys if key not in ids]
        values = dict(ids)
        if missing:
            rows = self._rows(link, layout, missing, ids)
            if len(rows) != 1:
                tables = " and ".join(layout.dataset.tables)
                raise MissingError(f"{len(rows)} rows of {tables} give {', '.join(missing)}, exactly one must")
            for key, value in rows[0].items():
                if isinstance(value, str) and not is_safe_path(value):
                    raise UnsafePathError(f"the registry of {link.root} has {key}={value!r}, which cannot be in a path")
            values |= rows[0]
        try:
            place = template % values
        except (KeyError, TypeError, ValueError) as error:
            raise MissingError(f"template {template!r} cannot be filled with {_shown(values)}: {error}") from error
        if place.startswith("/") or "\x00" in place:
            raise UnsafePathError(f"template {template!r} of {link.root} gives {place!r}; it must be relative")
        return place

    def _rows(self, link: Link, layout: _Layout, wanted: Sequence[str], ids: Mapping[str, object]) -> list[Row]:
        name, tables = layout.dataset.name, layout.dataset.tables
        sky = {key: ids.get(key) for key in _SKY_KEYS if key in wanted}
        asked = [key for key in dict.fromkeys(wanted) if key not in sky]
        absent = [key for key, value in sky.items() if value is None] + ([] if tables else asked)
        if absent:
            raise MissingError(f"{name} needs {', '.join(absent)} in the data id: no registry has it")
        if not asked:
            return [sky]
        ask = self._calibrations if layout.dataset.is_validity_ranged else self._exposures
        return [row | sky for row in ask(link, layout, asked, ids)]

    def _exposures(self, link: Link, layout: _Layout, asked: Sequence[str], ids: Mapping[str, object]) -> list[Row]:
        visit, *others = link.mapper.visit_columns
        tables = layout.dataset.tables
        if visit in ids and "raw" in tables and set(asked) <= _BY_VISIT.intersection(others):
            return self._files.select(_registry(link), ["raw_visit"], asked, {visit: ids[visit]})
        given = {key: value for key, value in ids.items() if key not in _SKY_KEYS}
        return self._files.select(_registry(link), tables, asked, given)

    def _calibrations(self, link: Link, layout: _Layout, asked: Sequence[str], ids: Mapping[str, object]) -> list[Row]:
        columns, date = link.mapper.visit_columns, link.mapper.date_column
        known = dict(ids)
        unknown = [key for key in layout.chosen_by if key not in ids]
        if not set(unknown) <= set(columns):
            raise MissingError(f"{layout.dataset.name} needs {', '.join(set(unknown) - set(columns))} in the data id")
        if unknown:
            of_visit = {key: value for key, value in ids.items() if key in columns}
            rows = self._files.select(_registry(link), ["raw_visit"], unknown, of_visit)
            if len(rows) != 1:
                raise MissingError(f"{len(rows)} rows of raw_visit give {', '.join(unknown)}, exactly one must")
            known |= rows[0]
        registry = link.calib_root / CALIB_REGISTRY
        if not os.path.lexists(registry):
            raise MissingError(f"it has no {registry}")
        equal = {key: known[key] for key in layout.chosen_by if key != date}
        within = (known[date], "validStart", "validEnd")
        return self._files.select(registry, layout.dataset.tables, asked, equal, within)


def _with_overrides(link: Link, dataset: Dataset) -> _Layout:
    entry = link.config.override(dataset.section, dataset.name)
    template, tables = entry.get("template", dataset.template), entry.get("tables", dataset.tables)
    tables = [tables] if isinstance(tables, str) else tables or ()
    if not isinstance(template, str) or not isinstance(tables, (list, tuple)):
        raise UsageError(f"the policy of {link.root} has no usable template and tables for {dataset.name}")
    # The Butler selects a calibration by the columns of the camera's own policy, whatever the override's template.
    of_exposure = tuple(key for key in dataset.keys if key in link.mapper.raw_columns)
    changed = replace(dataset, template=template, tables=tuple(str(table) for table in tables))
    return _Layout(changed, dataset.keys, (*of_exposure, link.mapper.date_column))


def _registry(link: Link) -> Path:
    if link.registry is None:
        raise MissingError("it has no registry.sqlite3 and inherits none, so the data id must be complete")
    return link.registry


def _base(link: Link, dataset: Dataset) -> Path:
    return link.calib_root if dataset.is_calibration else link.root


def _search(base: Path, place: str) -> Path | None:
    # As the Butler: templates may have wildcards, a bracket begins the number of an HDU, a dead link counts as a file.
    plain = place.partition("[")[0]
    for suffix in _COMPRESSED:
        if suffix and plain.endswith(suffix):
            continue
        found = sorted(glob.glob(plain + suffix, root_dir=base))  # noqa: PTH207  # Path.glob misses dead links
        if len(found) > 1:
            raise AmbiguousError(f"{base / plain} fits {len(found)} files: {', '.join(found[:3])}")
        if found:
            return base / found[0]
    return None


def _write(target: Path, source: str | os.PathLike[str] | bytes) -> None:
    if target.is_dir() and not target.is_symlink():
        raise ConflictError(f"{target} is a folder; nothing was written")
    with _opened(source) as stream:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConflictError(f"{target.parent} cannot be made: {error}") from error
        with new_file(target) as out:
            shutil.copyfileobj(stream, out)


def _opened(source: str | os.PathLike[str] | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return Path(local_path(os.fspath(source))).open("rb")
    except OSError as error:
        raise MissingError(f"{source!r} cannot be read: {error}") from error


def _shown(data_id: Mapping[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in data_id.items()) or "the empty data id"
