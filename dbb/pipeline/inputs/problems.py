"""Errors of inputs: whatever the cause, they name the section and its place and keep the exit code of the cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbb.errors import DbbError, PipelineError
from dbb.pipeline.section import Section

FAILED, NOT_FOUND = 1, 5


def problem(section: Section, text: str, key: str, exit_code: int) -> PipelineError:
    """Return an error about a key of a section with an exit code of its own."""
    error = section.error(text, key)
    error.exit_code = exit_code
    return error


@contextmanager
def explained(section: Section, key: str) -> Iterator[None]:
    """Turn errors of other parts of dbb into ones that name the section and the key."""
    try:
        yield
    except PipelineError:
        raise
    except DbbError as error:
        raise problem(section, f"{key}: {error}", key, error.exit_code) from error
