r"""What the header of a raw means, said as data in a camera's TOML file.

The file has a table of rules::

    [headers]                            # for the columns whose source is "mapper"
    filter = { card = "FILTER", pattern = '(\S+)', values = { Y = "y" } }
    detector = { card = "DETECTOR|CHIP", values = { S29 = 1, S30 = 2 } }
    field = { card = "OBJECT", default = "UNKNOWN" }

`card` is the card, or several of which the first that is there counts; `pattern` a regular expression that the value
must fit as a whole, whose first group is taken; `values` replaces values, and leaves others as they are; `default`
stands for a card that is missing or empty. The result is converted to the column's type. A column that takes a card as
it is needs no rule: its source is ``header:KEY``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbb.errors import HeaderError, UsageError
from dbb.filetypes import CONVERTERS, Filetype

_KNOWN = {"card", "pattern", "values", "default"}


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """How one column follows from the header."""

    cards: tuple[str, ...]
    pattern: re.Pattern[str] | None
    values: Mapping[str, object]
    default: object

    def value(self, header: Mapping[str, object]) -> object:
        """Return what the header says, or None.

        Raises
        ------
        HeaderError
            If the value does not fit the pattern.
        """
        card = next((card for card in self.cards if header.get(card) not in {None, ""}), None)
        if card is None:
            return self.default
        value = header[card]
        text = str(value).strip()
        if self.pattern is not None:
            match = self.pattern.fullmatch(text)
            if match is None:
                raise HeaderError(card, f"{text!r} does not fit the pattern {self.pattern.pattern}")
            value = text = match[1] if match.re.groups else match[0]
        return self.values.get(text, value)


def read_rules(data: object) -> dict[str, HeaderRule]:
    """Read the section ``headers``.

    Raises
    ------
    UsageError
        If a rule is unusable; names it.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"headers must be a table of rules, not {data!r}")
    return {name: _rule(name, entry) for name, entry in data.items()}


def _rule(name: str, entry: Any) -> HeaderRule:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("card"), str) or entry.keys() - _KNOWN:
        raise UsageError(f"headers.{name} must be a table with card, and perhaps pattern, values, default: {entry!r}")
    values, pattern = entry.get("values", {}), entry.get("pattern")
    if not isinstance(values, Mapping):
        raise UsageError(f"headers.{name}: values must be a table, not {values!r}")
    try:
        compiled = None if pattern is None else re.compile(str(pattern))
    except re.error as error:
        raise UsageError(f"headers.{name}: pattern {pattern!r} is no regular expression: {error}") from error
    return HeaderRule(tuple(entry["card"].upper().split("|")), compiled, dict(values), entry.get("default"))


def apply_rules(rules: Mapping[str, HeaderRule], header: Mapping[str, object], filetype: Filetype) -> dict[str, object]:
    """Return the columns of a filetype whose source is ``mapper``.

    Raises
    ------
    HeaderError
        If a card that a required column needs is missing, or a value does not fit its column.
    UsageError
        If a column has no rule.
    """
    found: dict[str, object] = {}
    for column in filetype.columns:
        if column.source != "mapper":
            continue
        if column.name not in rules:
            raise UsageError(f"filetype {filetype.name}: column {column.name} has the source mapper and no rule")
        rule = rules[column.name]
        value = rule.value(header)
        if value is None:
            if column.required:
                raise HeaderError("|".join(rule.cards), f"is missing; column {column.name} needs it")
            continue
        if column.type == "date" and isinstance(value, str):
            value = value.partition("T")[0]  # FITS writes dates with or without the time of day
        try:
            found[column.name] = CONVERTERS[column.type](value)
        except (ValueError, TypeError, OverflowError) as error:
            wrong = f"{value!r} does not fit column {column.name}: {error}"
            raise HeaderError("|".join(rule.cards), wrong) from error
    return found
