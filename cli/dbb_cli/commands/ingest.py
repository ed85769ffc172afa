"""``dbb ingest-table``, ``dbb ingest-files`` and ``dbb ingest-packed``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from dbb_cli.options import dry_run_option, open_registry, progress, registry_option, reply_option
from dbb_cli.output import shown

if TYPE_CHECKING:
    from dbb.registry.files import Registered

_MOST = 20


@click.command()
@click.argument("table", type=click.Path(dir_okay=False))
@click.option("--archive", required=True, help="The archive that holds the files.")
@click.option("--filetype", help="Filetype or Butler dataset type, where the table has no such column.")
@click.option("--run", help="The run that made the files, e.g. Ht0_r11p95, where the table has no such column.")
@click.option(
    "--map", "renames", metavar="NAME=COLUMN,…", help="The table's own column names: relpath=path,filesize=size_bytes."
)
@registry_option
@reply_option
@dry_run_option
@click.pass_context
def ingest_table(
    ctx: click.Context,
    table: str,
    archive: str,
    filetype: str | None,
    run: str | None,
    renames: str | None,
    registry: str | None,
    form: str,
    dry_run: bool,
) -> None:
    """Register the files that TABLE (Parquet, ECSV, CSV or JSON lines) describes; none of them is opened.

    Columns: relpath, filesize, md5sum, sha256, compression, run, filetype and the filetype's metadata. Either every
    row goes in or none.

    \b
    Examples:
      dbb ingest-table calexps.csv --filetype calexp --archive home --run Ht0_r11p95
      dbb ingest-table inventory.csv --archive home --map relpath=path,filesize=size_bytes --dry-run
    """
    from dbb.ingest import ingest_table as ingest
    from dbb.ingest.rows import parse_map

    rename = parse_map(renames) if renames else None
    with open_registry(registry) as opened, progress("rows") as report:
        done = ingest(
            opened, table, archive=archive, filetype=filetype, run=run, rename=rename, dry_run=dry_run, progress=report
        )
    _reply(ctx, done, form, dry_run, changed=not done.refused)


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--filetype", required=True, help="Filetype or Butler dataset type.")
@click.option("--archive", required=True, help="The archive that the files belong to.")
@click.option("--run", help="The run that made the files, e.g. Ht0_r11p95.")
@click.option(
    "--transfer",
    type=click.Choice(["direct", "copy", "move", "symlink", "relsymlink", "hardlink"]),
    default="direct",
    show_default=True,
    help="direct: they lie in the archive already. Otherwise how they come to the place that the filetype names.",
)
@click.option(
    "--set", "given", multiple=True, metavar="COLUMN=VALUE", help="A value that wins over what the files say."
)
@registry_option
@reply_option
@dry_run_option
@click.pass_context
def ingest_files(
    ctx: click.Context,
    sources: tuple[str, ...],
    filetype: str,
    archive: str,
    run: str | None,
    transfer: str,
    given: tuple[str, ...],
    registry: str | None,
    form: str,
    dry_run: bool,
) -> None:
    """Look into SOURCES (paths, URLs or quoted patterns) and register them.

    A file whose header cannot be read or lacks a key is reported, the rest go in, and the exit code is 3.

    \b
    Example:
      dbb ingest-files --filetype hsc_raw --archive home --transfer direct '/data/home/raw/*.fits'
    """
    from dbb.ingest import ingest_files as ingest

    values = _values(given)
    with open_registry(registry) as opened, progress("files looked into") as report:
        done = ingest(
            opened, sources, filetype=filetype, archive=archive, run=run, transfer=transfer, given=values,
            dry_run=dry_run, progress=report,
        )  # fmt: skip
    _reply(ctx, done, form, dry_run, changed=not done.conflict)


@click.command()
@click.argument("tarball")
@click.option("--filetype", required=True, help="What the members are; its name pattern tells which of them.")
@click.option("--archive", help="The archive that holds TARBALL, where it is not clear.")
@click.option("--run", help="The run that made the members, e.g. Ht0_r11p95.")
@click.option("--set", "given", multiple=True, metavar="COLUMN=VALUE", help="A value that wins over the members'.")
@registry_option
@reply_option
@dry_run_option
@click.pass_context
def ingest_packed(
    ctx: click.Context,
    tarball: str,
    filetype: str,
    archive: str | None,
    run: str | None,
    given: tuple[str, ...],
    registry: str | None,
    form: str,
    dry_run: bool,
) -> None:
    """Register the members of TARBALL, an uncompressed tar in an archive, that are called as FILETYPE's files are.

    They stay in the tar; jobs copy those that they need out of it. Members that cannot be understood are reported, the
    rest go in, and the exit code is 3.

    \b
    Example:
      dbb ingest-packed packed/r11p95-corr.tar --filetype calexp --archive home --run Ht0_r11p95
    """
    from dbb.ingest import ingest_packed as ingest

    with open_registry(registry) as opened, progress("members looked into") as report:
        done = ingest(
            opened, tarball, filetype=filetype, archive=archive, run=run, given=_values(given), dry_run=dry_run,
            progress=report,
        )  # fmt: skip
    _reply(ctx, done, form, dry_run, changed=not done.conflict)


def _values(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if any(not equals for _, equals, _ in pairs):
        raise click.UsageError("--set takes COLUMN=VALUE")
    return {name: value for name, _, value in pairs}


def _reply(ctx: click.Context, done: Registered, form: str, dry_run: bool, *, changed: bool) -> None:
    from dbb.ingest.table import as_dict

    if form == "json":
        click.echo(json.dumps(as_dict(done), ensure_ascii=False))
    for one in done.refused[:_MOST]:
        click.echo(shown(f"refused: {one.relpath}: {one.why}"), err=True)
    if len(done.refused) > _MOST:
        click.echo(f"… and {len(done.refused) - _MOST} more (--format json lists all)", err=True)
    verb = "would be added" if dry_run else "added"
    click.echo(f"{done.added} {verb}, {done.known} known, {len(done.refused)} refused", err=True)
    if not changed:
        click.echo("nothing was changed", err=True)
        ctx.exit(4)
    if done.refused:
        ctx.exit(3)
