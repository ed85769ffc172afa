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
from dbb.pipeline.lists import MOST_VALUES, is_list, ranged, split_list
from dbb.pipeline.model import Data, Items
from dbb.pipeline.scope import Scope

_BEGIN = re.compile(r"\$([A-Za-z]*)\{")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_KINDS = {"": "need", "loop": "need", "opt": "opt", "head": "head", "func": "func", "rnmlst": "rnmlst"}
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


class UnsettledNameError(VariableError):
    """What has to be known for the whole module depends on what only a quantum knows: expand the text anew for each."""


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


_NOTHING: Mapping[str, Parts] = {}


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


def settled_text(text: str, scope: Scope) -> str:
    """Replace the variables of a text that has to be known before any quantum is made.

    Raises
    ------
    MissingVariableError, VariableError
        As `expand`.
    UnsettledNameError
        If it depends on a hole.
    """
    return _settled(expand(text, scope).parts)


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
    if not (text.isascii() and text.isdigit()) and _INTEGER.fullmatch(text) is None:
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
    tokens: Sequence[str | _Reference],
    scope: Scope,
    chain: tuple[str, ...],
    *,
    split: bool,
    used: Mapping[str, Parts] = _NOTHING,
) -> list[_Alternative]:
    """Replace the references in `tokens`; what is in `used` already is not looked up again, at any depth.

    So a variable has one value in a text, and variables that lead to each other in many ways cost no time.
    """
    found = [_Alternative((), used)]
    for token in tokens:
        if isinstance(token, str):
            found = [one.and_then(_Alternative((token,), {})) for one in found] if token else found
        else:
            found = [one.and_then(more) for one in found for more in _replace(token, one.used, scope, chain, split)]
            if len(found) > MOST_VALUES:
                raise VariableError(f"{_shown(chain)}gives more than {MOST_VALUES} values")
    return found


def _replace(
    reference: _Reference, used: Mapping[str, Parts], scope: Scope, chain: tuple[str, ...], split: bool
) -> list[_Alternative]:
    if reference.kind in {"func", "rnmlst"}:
        raise VariableError(f"${reference.kind.upper()}{{…}} is not supported: dbb runs no function that a file names")
    if reference.kind == "head":
        return [_head(reference, scope, chain)]
    return [
        one
        for named in _walk(reference.body, scope, chain, split=split, used=used)
        for one in _replace_named(reference.kind, named, scope, chain, split)
    ]


def _replace_named(
    kind: str, named: _Alternative, scope: Scope, chain: tuple[str, ...], split: bool
) -> list[_Alternative]:
    used = named.used
    name, width = _name(named.parts, chain)
    if name in used:
        return [_Alternative(_padded(used[name], width, name), used)]
    value = scope.find(name)
    if value is None:
        if kind == "opt":
            return [_Alternative((), used)]
        raise MissingVariableError(f"{_shown(chain)}${{{name}}} has no value")
    if isinstance(value, dict):
        raise VariableError(f"{_shown(chain)}${{{name}}} is a section, not a value")
    if name in chain:
        raise VariableError(f"variables are circular: {' → '.join((*chain[chain.index(name) :], name))}")
    if len(chain) > _DEEPEST:
        raise VariableError(f"variables lead to each other more than {_DEEPEST} times, beginning with {chain[0]}")
    if isinstance(value, Hole):
        return [_Alternative((Hole(value.name, width),), {**used, name: (value,)})]
    if isinstance(value, Data):
        return [_Alternative(_padded((value,), width, name), {**used, name: (value,)})]
    if isinstance(value, Items):
        several = value.values if split else (Data(value),)
        return _named([_Alternative((item,), used) for item in several], name, width if split else 0)
    return _operator_text(value, name, width, scope, (*chain, name), split, used)


def _operator_text(
    value: str,
    name: str,
    width: int,
    scope: Scope,
    chain: tuple[str, ...],
    split: bool,
    used: Mapping[str, Parts],
) -> list[_Alternative]:
    several = is_list(value)
    if not split or not several:
        alternatives = _walk(_tokens(value), scope, chain, split=split, used=used)
        return _named(alternatives, name, 0 if several else width)
    alternatives = []
    for item in split_list(value):
        for one in _walk(_tokens(item), scope, chain, split=True, used=used):
            settled = all(type(part) is str for part in one.parts)
            texts = list(ranged("".join(map(str, one.parts)))) if settled else None
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


def _name(parts: Parts, chain: tuple[str, ...]) -> tuple[str, int]:
    text = _settled(parts)
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
    late = next((part for part in parts if not isinstance(part, str)), None)
    if isinstance(late, Head):
        raise VariableError("$HEAD{…} is known only when the step runs, but its value is needed before")
    if late is not None:
        name = next(holes((late,)), "")
        raise UnsettledNameError(
            f"${{{name}}} differs from quantum to quantum, but one value is needed for all of them"
        )
    return "".join(str(part) for part in parts)


def _shown(chain: tuple[str, ...]) -> str:
    return " → ".join(f"${{{name}}}" for name in chain) + (" → " if chain else "")
