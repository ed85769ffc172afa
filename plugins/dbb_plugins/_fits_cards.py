"""The cards of a FITS header: plain ones are read by hand, astropy sees only the others."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CARD = 80
_COMMENTARY = {"", "COMMENT", "HISTORY", "CONTINUE", "END"}
# A keyword of ordinary cards; those of distortions may be parts of one record.
_PLAIN_KEY = re.compile(r"(?!CONTINUE|CPDIS|CQDIS|D[PQ]|D2IM)[A-Z0-9_-]+")
_SIMPLE_VALUE = re.compile(
    r" *(?:([+-]?[0-9]+)|([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=E))(?:E[+-]?[0-9]+)?)|([TF])|'((?:[^':]|:(?! ))*)')"
    r" *(?:/[^\x00-\x1f\x7f]*)?"
)


class Values(Mapping[str, object]):
    """The values of cards that can be read, each when it is asked for: of most files only a few are."""

    def __init__(self, cards: Mapping[str, Any]) -> None:
        self._cards = cards
        self._known: dict[str, object] = {}

    def __getitem__(self, key: str) -> object:
        if key not in self._known:
            self._known[key] = _card_value(self._cards[key])
        if self._known[key] is None:
            raise KeyError(key)
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._cards if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _card_value(card: Any) -> object:
    """Return the value of a card, a text or astropy's, or None if it has none that can be read."""
    if isinstance(card, str):
        match = _SIMPLE_VALUE.fullmatch(card, 10)
        if match is not None:
            integer, real, logical, text = match.groups()
            if integer is not None:
                return int(integer)
            if real is not None:
                return float(real)
            return logical == "T" if logical is not None else text.rstrip()
    from astropy.io.fits.card import Undefined
    from astropy.io.fits.verify import VerifyError

    with contextlib.suppress(VerifyError, ValueError):
        value: object = astropy_card(card).value
        return None if isinstance(value, Undefined) else value
    return None


def astropy_card(card: Any) -> Any:
    """Return a card as astropy has it."""
    from astropy.io import fits

    return fits.Card.fromstring(card) if isinstance(card, str) else card


@dataclass(frozen=True, slots=True)
class Header:
    """Cards of one HDU and those values that can be read, by key; of a key given twice the first counts.

    A card is a text of 80 characters, or astropy's where a header holds cards of unusual form.
    """

    cards: Mapping[str, Any]
    values: Mapping[str, object]

    def number(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int):
            raise ValueError(f"its card {key} is missing or no integer")
        return value

    @property
    def extension(self) -> str:
        return str(self.values.get("XTENSION", "")).strip()

    @property
    def is_compressed(self) -> bool:
        return self.extension == "BINTABLE" and self.values.get("ZIMAGE") is True

    @property
    def is_image(self) -> bool:
        return self.extension == "IMAGE" or self.is_compressed

    @property
    def data_length(self) -> int:
        """Bytes of the data, without the fill up to the next block."""
        axes = [self.number(f"NAXIS{axis}") for axis in range(1, min(self.number("NAXIS"), 999) + 1)]
        if not axes:
            return 0
        groups, extra = self.number("GCOUNT", 1), self.number("PCOUNT", 0)
        if min(*axes, groups, extra) < 0:
            raise ValueError("a header tells of a negative size")
        return abs(self.number("BITPIX")) // 8 * groups * (extra + math.prod(axes))


def plain_header(data: bytes | bytearray) -> Header | None:
    """Return a header of plain cards, read by hand: astropy takes twenty times as long; None if it is not so plain."""
    if not data.isascii():
        return None
    text = data.decode("ascii")
    found: dict[str, Any] = {}
    for at in range(0, len(text), CARD):
        key = _plain_key(text[at : at + 10])
        if key is None:
            return None
        if key == "END":
            break
        if key and key not in found:
            found[key] = text[at : at + CARD]
    return Header(found, Values(found))


@functools.lru_cache(maxsize=4096)  # the headers of a job's files have the same keywords
def _plain_key(start: str) -> str | None:
    """Return the keyword that a card begins with, empty for commentary; None if the card is not plain."""
    key = start[:8].rstrip()
    if key in _COMMENTARY and key != "CONTINUE":
        return key if key == "END" else ""
    return key if start[8:] == "= " and _PLAIN_KEY.fullmatch(key) else None


def parsed_header(cards: Iterable[Any]) -> Header:
    """Return a header of astropy's cards."""
    found: dict[str, Any] = {}
    for card in cards:
        key = card.keyword.upper()
        if key not in _COMMENTARY:
            found.setdefault(key, card)
    return Header(found, Values(found))
