"""Options that several commands share, and opening the registry that they name."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dbb import Registry

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ("table", "json", "csv", "ecsv", "parquet")

dry_run_option = click.option("--dry-run", is_flag=True, help="Do everything up to the change, and change nothing.")
format_option = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print the answer."
)
reply_option = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to reply."
)


def registry_option(function: F) -> F:
    """Add ``--registry``."""
    return click.option("--registry", metavar="URL", help="The registry; else $DBB_REGISTRY or dbb.toml.")(function)


def listed(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names in options that hold some each, with commas between them."""
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def registry_url(given: str | None) -> str:
    """Return the URL of the registry that the command line, environment or dbb.toml names."""
    from dbb.config import registry_setting

    return registry_setting(given or click.get_current_context().find_root().obj["registry"]).value


def open_registry(given: str | None) -> Registry:
    """Open the registry that the command line, environment or dbb.toml names."""
    from dbb import Registry

    return Registry(registry_url(given))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how much is done; says so on stderr now and then, in place on a terminal."""
    terminal = sys.stderr.isatty()
    interval, last = (0.2, 0.0) if terminal else (10.0, 0.0)
    last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= interval:
            last = time.monotonic()
            click.echo(f"\r{what}: {done}" if terminal else f"{what}: {done}", nl=not terminal, err=True)

    try:
        yield report
    finally:
        if terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
