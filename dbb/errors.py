"""The errors of dbb, each with the exit code that the ``dbb`` command returns for it.

0 done, 1 failed, 2 unusable text or arguments, 3 done in part, 4 conflict and nothing changed, 5 not found,
6 registry of another schema version, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class DbbError(Exception):
    """Base of all errors that dbb raises on purpose; ``exit_code`` is what the command returns."""

    exit_code = 1


class ParseError(DbbError, ValueError):
    """A text cannot be read; shows the text with a caret below the place.

    Parameters
    ----------
    text
        What was being read.
    at
        Index in `text` of the first character that is wrong.
    problem
        What is wrong there, as a phrase.
    """

    exit_code = 2

    def __init__(self, text: str, at: int, problem: str) -> None:
        self.text, self.at, self.problem = text, at, problem
        start = text.rfind("\n", 0, at) + 1
        line = text[start:].split("\n", 1)[0]
        super().__init__(f"{problem}\n    {line}\n    {' ' * (at - start)}^")


class UsageError(DbbError, ValueError):
    """Arguments that cannot be used together or at all."""

    exit_code = 2


class TableError(DbbError, ValueError):
    """A table that cannot be read or holds a malformed value; names the row and the column."""

    exit_code = 2


class NotFoundError(DbbError, LookupError):
    """Something was asked for by a name that nobody knows.

    Parameters
    ----------
    kind
        What was looked for, e.g. ``"filetype"``.
    name
        The unknown name.
    known
        All known names; the message lists them nearest first.
    hint
        What to do, as a sentence.
    """

    exit_code = 5

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        super().__init__(f"unknown {kind} {name!r}{known_names(name, self.known)}{'. ' + hint if hint else ''}")


class MissingError(DbbError, LookupError):
    """A dataset, file or calibration that a request needs is not there."""

    exit_code = 5


class ConflictError(DbbError):
    """What was asked contradicts what is there; nothing was changed."""

    exit_code = 4


class AmbiguousError(ConflictError, LookupError):
    """Several files answer where exactly one must."""


class IntegrityError(DbbError):
    """A file is absent or is not the one that was registered (size or checksum)."""


class UnsafePathError(DbbError, ValueError):
    """A path leaves its root or holds characters that the Butler would read as a pattern."""

    exit_code = 2


class SchemaVersionError(DbbError):
    """The registry has a schema that this dbb does not read."""

    exit_code = 6


class HeaderError(DbbError, ValueError):
    """A header cannot be turned into metadata; ``key`` is the card that is missing or wrong."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"header key {key}: {problem}")


class PluginError(DbbError):
    """A plug-in is broken and somebody asked for it, or it broke its contract."""


class PipelineError(DbbError, ValueError):
    """A pipeline, or the submit file that it came from, cannot be planned; says where it was written.

    ``others`` holds further problems that were found with it, each with its place.
    """

    exit_code = 2

    def __init__(self, problem: str, place: object = None, others: Sequence[tuple[str, object]] = ()) -> None:
        self.problem, self.place, self.others = problem, place, tuple(others)
        told = ((problem, place), *self.others)
        super().__init__("\n".join(f"{where}: {what}" if where else what for what, where in told))


class VariableError(PipelineError):
    """A variable of a pipeline cannot be replaced: circular, or no number where one is wanted; shows the chain."""


class MissingVariableError(VariableError, LookupError):
    """A variable of a pipeline has no value anywhere; shows the chain of variables that led to it."""


class ConsequenceError(PipelineError):
    """Something cannot be planned because an earlier module, whose errors are told already, was not."""


class CollidingOutputsError(ConflictError):
    """Two quanta of a plan would write one file; names both and the key that its name lacks."""


def known_names(name: str, known: Sequence[str], most: int = 12) -> str:
    """Return ``"; known: …"`` with the names nearest to `name` first, or an empty text.

    Examples
    --------
    >>> known_names("calex", ["src", "calexp"])
    '; known: calexp, src'
    """
    if not known:
        return ""
    import difflib  # only for a message, and not free to load

    lowered = {other.lower(): other for other in sorted(known, reverse=True)}  # of two spellings, that with capitals
    near = [lowered[match] for match in difflib.get_close_matches(name.lower(), sorted(lowered), n=3, cutoff=0.5)]
    names = near + sorted(other for other in lowered.values() if other not in near)
    return "; known: " + ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
