"""Data ids as people write them, turned into what the Butler looks up and formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from dbb.errors import NotFoundError, UnsafePathError, UsageError
from dbb.filetypes import CONVERTERS
from dbb.mapper import Mapper
from dbb.patch import butler_patch
from dbb.patterns import is_safe_path

_FORMAT = re.compile(r"%\((\w+)\)[0-9]*([ds])")
_TYPES = {"int": "int", "integer": "int", "double": "float", "real": "float", "float": "float"}


class DataIdReader:
    """Knows the keys of one camera, their types and their other names."""

    def __init__(self, mapper: Mapper) -> None:
        self.mapper = mapper

    @cached_property
    def types(self) -> dict[str, str]:
        """Type of every key that a template or the registry of exposures has."""
        found = {
            key: "int" if code == "d" else "str"
            for dataset in self.mapper.datasets
            for key, code in _FORMAT.findall(dataset.template)
        }
        columns = {name: _TYPES.get(kind.lower(), "str") for name, kind in self.mapper.raw_columns.items()}
        return {**found, "tract": "int", "patch": "patch", **columns}

    def key(self, name: str) -> str:
        """Return the camera's own name of a key.

        Raises
        ------
        NotFoundError
            If the camera has no such key.
        """
        key = self.mapper.synonyms.get(name, name)
        if key not in self.types:
            raise NotFoundError("data id key", name, {*self.types, *self.mapper.synonyms})
        return key

    def read(self, data_id: Mapping[str, object]) -> dict[str, object]:
        """Return a data id with the camera's keys and types, patches spelled ``8,6``.

        Raises
        ------
        NotFoundError
            If the camera has no such key.
        UsageError
            If a value has the wrong type, or two keys that mean the same differ.
        UnsafePathError
            If a text could lead out of a folder or would be read as a pattern.
        """
        ids: dict[str, object] = {}
        for name, value in data_id.items():
            key = self.key(name)
            typed = self._typed(name, self.types[key], value)
            if ids.setdefault(key, typed) != typed:
                raise UsageError(f"the data id has {key}={ids[key]!r} and {name}={value!r}, which mean the same key")
        return ids

    def _typed(self, name: str, kind: str, value: object) -> object:
        if value is None:
            raise UsageError(f"the data id has no value for {name}")
        try:
            typed = CONVERTERS[kind](self._filter_of(str(value)) if name == "band" else value)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"the data id has {name}={value!r}: {error}") from error
        if kind == "patch":
            return butler_patch(str(typed))
        if isinstance(typed, str) and ("/" in typed or not is_safe_path(typed)):
            raise UnsafePathError(f"the data id has {name}={value!r}, which cannot be a part of a path")
        return typed

    def _filter_of(self, band: str) -> str:
        found = [name for name, of in self.mapper.bands.items() if of == band] or [band]
        if len(found) > 1:
            raise UsageError(f"it is the band of {' and '.join(found)}; give filter=")
        return found[0]
