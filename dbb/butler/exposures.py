"""Rows of a job's table ``raw``, from what the registry knows of the exposures that an input refers to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from dbb.errors import MissingError, UsageError
from dbb.filetypes import Filetype
from dbb.mapper import Mapper


class ExposureRows:
    """Knows the columns of one camera.

    Parameters
    ----------
    camera
        The camera; where its files hold several detectors, a file stands for as many exposures.
    """

    def __init__(self, camera: Mapper) -> None:
        self._keys, self._detectors = camera.exposure_keys, camera.detectors
        columns = list(camera.raw_columns)
        self.names = columns if self._detectors is None else [*columns, self._detectors.column]
        self.key = itemgetter(*(columns.index(key) for key in self._keys))
        if self._detectors is not None:
            self._is_integer = camera.raw_columns[self._keys[1]] == "int"
            self._place = columns.index(self._keys[1])
            self._same = [columns.index(name) for name in self._detectors.detector]
            self._hdu = columns.index(self._detectors.hdu)

    def are_of(self, filetype: Filetype) -> bool:
        """Whether files of this type refer to exposures."""
        visit, detector = self._keys
        several = self._detectors is not None and self._detectors.column in filetype.types
        return visit in filetype.types and (detector in filetype.types or several)

    @property
    def several(self) -> bool:
        """Whether a file may stand for several rows; otherwise its values are the one row."""
        return self._detectors is not None

    def of_file(self, values: Sequence[Any], describe: Callable[[], str]) -> Sequence[Sequence[Any]]:
        """Return the rows that the values of `names` stand for.

        Raises
        ------
        MissingError
            If nothing says which detectors a file holds; `describe` says of which file.
        UsageError
            If what says it has another form than ``detector:HDU``.
        """
        assert self._detectors is not None
        *known, text = values
        pairs = _pairs(text, self._is_integer) if text is not None else {}
        detector, counted = known[self._place], self._detectors.known
        if counted is not None:
            pairs = {one: hdu for one, hdu in pairs.items() if one in counted}
        if detector is None and not pairs:
            raise MissingError(f"{describe()}: its column {self._detectors.column} does not say which detectors it has")
        return [self._row(known, one, pairs.get(one)) for one in (pairs if detector is None else [detector])]

    def _row(self, known: Sequence[Any], detector: object, hdu: int | None) -> list[Any]:
        row = list(known)
        for place in self._same:
            row[place] = detector
        row[self._hdu] = hdu
        return row


@lru_cache(maxsize=4096)
def _pairs(text: str, is_integer: bool) -> dict[Any, int]:
    try:
        pairs = [pair.split(":") for pair in text.split()]
        return {int(detector) if is_integer else detector: int(hdu) for detector, hdu in pairs}
    except ValueError as error:
        raise UsageError(f"{text[:60]!r} does not say which HDU holds which detector: expected 1:1 2:2") from error
