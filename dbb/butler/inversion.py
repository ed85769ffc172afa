"""Butler templates inverted: a path below a repository → the dataset type and the data id that the Butler wrote it for.

A template is a fixed text with ``%``-fields, so it can be read backwards: whole numbers as the Butler formats them, a
patch, or a text without slash. A key that a template has twice must say the same twice. Whether a path has exactly one
reading is decided, not guessed: all templates are tried, and each with its fields as long and as short as possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dbb.butler.typedids import DataIdReader
from dbb.errors import AmbiguousError, MissingError, UsageError
from dbb.mapper import Dataset, Mapper, eras_of
from dbb.matching import Field, Matcher
from dbb.patch import butler_patch
from dbb.registry.relpaths import COMPRESSIONS

_FIELD = re.compile(r"%%|%\(([A-Za-z_]\w*)\)([0-9]*)([ds])", re.ASCII)
_TEXT = re.compile(r"[^/\[\]*?\\\x00-\x1f\x7f]+")
_PATCH = re.compile("[0-9]{1,6}[,x](?=[0-9])")
_PATCH_NUMBER = re.compile("[0-9]{1,6}")
_NUMBER = re.compile("[0-9]{1,19}")
_WIDEST = 18
_READ: Mapping[str, Callable[[str], object]] = {"int": int, "patch": butler_patch}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a path stands for.

    Parameters
    ----------
    dataset
        The dataset type; of two that are one filetype (a type renamed between eras), the first given.
    data_id
        Keys of the template with values of the camera's types; patches as the Butler spells them.
    compression
        ``.gz`` or ``.fz`` if the path has this behind the template's own name, else empty.
    """

    dataset: Dataset
    data_id: Mapping[str, object]
    compression: str = ""


class _Template:
    """One template ready to be matched; `is_below`, `prefix` and `suffix` are cheap tests that come first."""

    def __init__(self, dataset: Dataset, types: Mapping[str, str]) -> None:
        self.dataset = dataset
        self.kinds = {key: types.get(key, "str") for key in dataset.keys}
        folder, _, name = dataset.template.rpartition("/")
        self._what = f"the template {dataset.template!r} of {dataset.name}"
        self._folder, self._depth = self._matcher(folder, long=True), folder.count("/")
        self._both = [self._matcher(dataset.template, long=long) for long in (True, False)]
        self._refusal = ""
        fields = list(_fields(name))
        self.prefix = _literal(name[: fields[0].start()] if fields else name)
        self.suffix = _literal(name[fields[-1].end() :] if fields else name)

    def _matcher(self, template: str, *, long: bool) -> Matcher:
        return Matcher(_parts(template, self.kinds, self._what, long=long), self._what)

    def is_below(self, folder: str) -> bool:
        """Return whether a folder may hold the template's files."""
        # no field holds a slash
        return folder.count("/") == self._depth and self._match(self._folder, folder) is not None

    def readings(self, path: str) -> list[dict[str, object]]:
        """Return the longest and the shortest reading of a path, which are one where no other exists."""
        found: list[dict[str, object]] = []
        for matcher in self._both:
            texts = self._match(matcher, path)
            if texts is None:
                return []
            values = {key: _typed(kind, texts[key]) for key, kind in self.kinds.items()}
            found += [] if values in found else [values]
        return found

    def _match(self, matcher: Matcher, text: str) -> dict[str, str] | None:
        if self._refusal:
            raise UsageError(self._refusal)
        try:
            return matcher.match(text)
        except UsageError as error:
            self._refusal = str(error)  # other paths are not tried as long
            raise


class Inverter:
    """Reads paths backwards by the templates of one repository.

    Parameters
    ----------
    datasets
        Dataset types with the templates that hold in the repository; see `repository_datasets`.
    types
        Type of each key, as `dbb.butler.typedids.DataIdReader` has them.

    Notes
    -----
    Templates are compared with a folder once for all files in it, and with a file only where beginning and end of its
    name fit: 100 000 paths take some seconds.
    """

    def __init__(self, datasets: Iterable[Dataset], types: Mapping[str, str]) -> None:
        # One filetype under one template is one thing, whatever the eras call it.
        known = {(one.filetype, one.template): one for one in reversed(list(datasets))}
        self._templates = [_Template(dataset, types) for dataset in reversed(known.values())]
        self._by_folder: dict[str, list[_Template]] = {}

    def readings(self, path: str) -> list[Reading]:
        """Return all that a path can stand for: nothing, one thing, or several if the path is ambiguous.

        A name with ``.gz`` or ``.fz`` stands for the compressed file only if no template gives it as it is.
        """
        for compression in ("", *COMPRESSIONS):
            if path.endswith(compression) and (found := self._plain(path.removesuffix(compression), compression)):
                return found
        return []

    def _plain(self, path: str, compression: str) -> list[Reading]:
        folder, _, name = path.rpartition("/")
        templates = self._by_folder.get(folder)
        if templates is None:
            templates = [one for one in self._templates if one.is_below(folder)]
            self._by_folder[folder] = templates
        found: dict[tuple[object, ...], Reading] = {}
        for template in templates:
            if name.startswith(template.prefix) and name.endswith(template.suffix):
                for values in template.readings(path):
                    reading = Reading(template.dataset, values, compression)
                    found.setdefault((template.dataset.filetype, *sorted(values.items())), reading)
        return list(found.values())

    def read(self, path: str) -> Reading:
        """Return the one thing that a path stands for.

        Raises
        ------
        MissingError
            If no template gives such a path.
        AmbiguousError
            If several readings are possible; names them.
        """
        found = self.readings(path)
        if not found:
            raise MissingError("it fits no template of the camera or of the repository")
        if len(found) > 1:
            listed = " and ".join(_shown(reading) for reading in found)
            raise AmbiguousError(f"it fits several: {listed}")
        return found[0]


def inverter_of(
    mapper: Mapper, era: str, overrides: Mapping[str, str] | None = None, *, calibrations: bool | None = None
) -> Inverter:
    """Return what reads the paths of one repository of a camera.

    Parameters
    ----------
    mapper
        The camera.
    era
        Whose templates count: ``2017``, ``2021`` or ``both``.
    overrides
        Templates by dataset type that the repository's policy has in place of the camera's.
    calibrations
        True: only those of calibrations, which are below the calibration root. False: only the others. By default all:
        the Butler of 2021 writes calibrations below the repository itself.
    """
    datasets = repository_datasets(mapper, era, overrides or {})
    chosen = [one for one in datasets if calibrations is None or one.is_calibration == calibrations]
    return Inverter(chosen, DataIdReader(mapper).types)


def repository_datasets(mapper: Mapper, era: str, overrides: Mapping[str, str]) -> list[Dataset]:
    """Return the dataset types of a camera as a repository has them whose policy overrides some templates."""
    eras = eras_of(era)
    return [
        replace(dataset, template=overrides.get(dataset.name, dataset.template))
        for dataset in mapper.datasets
        if dataset.era in eras
    ]


def _fields(template: str) -> Iterable[re.Match[str]]:
    return (match for match in _FIELD.finditer(template) if match[1])


def _literal(text: str) -> str:
    return text.replace("%%", "%")


def _parts(template: str, kinds: Mapping[str, str], what: str, *, long: bool) -> Iterator[str | Field]:
    """Give the parts of a template, each field taking as much, or as little, as it can."""
    at = 0
    for match in _FIELD.finditer(template):
        yield template[at : match.start()]
        at = match.end()
        key, width, code = match.groups()
        if key is None:
            yield "%"
        else:
            yield Field(key, partial(_ends, _kind(kinds[key], code, width, what), long))
    yield template[at:]


def _kind(kind: str, code: str, width: str, what: str) -> Callable[[str, int], Sequence[int]]:
    """Return what gives the ends of a field, those of the longest readings first."""
    if code == "d" or kind == "int":
        digits = width.lstrip("0") if width.startswith("0") else ""
        if len(digits) > len(str(_WIDEST)) or int(digits or 1) > _WIDEST:
            raise UsageError(f"{what} cannot be used: no name has a number of {digits[:20]} digits")
        return partial(_int_ends, int(digits or 1))
    return _patch_ends if kind == "patch" else _text_ends


def _ends(kind: Callable[[str, int], Sequence[int]], long: bool, text: str, at: int) -> Sequence[int]:
    ends = kind(text, at)
    return ends if long else ends[::-1]


def _int_ends(digits: int, text: str, at: int) -> Sequence[int]:
    """As %07d writes: padded up to the width, above it without leading zeros."""
    match = _NUMBER.match(text, at)
    end = at if match is None else match.end()
    return range(at + digits if text.startswith("0", at) and end >= at + digits else end, at + digits - 1, -1)


def _patch_ends(text: str, at: int) -> Sequence[int]:
    match = _PATCH.match(text, at)
    second = None if match is None else _PATCH_NUMBER.match(text, match.end())
    return () if second is None else range(second.end(), second.start(), -1)


def _text_ends(text: str, at: int) -> Sequence[int]:
    match = _TEXT.match(text, at)
    return () if match is None else range(match.end(), at, -1)


def _typed(kind: str, text: str) -> object:
    read = _READ.get(kind)
    return text if read is None else read(text)


def _shown(reading: Reading) -> str:
    values = " ".join(f"{key}={value}" for key, value in reading.data_id.items())
    return f"{reading.dataset.name} ({values})" if values else reading.dataset.name
