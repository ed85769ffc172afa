"""``dbb tag``."""

from __future__ import annotations

import click

from dbb_cli.options import dry_run_option, open_registry, registry_option


@click.command()
@click.argument("name")
@click.argument("runs", nargs=-1, required=True)
@registry_option
@dry_run_option
def tag(name: str, runs: tuple[str, ...], registry: str | None, dry_run: bool) -> None:
    """Give the tag NAME to RUNS, which are searched in the order in which they were tagged.

    \b
    Example:
      dbb tag PROTO-0.1 Ht0_r11p95
    """
    from dbb.registry.tags import tag_runs

    with open_registry(registry) as opened:
        fresh = opened.write(lambda conn: tag_runs(conn, name, runs), keep=lambda done: not dry_run)
    click.echo(f"{fresh} of {len(runs)} runs {'would be' if dry_run else 'are'} newly tagged {name}", err=True)
