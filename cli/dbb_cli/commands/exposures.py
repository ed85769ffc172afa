"""``dbb overlaps`` and ``dbb visits``: facts about exposures."""

from __future__ import annotations

import click

from dbb_cli.options import dry_run_option, format_option, open_registry, progress, registry_option
from dbb_cli.output import print_rows


@click.group()
def overlaps() -> None:
    """Which exposures overlap which patch: named versions, from tables or from corners and a sky map.

    \b
    Examples:
      dbb overlaps load --version ci_hsc overlaps.csv
      dbb overlaps compute --skymap rings.toml --version rings_v1
      dbb overlaps live --skymap rings.toml --version now
      dbb overlaps list
    """


_skymap_option = click.option(
    "--skymap", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="The sky map, a TOML file."
)


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
    _say_added(version, added, dry_run)


@overlaps.command("compute")
@_skymap_option
@click.option("--version", required=True, help="The version to fill; made if it is new.")
@registry_option
@dry_run_option
def compute(skymap: str, version: str, registry: str | None, dry_run: bool) -> None:
    """Fill a version with what overlaps by the corners of the images in the registry and a sky map.

    An exposure counts with the corners of its raw, or of its other files where that has none. Rows that are there
    already are kept: run it again when exposures have come.

    \b
    Example:
      dbb overlaps compute --skymap rings.toml --version rings_v1
    """
    from dbb.ingest import compute_overlaps

    with progress("images") as report, open_registry(registry) as opened:
        added = compute_overlaps(opened, skymap, version=version, dry_run=dry_run, progress=report)
    _say_added(version, added, dry_run)


@overlaps.command("live")
@_skymap_option
@click.option("--version", required=True, help="What to call it.")
@registry_option
@dry_run_option
def live(skymap: str, version: str, registry: str | None, dry_run: bool) -> None:
    """Make a version that has no rows: whenever a condition uses tract or patch, corners and sky map are asked.

    It knows every exposure at once, and costs a little more at each question than a table.

    \b
    Example:
      dbb overlaps live --skymap rings.toml --version now
    """
    from dbb.ingest import register_live_overlaps

    with open_registry(registry) as opened:
        made = register_live_overlaps(opened, skymap, version=version, dry_run=dry_run)
    done = ("would be made" if dry_run else "made") if made else "is there already"
    click.echo(f"{version}: {done}; it is asked from the corners", err=True)


def _say_added(version: str, added: int, dry_run: bool) -> None:
    click.echo(f"{version}: {added} rows {'would be added' if dry_run else 'added'}", err=True)


@overlaps.command("list")
@registry_option
@format_option
def list_versions(registry: str | None, form: str) -> None:
    """Show the versions: how each answers, how many rows it has, what it was made from.

    \b
    Example:
      dbb overlaps list --format json
    """
    from dbb.registry.overlaps import overlap_versions

    with open_registry(registry) as opened, opened.read() as conn:
        rows = [
            {
                "version": version.name,
                "way": "corners" if version.live else "table",
                "rows": count,
                "source": version.source,
                "skymap": version.skymap_name,
            }
            for version, count in overlap_versions(conn)
        ]
    print_rows(rows, form, ("version", "way", "rows", "source", "skymap"))


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
