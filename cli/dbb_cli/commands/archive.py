"""``dbb archive``: named roots that hold files."""

from __future__ import annotations

import click

from dbb_cli.options import dry_run_option, format_option, open_registry, registry_option
from dbb_cli.output import print_rows


@click.group()
def archive() -> None:
    """Archives: named roots that hold files.

    \b
    Examples:
      dbb archive add home file:///data/home
      dbb archive add cloud s3://survey/raw
      dbb archive list --format json
    """


@archive.command("add")
@click.argument("name")
@click.argument("root")
@registry_option
@dry_run_option
def add(name: str, root: str, registry: str | None, dry_run: bool) -> None:
    """Register the archive NAME, whose files lie below ROOT (a path or any fsspec URL).

    \b
    Example:
      dbb archive add home file:///data/home
    """
    from dbb.registry.archives import add_archive

    with open_registry(registry) as opened:
        fresh = opened.write(lambda conn: add_archive(conn, name, root), keep=lambda done: not dry_run)
    verb = "would be added" if dry_run else "added"
    click.echo(f"archive {name} {verb if fresh else 'is known already'}", err=True)


@archive.command("list")
@registry_option
@format_option
def list_archives(registry: str | None, form: str) -> None:
    """Show name and root of each archive.

    \b
    Example:
      dbb archive list
    """
    with open_registry(registry) as opened:
        rows = [{"name": name, "root": root} for name, root in opened.archives().items()]
    print_rows(rows, form, ("name", "root"))
