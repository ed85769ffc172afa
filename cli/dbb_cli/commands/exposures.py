"""``dbb overlaps`` and ``dbb visits``: facts about exposures."""

from __future__ import annotations

import click

from dbb_cli.options import dry_run_option, format_option, open_registry, registry_option
from dbb_cli.output import print_rows


@click.group()
def overlaps() -> None:
    """Which exposures overlap which patch: named versions of tract, patch, visit, ccd.

    \b
    Examples:
      dbb overlaps load --version ci_hsc overlaps.csv
      dbb overlaps list
    """


@overlaps.command("load")
@click.argument("table", type=click.Path(dir_okay=False))
@click.option("--version", required=True, help="The version to add to; made if it is new.")
@registry_option
@dry_run_option
def load(table: str, version: str, registry: str | None, dry_run: bool) -> None:
    """Add the rows of TABLE (tract, patch, visit, ccd) to a version.

    \b
    Example:
      dbb overlaps load --version ci_hsc overlaps.csv
    """
    from dbb.ingest import load_overlap_table

    with open_registry(registry) as opened:
        added = load_overlap_table(opened, table, version=version, dry_run=dry_run)
    click.echo(f"{version}: {added} rows {'would be added' if dry_run else 'added'}", err=True)


@overlaps.command("list")
@registry_option
@format_option
def list_versions(registry: str | None, form: str) -> None:
    """Show the versions and how many rows each has.

    \b
    Example:
      dbb overlaps list --format json
    """
    from dbb.registry.overlaps import overlap_versions

    with open_registry(registry) as opened, opened.read() as conn:
        rows = [{"version": name, "rows": count} for name, count in overlap_versions(conn)]
    print_rows(rows, form, ("version", "rows"))


@click.group()
def visits() -> None:
    """Tags and blacklist of exposures, for use in conditions: visit_tag = 'deep' AND blacklist IS NULL.

    \b
    Examples:
      dbb visits tag deep visits.csv
      dbb visits blacklist --reason SEEING bad.csv
    """


@visits.command("tag")
@click.argument("tag")
@click.argument("table", type=click.Path(dir_okay=False))
@registry_option
@dry_run_option
def tag_visits(tag: str, table: str, registry: str | None, dry_run: bool) -> None:
    """Give TAG to the visits in the column visit of TABLE.

    \b
    Example:
      dbb visits tag deep visits.csv
    """
    from dbb.ingest import load_visit_tags

    with open_registry(registry) as opened:
        count = load_visit_tags(opened, table, tag=tag, dry_run=dry_run)
    click.echo(f"{count} visits {'would be tagged' if dry_run else 'tagged'} {tag}", err=True)


@visits.command("blacklist")
@click.argument("table", type=click.Path(dir_okay=False))
@click.option("--reason", required=True, help="Reason code for rows that have none.")
@registry_option
@dry_run_option
def blacklist_visits(table: str, reason: str, registry: str | None, dry_run: bool) -> None:
    """Put the exposures of TABLE (visit, optionally ccd, reason, remark) on the blacklist.

    \b
    Example:
      dbb visits blacklist --reason SEEING bad.csv
    """
    from dbb.ingest import load_blacklist

    with open_registry(registry) as opened:
        count = load_blacklist(opened, table, reason=reason, dry_run=dry_run)
    click.echo(f"{count} exposures {'would be put' if dry_run else 'put'} on the blacklist", err=True)
