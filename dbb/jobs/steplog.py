"""The log of a step: what its programs write goes there as it comes, and its messages are found on the way."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import IO

from dbb.jobs.context import Context
from dbb.jobs.messages import ERROR, Message, MessageMatcher, make_message

_LONGEST_LINE = 1 << 16


class StepLog:
    """A log, open for the programs of one step, one after the other.

    Parameters
    ----------
    context
        Takes messages as events.
    step
        Number of the step, None for what belongs to none.
    path
        The file.
    """

    def __init__(self, context: Context, step: int | None, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._context, self._step, self._name = context, step, path.name
        self._file: IO[bytes] | None = path.open("ab", buffering=0)
        self._lines = 0
        self._number: int | None = None
        self._matcher: MessageMatcher | None = None
        self._waiting = b""

    def begin(self, number: int | None, execnames: Collection[str]) -> None:
        """Expect the output of the program with this number in the step."""
        self._number = number
        self._matcher = self._context.rules.matcher(execnames, self._lines)

    def take(self, data: bytes) -> None:
        """Log a piece of output and record the messages in it."""
        assert self._matcher is not None
        if self._matcher.rewrites:
            data = self._waiting + data
            # a text to be replaced may stand on the border of two pieces, but not of two lines
            cut = len(data) if len(data) > _LONGEST_LINE else data.rfind(b"\n") + 1
            self._waiting, data = data[cut:], self._matcher.rewrite(data[:cut])
        self._write(data)
        self._tell(self._matcher.feed(data))

    def end(self) -> None:
        """Take it that the program has ended."""
        if self._matcher is not None:
            rest, self._waiting = self._matcher.rewrite(self._waiting), b""
            self._write(rest)
            self._tell([*self._matcher.feed(rest), *self._matcher.finish()])
            self._lines = self._matcher.lines
            self._matcher = None

    def tell(self, text: str, level: int) -> None:
        """Record something that dbb itself has to say."""
        self._tell([make_message(text, None, level)])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:  # the program must not suffer for it: what it does may still be good
            self.close()
            self.tell(f"the log {self._name} cannot be written on: {error.strerror}", ERROR)

    def _tell(self, messages: Collection[Message]) -> None:
        for message in messages:
            self._context.record(self._step, exec=self._number, message=message.as_dict(self._name))
