"""The manifest of a job repository: everything in it as data, read and written a piece at a time.

A hundred thousand inputs fit in little memory because neither side ever holds them all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dbb.errors import DbbError, NotFoundError, ParseError, UsageError

SCHEMA = 1
ARRAYS = ("inputs", "calibs", "files", "refcats", "exposures")
"""The parts of a manifest that may be long."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_CHUNK = 1 << 16
_BATCH = 256
_BLANK = " \t\r\n"


class ManifestWriter:
    """Writes one manifest to a text stream; `head` comes first, then arrays in any order, each opened once."""

    def __init__(self, stream: IO[str], head: Mapping[str, Any]) -> None:
        self._stream = stream
        self._array: str | None = None
        self._filled = False
        self._pending: list[Mapping[str, Any]] = []
        self._write("{" + ",\n".join(f"{_encode(key)}:{_encode(value)}" for key, value in head.items()))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            near = text[max(0, error.start - 60) : error.end + 20]
            raise UsageError(f"the manifest cannot hold half a character (a lone surrogate): {near!r}") from error

    def add(self, array: str, entry: Mapping[str, Any]) -> None:
        """Append an entry to `array`."""
        if array != self._array:
            self.open(array)
        self._pending.append(entry)
        if len(self._pending) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            # encoding many in one call costs half of encoding each
            self._write((",\n" if self._filled else "") + _encode(self._pending)[1:-1])
            self._filled = True
            self._pending.clear()

    def open(self, array: str) -> None:
        """Begin an array; also how an empty one is written."""
        self._close_array()
        self._write(f",\n{_encode(array)}:[\n")
        self._array, self._filled = array, False

    def _close_array(self) -> None:
        self._flush()
        if self._array is not None:
            self._stream.write("]")

    def close(self) -> None:
        """Finish the document."""
        self._close_array()
        self._stream.write("}\n")


class _Scanner:
    """A JSON text read in pieces, decoded value by value."""

    def __init__(self, stream: IO[str], name: str) -> None:
        self._stream, self._name = stream, name
        self._text, self._at, self._ended = "", 0, False
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        try:
            piece = self._stream.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise self._wrong(f"it is not UTF-8 ({error.reason})") from None
        self._ended = not piece
        self._text, self._at = self._text[self._at :] + piece, 0
        return not self._ended

    def peek(self) -> str:
        """Return the next character that is no blank, or an empty text at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """Return the next character, which must be one of `wanted`."""
        found = self.peek()
        if not found or found not in wanted:
            raise self._wrong(f"expected one of {' '.join(wanted)}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Decode the next value, however long it is."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise self._wrong("a value is broken or cut off") from None
                continue
            except RecursionError:
                raise self._wrong("a value is nested too deeply") from None
            # a number may go on in the next piece; up to two characters of it (".", "e+") may be here already
            if len(self._text) - end <= 2 and isinstance(value, int | float):
                end -= self._at  # what is read next is put behind a text that begins with this value
                if self._more():
                    continue
            self._at = end
            return value

    def key(self) -> str:
        """Decode the name of the next member of an object."""
        if self.peek() != '"':
            raise self._wrong("expected a name in double quotes")
        return str(self.value())

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self.peek():
            raise self._wrong("something follows its end")

    def _wrong(self, problem: str) -> DbbError:
        line = self._text[max(0, self._at - 30) : self._at + 60].replace("\n", " ")
        return ParseError(line, min(30, self._at), f"{self._name} is no manifest: {problem}")


def read_manifest(path: Path) -> Iterator[tuple[str, Any]]:
    """Give the parts of a manifest in their order: an array entry by entry, everything else whole.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ParseError
        If it is no JSON object.
    """
    try:
        stream = path.open(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError("manifest", str(path), hint="There is no such file") from error
    except OSError as error:
        raise UsageError(f"manifest {path} cannot be read: {error.strerror}") from error
    with stream:
        scanner = _Scanner(stream, str(path))
        scanner.take("{")
        if scanner.peek() == "}":
            return
        while True:
            key = scanner.key()
            scanner.take(":")
            if key in ARRAYS:
                yield from _array(scanner, key)
            else:
                yield key, scanner.value()
            if scanner.take(",}") == "}":
                break
        scanner.end()


def _array(scanner: _Scanner, key: str) -> Iterator[tuple[str, Any]]:
    scanner.take("[")
    if scanner.peek() == "]":
        scanner.take("]")
        return
    while True:
        yield key, scanner.value()
        if scanner.take(",]") == "]":
            return
