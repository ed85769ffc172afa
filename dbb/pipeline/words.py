"""Words of a command line: the operator's text is split as a shell would, values are taken as they are.

A value (data, or a hole that a quantum fills) never makes two words of one, whatever blanks, quotes or commas it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dbb.errors import MissingVariableError, PipelineError, VariableError
from dbb.pipeline.fillers import picker
from dbb.pipeline.model import Value
from dbb.pipeline.values import Head, Hole, Padded, Part, Parts, render
from dbb.pipeline.workflow import Argument

Values: TypeAlias = "Mapping[str, str]"
_Make: TypeAlias = "Callable[[Values], str]"
_BLANK = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Word:
    """One argument of a program.

    Parameters
    ----------
    parts
        What it is made of.
    quoted
        Whether the operator wrote quotes, so that it is a word even when it is empty.
    """

    parts: Parts
    quoted: bool = False

    @property
    def may_vanish(self) -> bool:
        """Whether it is no argument at all if its values are empty, as for a shell."""
        return not self.quoted and all(isinstance(part, Hole) for part in self.parts)


def split_words(parts: Parts) -> list[Word]:
    """Split an expanded text as a POSIX shell splits a line, values left whole.

    Raises
    ------
    PipelineError
        If a quotation is not closed, nothing follows a backslash, or there is a NUL character.

    Examples
    --------
    >>> [word.parts for word in split_words(("--id patch=", Hole("patch"), ' "two words"'))]
    [('--id',), ('patch=', Hole(name='patch', width=0)), ('two words',)]
    """
    splitter = _Splitter()
    for part in parts:
        if type(part) is str:
            splitter.text(part)
        else:
            splitter.value(part)
    return splitter.finish()


class _Splitter:
    """The state between two characters."""

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._parts: list[Part] = []
        self._text: list[str] = []
        self._quote = ""
        self._quoted = self._escaped = False

    def text(self, text: str) -> None:
        if "\0" in text:
            raise PipelineError("a command line cannot hold a NUL character")
        for char in text:
            if self._escaped:
                self._escape(char in {'"', "\\"})
                self._text.append(char)
            elif char == "\\" and self._quote != "'":
                self._escaped = True
            elif self._quote:
                self._inside(char)
            elif char in _BLANK:
                self._end()
            elif char in {"'", '"'}:
                self._quote, self._quoted = char, True
            else:
                self._text.append(char)

    def value(self, part: Part) -> None:
        if self._escaped:
            self._escape(False)
        self._flush()
        self._parts.append(part)

    def finish(self) -> list[Word]:
        if self._quote:
            raise PipelineError(f"the quotation that begins with {self._quote} is not closed")
        if self._escaped:
            raise PipelineError("nothing follows the backslash at the end")
        self._end()
        return self._words

    def _inside(self, char: str) -> None:
        if char == self._quote:
            self._quote = ""
        else:
            self._text.append(char)

    def _escape(self, special: bool) -> None:
        """End an escape: inside of double quotes the backslash stays unless what follows is special there."""
        if self._quote and not special:
            self._text.append("\\")
        self._escaped = False

    def _flush(self) -> None:
        if self._text:
            self._parts.append("".join(self._text))
            self._text = []

    def _end(self) -> None:
        self._flush()
        if self._parts or self._quoted:
            self._words.append(Word(tuple(self._parts), self._quoted))
        self._parts, self._quoted = [], False


class Template:
    """Words with holes, compiled so that filling them for one quantum is a single formatting operation.

    Parameters
    ----------
    words
        The words in order. An empty one that may vanish is kept only at the end.
    patch
        How to spell the values of variables named ``patch``; None leaves them.
    """

    def __init__(self, words: Sequence[Word], patch: Callable[[str], str] | None = None) -> None:
        kept = [word for word in words[:-1] if word.parts or word.quoted] + list(words[-1:])
        self._patch = patch
        self._made: dict[str, _Make] = {}
        slots: list[str] = []
        self._changing = [n for n, word in enumerate(kept) if any(type(part) is not str for part in word.parts)]
        self._constant: list[Argument] = ["".join(map(str, word.parts)) for word in kept]  # which all quanta share
        self._format = "\0".join(self._word(kept[number].parts, slots) for number in self._changing)
        self._pick = picker(slots)
        self._vanishing = tuple(word.may_vanish for word in kept)
        self._any_vanishes = any(self._vanishing)
        self._heads = [(n, self._pieces(word.parts)) for n, word in enumerate(kept) if _has_head(word.parts)]

    def fill(self, values: Values) -> list[Argument]:
        """Return the words for one quantum, those that may vanish included.

        Raises
        ------
        VariableError
            If a value is missing, is no integer where one has to be padded, or holds a NUL character.
        """
        filled = list(self._constant)
        if not self._changing:
            return filled
        try:
            if self._made:
                values = {**values, **{key: make(values) for key, make in self._made.items()}}
            texts = (self._format % self._pick(values)).split("\0")
            if len(texts) != len(self._changing):
                raise VariableError("a value holds a NUL character, which no argument can")
            for number, text in zip(self._changing, texts, strict=True):
                filled[number] = text
            for number, pieces in self._heads:
                filled[number] = _joined([_filled(piece, values) for piece in pieces])
        except KeyError as error:
            raise MissingVariableError(f"${{{error.args[0]}}} has no value") from None
        return filled

    def prune(self, filled: list[Argument]) -> list[Argument]:
        """Leave out words that came out empty and were not quoted."""
        if not self._any_vanishes or "" not in filled:
            return filled
        return [word for word, vanishing in zip(filled, self._vanishing, strict=True) if word != "" or not vanishing]

    def _word(self, parts: Parts, slots: list[str]) -> str:
        if _has_head(parts):
            return ""  # put in when the rest is filled
        return "".join(self._part(part, slots) for part in parts)

    def _part(self, part: Part, slots: list[str]) -> str:
        if isinstance(part, str):
            return part.replace("%", "%%")
        slots.append(self._slot(part))
        return "%s"

    def _slot(self, part: Hole | Padded | Head) -> str:
        """Return the name under which the value of `part` is found, once those that have to be made are made."""
        if isinstance(part, Hole) and not part.width:
            if self._patch is None or not is_patch(part.name):
                return part.name
            spell, name = self._patch, part.name
            self._made[f"{name}:patch"] = lambda values: spell(values[name])
            return f"{name}:patch"
        key = f"{len(self._made)}:made"  # no variable has a colon in its name
        self._made[key] = lambda values: render((part,), values)
        return key

    def _pieces(self, parts: Parts) -> list[Head | Template]:
        return [part if isinstance(part, Head) else Template([Word((part,), True)], self._patch) for part in parts]


def join_arguments(first: Argument, *more: Argument) -> Argument:
    """Return one argument of several, which header values may be part of.

    Examples
    --------
    >>> join_arguments("-v", "3"), join_arguments("gain=", {"head": {"file": "a.fits", "keys": ["GAIN"]}})
    ('-v3', {'join': ['gain=', {'head': {'file': 'a.fits', 'keys': ['GAIN']}}]})
    """
    return _joined([piece for one in (first, *more) for piece in _pieces_of(one)])


def _pieces_of(argument: Argument) -> list[Argument]:
    pieces = argument.get("join") if isinstance(argument, dict) else None
    return list(pieces) if isinstance(pieces, list) else [argument]


def _joined(pieces: Sequence[Argument]) -> Argument:
    joined: list[Argument] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != "":
            joined.append(piece)
    if not joined:
        return ""
    return joined[0] if len(joined) == 1 else {"join": joined}


def _filled(piece: Head | Template, values: Values) -> Argument:
    if isinstance(piece, Head):
        return {"head": {"file": render(piece.file, values), "keys": list(piece.keys)}}
    return piece.fill(values)[0]


def written(value: Value) -> str:
    """Return the text that stands for a key.

    Raises
    ------
    PipelineError
        If it is a section.
    """
    if isinstance(value, dict):
        raise PipelineError("expected a text, not a section")
    return str(value)


def is_patch(name: str) -> bool:
    """Tell whether a variable or column holds a patch by its name: ``patch``, ``img.patch``."""
    return name == "patch" or name.endswith(".patch")


def _has_head(parts: Parts) -> bool:
    return any(isinstance(part, Head) for part in parts)
