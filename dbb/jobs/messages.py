"""Messages: what programs print that an operator wants to see, found by patterns while they run.

Patterns are tried in the order of their priority, the smallest first, and the first that fits a line wins; each is
searched by itself and without regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbb.errors import UsageError
from dbb.patterncost import LONGEST, Search, compile_search

ERROR, WARNING, INFO = 1, 2, 3
GLOBAL = "global"
"""The `MessagePattern.execname` of patterns that hold for every program."""
_MOST_GATHERED = 500
MOST = 1000
"""Messages of one pattern that are kept of one program; how many more there were is said in one."""
_TIME = re.compile(r"\b([0-9]{4})[-/]([01][0-9])[-/]([0-3][0-9])[ T]([0-2][0-9]:[0-5][0-9]:[0-6][0-9])")
_END = re.compile(rb"[\r\n]")


@dataclass(frozen=True, slots=True)
class MessagePattern:
    """One pattern, with DESDM's columns.

    Parameters
    ----------
    id
        Its number.
    pattern
        A regular expression; groups in it mean nothing.
    level
        1 error, 2 warning, 3 information.
    priority
        The smallest is tried first.
    execname
        The program it is for, or ``global``.
    number_of_lines
        How many lines the message has, the one that fits included; one more if that line ends with a colon. 0 is one
        line, whatever it ends with.
    only_matched
        Keep only what the pattern fits, not the line.
    """

    id: int
    pattern: str
    level: int = ERROR
    priority: int = 1000
    execname: str = GLOBAL
    number_of_lines: int = 1
    only_matched: bool = False

    @classmethod
    def from_dict(cls, entry: object, place: str = "message pattern") -> MessagePattern:
        """Read what `as_dict` or a table of TOML says.

        Raises
        ------
        UsageError
            If a value is missing or makes no sense; names it and `place`.
        """
        if not isinstance(entry, Mapping) or not isinstance(entry.get("pattern"), str):
            raise UsageError(f"{place}: expected a table with a text 'pattern', not {entry!r}")
        unknown = entry.keys() - set(cls.__slots__)
        if unknown:
            raise UsageError(f"{place}: unknown entries {sorted(unknown)}; known: {', '.join(cls.__slots__)}")
        made = cls(**{"id": 0, **entry})
        numbers = (made.id, made.level, made.priority, made.number_of_lines)
        if not all(type(number) is int for number in numbers) or made.level not in {ERROR, WARNING, INFO}:
            raise UsageError(
                f"{place} {made.pattern!r}: id, priority and number_of_lines must be integers, level 1, 2 or 3"
            )
        if made.number_of_lines < 0 or not isinstance(made.execname, str) or not isinstance(made.only_matched, bool):
            raise UsageError(
                f"{place} {made.pattern!r}: number_of_lines must be 0 or more, execname a text, only_matched a boolean"
            )
        return made

    def as_dict(self) -> dict[str, object]:
        """Return what a job file holds."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was found.

    Parameters
    ----------
    pattern
        The pattern that it fits, or None for what dbb itself has to say.
    level
        As of a pattern.
    text
        At most 4000 characters.
    line
        Its first line in the log, counted from 1; 0 if it is in no log.
    time
        A time stamp found in the text, ``YYYY-MM-DD hh:mm:ss``, or None.
    """

    pattern: int | None
    level: int
    text: str
    line: int = 0
    time: str | None = None

    def as_dict(self, file: str) -> dict[str, object]:
        """Return what an event holds; `file` is the name of the log, empty if it is in none."""
        found = {name: getattr(self, name) for name in ("level", "pattern", "text")}
        found |= {"file": file or None, "line": self.line or None}
        return found | ({"time": self.time} if self.time else {})


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A pattern, and what finds it in a line."""

    pattern: MessagePattern
    search: Search


@dataclass(frozen=True, slots=True)
class _OfExec:
    """Something that holds for one program, or for all."""

    execname: str
    value: Any


class MessageRules:
    """Patterns, what to ignore and what to replace, for all programs of a job.

    Parameters
    ----------
    patterns
        The patterns, in any order; of equal priority, the first comes first.
    ignore
        Regular expressions with the program each is for: lines that they fit give no message.
    replace
        Texts to replace in the output before it is logged: the program, the old text, the new one.

    Raises
    ------
    UsageError
        If a pattern is no regular expression, or a search for it might never end.
    """

    def __init__(
        self,
        patterns: Iterable[MessagePattern] = (),
        ignore: Iterable[tuple[str, str]] = (),
        replace: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        ordered = sorted(patterns, key=lambda one: one.priority)
        self._patterns = [_Compiled(one, _search(one.pattern, f"message pattern {one.id}")) for one in ordered]
        self._ignore = [_OfExec(execname, _search(text, "ignored messages")) for execname, text in ignore]
        self._replace = [_OfExec(execname, (old, new)) for execname, old, new in replace if old]

    @classmethod
    def from_dict(cls, entry: object) -> MessageRules:
        """Read the part ``messages`` of a job file.

        Raises
        ------
        UsageError
            If it is malformed, or a pattern is no regular expression.
        """
        if not isinstance(entry, Mapping):
            raise UsageError(f"messages must be a table with patterns, ignore and replace, not {entry!r}")
        parts = {name: entry.get(name, []) for name in ("patterns", "ignore", "replace")}
        wrong = [name for name, value in parts.items() if not isinstance(value, list)]
        if wrong:
            raise UsageError(f"messages: {wrong[0]} must be a list")
        ignore = [_texts(one, "ignore", "execname", "pattern") for one in parts["ignore"]]
        replace = [_texts(one, "replace", "execname", "replace_pattern", "with_pattern") for one in parts["replace"]]
        return cls(
            [MessagePattern.from_dict(one) for one in parts["patterns"]],
            [(execname, pattern) for execname, pattern in ignore],
            [(execname, old, new) for execname, old, new in replace],
        )

    def matcher(self, execnames: Collection[str], line: int = 0) -> MessageMatcher:
        """Return what finds the messages of one program, which writes into its log after `line` lines."""
        names = {GLOBAL, *execnames}
        return MessageMatcher(
            [one for one in self._patterns if one.pattern.execname in names],
            [one.value for one in self._ignore if one.execname in names],
            [one.value for one in self._replace if one.execname in names],
            line,
        )


def _texts(entry: object, what: str, *names: str) -> tuple[str, ...]:
    found = {"execname": GLOBAL, **entry} if isinstance(entry, Mapping) else {}
    values = tuple(found.get(name) for name in names)
    if not all(isinstance(value, str) for value in values):
        raise UsageError(f"messages: an entry of {what} needs the texts {', '.join(names)}, not {entry!r}")
    return tuple(str(value) for value in values)


def _search(pattern: str, what: str) -> Search:
    return compile_search(pattern, what, re.IGNORECASE)


class _Gathering:
    """A message whose further lines are still to come."""

    def __init__(self, pattern: MessagePattern, line: str, number: int) -> None:
        self.pattern, self.number = pattern, number
        self._lines = [line]
        self._size = len(line)
        self._traceback = "Traceback" in line
        self._left = 0 if pattern.only_matched else pattern.number_of_lines - 1 + line.rstrip().endswith(":")

    @property
    def wants_more(self) -> bool:
        return len(self._lines) < _MOST_GATHERED and (self._traceback or self._left > 0)

    def add(self, line: str) -> None:
        """Take the next line. What is not indented ends a traceback: it says which error it was."""
        if self._size <= LONGEST:
            self._lines.append(line)
            self._size += len(line) + 1
        self._left -= 1
        self._traceback = self._traceback and (line[:1] in {" ", "\t"} or 'File "' in line)

    def message(self) -> Message:
        return make_message("\n".join(self._lines), self.pattern.id, self.pattern.level, self.number)


def make_message(text: str, pattern: int | None, level: int, line: int = 0) -> Message:
    """Return a message with its text cut to length and the time stamp that is in it."""
    text = text.replace("\0", "\ufffd")
    found = _TIME.search(text[:LONGEST])
    time = "{}-{}-{} {}".format(*found.groups()) if found else None
    if len(text) > LONGEST:
        text = text[: LONGEST - 2] + "?"
    return Message(pattern, level, text, line, time)


class MessageMatcher:
    """Finds messages in the output of one program as it arrives, in pieces of any size.

    Of a line only the first 4000 characters are looked at, fewer for patterns with several repeats without end, so that
    none costs much, however long it is. A carriage return ends what is looked at, but counts no line: progress bars
    write thousands.

    Parameters
    ----------
    patterns, ignore, replace
        What holds for the program, made by `MessageRules.matcher`.
    line
        Lines that the log has already.
    """

    def __init__(
        self,
        patterns: Sequence[_Compiled],
        ignore: Sequence[Search],
        replace: Sequence[tuple[str, str]],
        line: int = 0,
    ) -> None:
        self._patterns, self._ignore = patterns, ignore
        self._replace = [(old.encode(), new.encode()) for old, new in replace]
        self._room = 4 * (LONGEST + 1)  # bytes of a line that are kept: a character has at most four
        self._begun = bytearray()
        self._returned = False
        self._gathering: _Gathering | None = None
        self._counts: dict[_Compiled, int] = {}
        self.lines = line

    @property
    def rewrites(self) -> bool:
        """Whether the output must go through `rewrite` before it is logged."""
        return bool(self._replace)

    def rewrite(self, data: bytes) -> bytes:
        """Return whole lines of output as they are to be logged."""
        for old, new in self._replace:
            data = data.replace(old, new)
        return data

    def feed(self, data: bytes) -> list[Message]:
        """Take a piece of output and return the messages that are complete with it."""
        found: list[Message] = []
        start = 0
        for end in _END.finditer(data):
            self._keep(data[start : end.start()])
            start = end.end()
            self._end_line(found, newline=end[0] == b"\n")
        self._keep(data[start:])
        return found

    def finish(self) -> list[Message]:
        """Return what is left when the program has ended."""
        found: list[Message] = []
        if self._begun:
            self._end_line(found, newline=True)
        if self._gathering is not None:
            found.append(self._gathering.message())
            self._gathering = None
        for one, count in self._counts.items():
            if count > MOST:
                text = f"{count - MOST} more lines fit {one.pattern.pattern!r}: see the log"
                found.append(make_message(text, one.pattern.id, one.pattern.level))
        self._counts.clear()
        return found

    def _keep(self, piece: bytes) -> None:
        if len(self._begun) < self._room:
            self._begun += piece[: self._room - len(self._begun)]

    def _end_line(self, found: list[Message], *, newline: bool) -> None:
        if self._begun or (newline and not self._returned):
            line = self._begun.decode("utf-8", errors="replace")[: LONGEST + 1]  # one more tells that it was cut
            self._begun.clear()
            self._take(line, found)
        self._returned = not newline
        self.lines += newline

    def _take(self, line: str, found: list[Message]) -> None:
        if self._gathering is not None:
            self._gathering.add(line)
        else:
            self._match(line, found)
        if self._gathering is not None and not self._gathering.wants_more:
            found.append(self._gathering.message())
            self._gathering = None

    def _match(self, line: str, found: list[Message]) -> None:
        for one in self._patterns:
            match = one.search(line)
            if match is None:
                continue
            if any(ignored(line) for ignored in self._ignore):
                return
            self._counts[one] = count = self._counts.get(one, 0) + 1
            if count > MOST:
                return
            if one.pattern.only_matched:
                found.append(make_message(match[0], one.pattern.id, one.pattern.level, self.lines + 1))
            else:
                self._gathering = _Gathering(one.pattern, line, self.lines + 1)
            return


def load_patterns(path: Path) -> list[MessagePattern]:
    """Read a TOML file of patterns: a list of tables ``[[patterns]]`` with the fields of `MessagePattern`.

    Raises
    ------
    UsageError
        If it cannot be read or a pattern is unusable; names the file.
    """
    import tomllib  # jobs have their patterns from the job file

    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"message patterns {path} cannot be read: {error}") from error
    entries = data.get("patterns")
    if not isinstance(entries, list) or data.keys() != {"patterns"}:
        raise UsageError(f"message patterns {path}: expected tables [[patterns]] and nothing else")
    return [MessagePattern.from_dict(entry, f"{path}, message pattern {n}") for n, entry in enumerate(entries, start=1)]


def default_patterns() -> list[MessagePattern]:
    """Return the patterns that plug-ins bring."""
    from dbb.plugins import plugins

    return [pattern for _, given in plugins().each("dbb_message_patterns") for pattern in given]
