"""Butler templates inverted: a path below a repository → the dataset type and the data id that the Butler wrote it for.

A template is a fixed text with ``%``-fields, so it can be read backwards: whole numbers as the Butler formats them, a
patch, or a text without slash. A key that a template has twice must say the same twice. Whether a path has exactly one
reading is decided, not guessed: all templates are tried, and each with its fields as long and as short as possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from dbb.butler.typedids import DataIdReader
from dbb.errors import AmbiguousError, MissingError, UsageError
from dbb.mapper import Dataset, Mapper, eras_of
from dbb.patch import butler_patch
from dbb.registry.relpaths import COMPRESSIONS

_FIELD = re.compile(r"%%|%\(([A-Za-z_]\w*)\)([0-9]*)([ds])", re.ASCII)
_TEXT = r"[^/\[\]*?\\\x00-\x1f\x7f]+"
_PATCH = "[0-9]{1,6}[,x][0-9]{1,6}"
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
    """One template ready to be matched; `folder`, `prefix` and `suffix` are cheap tests that come first."""

    def __init__(self, dataset: Dataset, types: Mapping[str, str]) -> None:
        self.dataset = dataset
        self.kinds = {key: types.get(key, "str") for key in dataset.keys}
        folder, _, name = dataset.template.rpartition("/")
        try:
            self.folder = re.compile(_regex(folder, self.kinds, long=True)) if folder else re.compile("")
            self._both = [re.compile(_regex(dataset.template, self.kinds, long=long)) for long in (True, False)]
        except (re.error, OverflowError) as error:  # a number as wide as no name is
            raise UsageError(f"the template {dataset.template!r} of {dataset.name} cannot be used: {error}") from error
        fields = list(_fields(name))
        self.prefix = _literal(name[: fields[0].start()] if fields else name)
        self.suffix = _literal(name[fields[-1].end() :] if fields else name)

    def readings(self, path: str) -> list[dict[str, object]]:
        """Return the longest and the shortest reading of a path, which are one where no other exists."""
        found: list[dict[str, object]] = []
        for regex in self._both:
            match = regex.fullmatch(path)
            if match is None:
                return []
            values = {key: _typed(kind, match[key]) for key, kind in self.kinds.items()}
            found += [] if values in found else [values]
        return found


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
    name fit: 100 000 paths take about a second.
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
            templates = [one for one in self._templates if one.folder.fullmatch(folder)]
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


def _regex(template: str, kinds: Mapping[str, str], *, long: bool) -> str:
    """Return the expression that a template's paths match, each field taking as much, or as little, as it can."""
    parts: list[str] = []
    seen: set[str] = set()
    at = 0
    for match in _FIELD.finditer(template):
        parts.append(re.escape(template[at : match.start()]))
        at = match.end()
        key, width, code = match.groups()
        if key is None:
            parts.append("%")
        elif key in seen:
            parts.append(f"(?P={key})")
        else:
            seen.add(key)
            parts.append(f"(?P<{key}>{_body(kinds[key], code, width, long=long)})")
    return "".join([*parts, re.escape(template[at:])])


def _body(kind: str, code: str, width: str, *, long: bool) -> str:
    lazy = "" if long else "?"
    if code == "d" or kind == "int":
        digits = int(width) if width.startswith("0") and width.strip("0") else 1
        # as %07d writes: padded up to the width, above it without leading zeros
        ways = [f"[1-9][0-9]{{{digits},18}}{lazy}", f"[0-9]{{{digits}}}"]
        return f"(?:{'|'.join(ways if long else reversed(ways))})"
    return _PATCH.replace("}", f"}}{lazy}") if kind == "patch" else _TEXT + lazy


def _typed(kind: str, text: str) -> object:
    read = _READ.get(kind)
    return text if read is None else read(text)


def _shown(reading: Reading) -> str:
    values = " ".join(f"{key}={value}" for key, value in reading.data_id.items())
    return f"{reading.dataset.name} ({values})" if values else reading.dataset.name
