"""Data lines: what a query found, grouped by the keys that tell which line is for which quantum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dbb.errors import PipelineError
from dbb.pipeline.section import Line, Section


class ColumnLines(Sequence[Line]):
    """Lines of one file each, kept by column: what is asked of all of them needs no line."""

    @abstractmethod
    def column(self, key: str) -> Sequence[str | None]:
        """Return for each line its file's value of `key`, None where it has none."""

    @abstractmethod
    def known_keys(self) -> set[str]:
        """Return the keys that any of the files has."""


def known_keys(lines: Sequence[Line]) -> set[str]:
    """Return all keys that files on `lines` have."""
    if isinstance(lines, ColumnLines):
        return lines.known_keys()
    return {key for line in lines for values in line.values() for key in values}


def line_value(line: Line, key: str) -> str | None:
    """Return the value that all files on a line which have `key` agree on, or None if none has it.

    Raises
    ------
    PipelineError
        If the files differ: name the one that is meant, as ``nick.key``.
    """
    if len(line) == 1:
        (values,) = line.values()
        return values.get(key)
    found = {values[key] for values in line.values() if key in values}
    if len(found) > 1:
        raise PipelineError(f"{key!r} has several values on one line ({', '.join(sorted(found))}): write nick.{key}")
    return next(iter(found), None)


def section_keys(section: Section) -> tuple[str, ...]:
    """Return the keys that choose among a section's lines: of ``loopkey``, ``match`` and ``divide_by`` the first."""
    for name in ("loopkey", "match", "divide_by"):
        if name in section.tree:
            return tuple(key.lower() for key in section.items(name))
    return ()


@dataclass(frozen=True, slots=True)
class LineIndex:
    """The lines of a section by the values of its keys.

    Parameters
    ----------
    section, keys
        What is indexed, and by which keys; without keys there is one group.
    lines
        All lines, in the order that the query gave.
    groups
        Indexes of lines by key values, in order of first appearance.
    """

    section: Section
    keys: tuple[str, ...]
    lines: Sequence[Line]
    groups: Mapping[tuple[str, ...], Sequence[int]]

    def choose(self, values: Sequence[str | None]) -> Sequence[int]:
        """Return the lines whose keys have `values`, in the order of `keys`; None fits if there is no choice.

        Raises
        ------
        PipelineError
            If no line fits; names the values.
        """
        found = self.groups.get(tuple(values)) if None not in values else None  # type: ignore[arg-type]  # no None then
        if found is not None:
            return found
        fitting = [
            group
            for group in self.groups
            if all(value is None or value == own for value, own in zip(values, group, strict=True))
        ]
        if len(fitting) == 1 and None in values:
            return self.groups[fitting[0]]
        wanted = ", ".join(
            f"{key} = {value}" for key, value in zip(self.keys, values, strict=True) if value is not None
        )
        if not fitting:
            raise self.section.error(f"no line with {wanted or 'these keys'} among {len(self.lines)}")
        unknown = ", ".join(key for key, value in zip(self.keys, values, strict=True) if value is None)
        raise self.section.error(f"{len(fitting)} groups of lines, and nothing says which {unknown} is meant")


def index_lines(section: Section, lines: Sequence[Line]) -> LineIndex:
    """Group the lines of a section by its keys.

    Raises
    ------
    PipelineError
        If a line lacks a key, or its files differ in it.
    """
    keys = section_keys(section)
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, group in enumerate(_keys_of_each(section, lines, keys)):
        if group in groups:
            groups[group].append(number)
        else:
            groups[group] = [number]
    return LineIndex(section, keys, lines, groups)


def _keys_of_each(section: Section, lines: Sequence[Line], keys: Sequence[str]) -> Iterable[tuple[str, ...]]:
    if keys and isinstance(lines, ColumnLines):
        columns = [lines.column(key) for key in keys]
        if not any(None in column for column in columns):
            return zip(*columns, strict=True)  # None is in none of them
    return (tuple([_checked(section, number, line, key) for key in keys]) for number, line in enumerate(lines))


def _checked(section: Section, number: int, line: Line, key: str) -> str:
    try:
        value = line_value(line, key)
    except PipelineError as error:
        raise section.error(f"line {number + 1}: {error.problem}") from None
    if value is None:
        raise _lacks(section, number, key, line)
    return value


def _lacks(section: Section, number: int, key: str, line: Line) -> PipelineError:
    known = sorted({name for values in line.values() for name in values})
    return section.error(f"line {number + 1} has no {key!r}; it has {', '.join(known)}")
