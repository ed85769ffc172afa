"""Variables in the operator's texts: ``${x}``, ``${x:N}``, ``$opt{x}`` and ``$HEAD{file,KEY}`` become values.

A text is expanded once for a whole module. What only a single quantum knows (the values of its loop) stays as a `Hole`
and is filled in by `render`, so planning a hundred thousand quanta looks up nothing a hundred thousand times.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dbb.errors import MissingVariableError, VariableError
from dbb.pipeline.model import Data, Items
from dbb.pipeline.scope import Scope

_BEGIN = re.compile(r"\$([A-Za-z]*)\{")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_RANGE = re.compile(r"\s*([0-9]{1,18}):([0-9]{1,18})\s*")
_KINDS = {"": "need", "loop": "need", "opt": "opt", "head": "head", "func": "func", "rnmlst": "rnmlst"}
_MOST_VALUES = 100_000
_DEEPEST = 100
_LONGEST = 1 << 17  # characters, or parts: Linux takes no longer argument, and variables can double a text without end


@dataclass(frozen=True, slots=True)
class Hole:
    """A variable whose value each quantum brings; `width` pads it with zeros."""

    name: str
    width: int = 0


@dataclass(frozen=True, slots=True)
class Padded:
    """A number with holes in it, padded once it is known."""

    parts: Parts
    width: int


@dataclass(frozen=True, slots=True)
class Head:
    """Values of FITS header cards, known when the step runs: the file and the keys, joined by commas."""

    file: Parts
    keys: tuple[str, ...]


Part: TypeAlias = "str | Hole | Padded | Head"
Parts: TypeAlias = "tuple[Part, ...]"


@dataclass(frozen=True, slots=True)
class Text:
    """One value of an expanded text.

    Parameters
    ----------
    parts
        Texts and holes in order; texts that came from data are `Data`.
    used
        The variables that went into it, each with its value without padding.
    """

    parts: Parts
    used: Mapping[str, Parts] = field(default_factory=dict)


class UnsettledNameError(Exception):
    """The name of a variable holds one that only a quantum knows: expand the text anew for each."""


@dataclass(frozen=True, slots=True)
class _Reference:
    kind: str
    body: tuple[str | _Reference, ...]


@dataclass(frozen=True, slots=True)
class _Alternative:
    parts: Parts
    used: Mapping[str, Parts]

    def and_then(self, other: _Alternative) -> _Alternative:
        if len(self.parts) + len(other.parts) > _LONGEST:
            raise VariableError(f"variables make a text of more than {_LONGEST} parts")
        return _Alternative(self.parts + other.parts, {**self.used, **other.used} if other.used else self.used)


def expand(text: str, scope: Scope) -> Text:
    """Replace the variables of `text`; a variable with several values stays the text it is, commas and all.

    Raises
    ------
    MissingVariableError
        If a ``${x}`` has no value; shows the chain.
    VariableError
        If variables are circular or a padded one is no integer.
    UnsettledNameError
        If the name of a variable depends on a hole.
    """
    (only,) = _walk(_tokens(text), scope, (), split=False)
    return Text(_compact(only.parts), only.used)


def expand_all(text: str, scope: Scope) -> list[Text]:
    """Replace the variables of `text`, giving one value for each combination of what its variables list.

    A list is a text with commas or in parentheses; ``N:M`` in it, or alone, is a range that includes both ends. Values
    come in nested order, the last variable fastest. A variable used twice has the same value in both places.

    Raises
    ------
    MissingVariableError, VariableError, UnsettledNameError
        As `expand`; also if a list has no value, or there are more than 100 000 combinations.
    """
    alternatives = _walk(_tokens(text), scope, (), split=True)
    return [Text(_compact(one.parts), one.used) for one in alternatives]


def list_items(text: str) -> list[str]:
    """Return the values of a list that the operator wrote, ranges spelled out.

    Examples
    --------
    >>> list_items("(1:3),10"), list_items("g, r"), list_items("i")
    (['1', '2', '3', '10'], ['g', 'r'], ['i'])
    """
    return [value for item in _split(text) for value in _ranged(item)]


def is_list(text: str) -> bool:
    """Tell whether the operator's text means several values."""
    return text.startswith("(") or _RANGE.fullmatch(text) is not None or len(_cut(text)) > 1


def render(parts: Parts, values: Mapping[str, str]) -> str:
    """Fill the holes of `parts`.

    Raises
    ------
    VariableError
        If a value to be padded is no integer, or a header value is asked for where a text must be known now.
    """
    if len(parts) == 1 and type(parts[0]) is str:
        return parts[0]
    return "".join([part if isinstance(part, str) else _render(part, values) for part in parts])


def variables(text: str) -> Iterator[tuple[str, str]]:
    """Give kind and name of every variable in `text`, inner ones too, without those whose name holds another.

    The kind is what stands before the brace: ``""``, ``"opt"``, ``"head"`` …

    Examples
    --------
    >>> list(variables("${Tract}_$opt{x:4}_${a_${b}}"))
    [('', 'Tract'), ('opt', 'x'), ('', 'b')]
    """
    yield from _names(_tokens(text))


def _names(tokens: Sequence[str | _Reference]) -> Iterator[tuple[str, str]]:
    for token in tokens:
        if isinstance(token, _Reference):
            if all(isinstance(part, str) for part in token.body):
                yield token.kind.replace("need", ""), "".join(map(str, token.body)).partition(":")[0]
            yield from _names(token.body)


def holes(parts: Parts) -> Iterator[str]:
    """Give the names of all holes in `parts`."""
    for part in parts:
        if isinstance(part, Hole):
            yield part.name
        elif isinstance(part, Padded):
            yield from holes(part.parts)
        elif isinstance(part, Head):
            yield from holes(part.file)


def _render(part: Hole | Padded | Head, values: Mapping[str, str]) -> str:
    if isinstance(part, Hole):
        value = values[part.name]
        return pad(value, part.width, part.name) if part.width else value
    if isinstance(part, Padded):
        return pad(render(part.parts, values), part.width, "a value")
    raise VariableError(f"$HEAD{{…}} of {render(part.file, values)} is known only when the step runs")


def pad(text: str, width: int, name: str) -> str:
    """Return an integer with zeros before it, `width` digits in all or more; VariableError if it is none."""
    if _INTEGER.fullmatch(text) is None:
        raise VariableError(f"${{{name}:{width}}} needs an integer, but the value is {text!r}")
    return text.zfill(width)


def _compact(parts: Parts) -> Parts:
    out: list[Part] = []
    for part in parts:
        if type(part) is str and out and type(out[-1]) is str:
            out[-1] += part
            if len(out[-1]) > _LONGEST:
                raise VariableError(f"variables make a text of more than {_LONGEST} characters: {out[-1][:40]}…")
        elif part != "" or not isinstance(part, str):
            out.append(part)
    return tuple(out)


@functools.lru_cache(maxsize=8192)
def _tokens(text: str) -> tuple[str | _Reference, ...]:
    tokens, _ = _parse(text, 0, inside=False, depth=0)
    return tokens


def _parse(text: str, at: int, *, inside: bool, depth: int) -> tuple[tuple[str | _Reference, ...], int]:
    """Return the tokens from `at` on, and where they end: at the closing brace if `inside`, else -1 if it lacks."""
    if depth > _DEEPEST:
        raise VariableError(f"variables are nested more than {_DEEPEST} deep")
    out: list[str | _Reference] = []
    start = at
    while at < len(text):
        if inside and text[at] == "}":
            return (*out, text[start:at]), at
        begin = _BEGIN.match(text, at) if text[at] == "$" else None
        kind = _KINDS.get(begin[1].lower()) if begin else None
        if begin is None or kind is None:
            at += 1
            continue
        body, end = _parse(text, begin.end(), inside=True, depth=depth + 1)
        if end < 0:  # "${a" is no variable, and what follows was just read to the end of the text
            return (*out, text[start : begin.end()], *body), -1
        if body == ("",):  # neither is "${}"
            at = begin.end()
            continue
        out += [text[start:at], _Reference(kind, tuple(token for token in body if token != ""))]
        at = start = end + 1
    return (*out, text[start:]), -1


def _walk(
    tokens: Sequence[str | _Reference], scope: Scope, chain: tuple[str, ...], *, split: bool
) -> list[_Alternative]:
    found = [_Alternative((), {})]
    for token in tokens:
        if isinstance(token, str):
            found = [one.and_then(_Alternative((token,), {})) for one in found] if token else found
        else:
            found = [one.and_then(more) for one in found for more in _replace(token, one.used, scope, chain, split)]
            if len(found) > _MOST_VALUES:
                raise VariableError(f"{_shown(chain)}gives more than {_MOST_VALUES} values")
    return found


def _replace(
    reference: _Reference, used: Mapping[str, Parts], scope: Scope, chain: tuple[str, ...], split: bool
) -> list[_Alternative]:
    if reference.kind in {"func", "rnmlst"}:
        raise VariableError(f"${reference.kind.upper()}{{…}} is not supported: dbb runs no function that a file names")
    if reference.kind == "head":
        return [_head(reference, scope, chain)]
    name, width = _name(reference, scope, chain)
    if name in used:
        return [_Alternative(_padded(used[name], width, name), {})]
    value = scope.find(name)
    if value is None:
        if reference.kind == "opt":
            return [_Alternative((), {})]
        raise MissingVariableError(f"{_shown(chain)}${{{name}}} has no value")
    if isinstance(value, dict):
        raise VariableError(f"{_shown(chain)}${{{name}}} is a section, not a value")
    if name in chain:
        raise VariableError(f"variables are circular: {' → '.join((*chain[chain.index(name) :], name))}")
    if len(chain) > _DEEPEST:
        raise VariableError(f"variables lead to each other more than {_DEEPEST} times, beginning with {chain[0]}")
    if isinstance(value, Hole):
        return [_Alternative((Hole(value.name, width),), {name: (value,)})]
    if isinstance(value, Data):
        return [_Alternative(_padded((value,), width, name), {name: (value,)})]
    if isinstance(value, Items):
        several = value.values if split else (Data(value),)
        return _named([_Alternative((item,), {}) for item in several], name, width if split else 0)
    return _operator_text(value, name, width, scope, (*chain, name), split)


def _operator_text(
    value: str, name: str, width: int, scope: Scope, chain: tuple[str, ...], split: bool
) -> list[_Alternative]:
    several = is_list(value)
    if not split or not several:
        alternatives = _walk(_tokens(value), scope, chain, split=split)
        return _named(alternatives, name, 0 if several else width)
    alternatives = []
    for item in _split(value):
        for one in _walk(_tokens(item), scope, chain, split=True):
            settled = all(type(part) is str for part in one.parts)
            texts = list(_ranged("".join(map(str, one.parts)))) if settled else None
            alternatives += [_Alternative((text,), one.used) for text in texts] if texts is not None else [one]
    if not alternatives:
        raise VariableError(f"${{{name}}} = {value!r} lists no value: a range goes from the smaller to the larger")
    return _named(alternatives, name, width)


def _named(alternatives: list[_Alternative], name: str, width: int) -> list[_Alternative]:
    return [
        _Alternative(_padded(one.parts, width, name), {**one.used, name: _compact(one.parts)}) for one in alternatives
    ]


def _padded(parts: Parts, width: int, name: str) -> Parts:
    if not width:
        return parts
    if all(isinstance(part, str) for part in parts):
        text = "".join(str(part) for part in parts)
        kind = Data if any(isinstance(part, Data) for part in parts) else str
        return (kind(pad(text, width, name)),)
    if len(parts) == 1 and isinstance(parts[0], Hole):
        return (Hole(parts[0].name, width),)
    return (Padded(parts, width),)


def _name(reference: _Reference, scope: Scope, chain: tuple[str, ...]) -> tuple[str, int]:
    text = _settled(_walk(reference.body, scope, chain, split=False)[0].parts)
    name, _, width = text.partition(":")
    width = width.partition(":")[0]
    if width and not (width.isascii() and width.isdigit() and len(width) <= 2):
        raise VariableError(f"{_shown(chain)}${{{text}}}: {width!r} is no number of digits")
    return name.lower(), int(width or 0)


def _head(reference: _Reference, scope: Scope, chain: tuple[str, ...]) -> _Alternative:
    parts = _compact(_walk(reference.body, scope, chain, split=False)[0].parts)
    file: list[Part] = []
    for number, part in enumerate(parts):
        if type(part) is str and "," in part:
            before, _, after = part.partition(",")
            rest = _settled((after, *parts[number + 1 :]))
            return _Alternative((Head((*file, before), tuple(key.strip() for key in rest.split(","))),), {})
        file.append(part)
    raise VariableError(f"{_shown(chain)}$HEAD{{…}} needs a file and at least one key: $HEAD{{file,KEY}}")


def _settled(parts: Parts) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise UnsettledNameError
    return "".join(str(part) for part in parts)


def _shown(chain: tuple[str, ...]) -> str:
    return " → ".join(f"${{{name}}}" for name in chain) + (" → " if chain else "")


def _ranged(item: str) -> Iterator[str]:
    match = _RANGE.fullmatch(item)
    if match is None:
        yield item
        return
    first, last = int(match[1]), int(match[2])
    if last - first >= _MOST_VALUES:
        raise VariableError(f"the range {item!r} has more than {_MOST_VALUES} values")
    yield from (str(number) for number in range(first, last + 1))


def _split(text: str) -> list[str]:
    items: list[str] = []
    for item in _cut(text):
        inner = item[1:-1]
        if item.startswith("(") and item.endswith(")") and _balanced(inner):
            items += _split(inner)
        else:
            items.append(item)
    return items


def _balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if depth < 0:
            return False
    return depth == 0


def _cut(text: str) -> list[str]:
    """Cut at commas outside of parentheses and braces; items come without the blanks around them."""
    if "," not in text:
        return [text.strip()]
    items, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char in "({":
            depth += 1
        elif char in ")}":
            depth = max(0, depth - 1)
        elif char == "," and depth == 0:
            items.append(text[start:at].strip())
            start = at + 1
    return [*items, text[start:].strip()]
