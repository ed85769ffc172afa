"""What all steps of a job share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dbb.errors import UsageError
from dbb.filetypes import Filetype
from dbb.jobs.jobfile import Exec, Options
from dbb.jobs.messages import WARNING, Message, MessageRules, make_message
from dbb.jobs.process import Limits, Stopper, run_process
from dbb.patterncost import compile_search

_VERSION_LIMITS = Limits(seconds=60)
_LONGEST_ANSWER = 1 << 16


class Record(Protocol):
    """Takes an event of a step, or of the job (None)."""

    def __call__(self, step: int | None, /, **fields: object) -> None:
        """Note it."""


@dataclass(slots=True)
class Context:
    """The surroundings of steps.

    Parameters
    ----------
    work
        The work folder.
    record
        Takes events.
    environment
        Of the programs.
    rules, limits, options
        As the job file has them.
    archives, home
        URLs of archives by name; the one that outputs go to, or None.
    filetypes
        What outputs may be.
    stopper
        Ends everything.
    replaces
        MD5 sums of files that earlier tries of the job made, by name.
    prepare
        Makes the repository ready for a step.
    missing
        Why an input could not be brought here, by its path.
    """

    work: Path
    record: Record
    environment: Mapping[str, str]
    rules: MessageRules
    limits: Limits = field(default_factory=Limits)
    options: Options = field(default_factory=Options)
    archives: Mapping[str, str] = field(default_factory=dict)
    home: str | None = None
    filetypes: Mapping[str, Filetype] = field(default_factory=dict)
    stopper: Stopper = field(default_factory=Stopper)
    replaces: Mapping[str, frozenset[str]] = field(default_factory=dict)
    prepare: Callable[[Mapping[str, object]], object] = lambda entry: None
    missing: dict[str, str] = field(default_factory=dict)
    _versions: dict[tuple[str, str, str], tuple[str | None, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def version_of(self, program: str, one: Exec) -> tuple[str | None, Message | None]:
        """Ask a program for its version, once a job; return it, and what there is to say if it does not tell."""
        if one.version_flag is None:
            return None, None
        key = (program, one.version_flag, one.version_pattern or "")
        with self._lock:
            if key not in self._versions:
                self._versions[key] = self._ask_version(*key)
                version, why = self._versions[key]
                return version, make_message(why, None, WARNING) if why else None
        return self._versions[key][0], None

    def _ask_version(self, program: str, flag: str, pattern: str) -> tuple[str | None, str]:
        answer = bytearray()

        def take(data: bytes) -> None:
            answer.extend(data[: _LONGEST_ANSWER - len(answer)])

        ended = run_process(
            [program, flag],
            take,
            folder=self.work,
            environment=self.environment,
            limits=_VERSION_LIMITS,
            stopper=self.stopper,
        )
        if not ended.is_good:
            return None, f"'{program} {flag}' gives no version: {ended.reason or f'exit status {ended.status}'}"
        text = answer.decode("utf-8", errors="replace")
        try:
            match = compile_search(pattern, "version_pattern")(text)
        except UsageError as error:
            return None, str(error)
        if match is None:
            return None, f"'{program} {flag}' answers {text[:200]!r}, in which {pattern!r} finds no version"
        return (match[1] if match.re.groups else match[0]), ""
