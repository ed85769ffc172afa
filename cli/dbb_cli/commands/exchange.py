"""``dbb snapshot``, ``dbb export``, ``dbb import``: registries as files."""

from __future__ import annotations

import json

import click

from dbb_cli.options import dry_run_option, listed, open_registry, progress, registry_option, reply_option
from dbb_cli.output import shown

_MOST = 20


@click.command()
@click.argument("path", metavar="CAMPAIGN.db", type=click.Path(dir_okay=False))
@click.option("--where", help="An expression, for the files of every filetype that knows its names.")
@click.option(
    "--filetype",
    "filetypes",
    multiple=True,
    metavar="NAME[: EXPRESSION]",
    help="Of this filetype all files, or those that fit its own expression.",
)
@click.option("--runs", multiple=True, metavar="RUN,…", help="Only files of these runs, and files without a run.")
@click.option("--tag", "tags", multiple=True, metavar="NAME,…", help="Only files of the runs with this tag; as --runs.")
@click.option("--overlaps", metavar="VERSION", help="The overlap version that tract and patch of exposures refer to.")
@registry_option
@reply_option
@dry_run_option
def snapshot(
    path: str,
    where: str | None,
    filetypes: tuple[str, ...],
    runs: tuple[str, ...],
    tags: tuple[str, ...],
    overlaps: str | None,
    registry: str | None,
    form: str,
    dry_run: bool,
) -> None:
    """Write what a campaign needs of the registry to CAMPAIGN.db, a registry to read from.

    Give it to other commands as --registry sqlite:///CAMPAIGN.db.

    Without --where and --filetype the files of all filetypes are in it. Archives, filetypes, calibrations, overlaps of
    the visits, reference catalogues, sky maps, visit tags and the blacklist are in it always; runs that are named, with
    all that is known of them.

    \b
    Examples:
      dbb snapshot campaign.db --where "visit IN (903334..903346) AND filter = 'HSC-R'"
      dbb snapshot coadd.db --filetype raw --filetype "calexp: tract = 0 AND patch = '8,6'" --runs Ht0_r12p01
    """
    from dbb.exchange import Choice, write_snapshot

    named = (*listed(runs), *(f"tag:{tag}" for tag in listed(tags)))
    with open_registry(registry) as opened, progress("rows written") as report:
        choice = Choice(where, filetypes, named, overlaps)
        done = write_snapshot(opened, path, choice, dry_run=dry_run, progress=report)
    if form == "json":
        click.echo(json.dumps({"files": done.files, "runs": done.runs, "size": done.size}))
    for filetype, count in done.files.items():
        click.echo(f"{filetype}: {count}", err=True)
    size = "" if dry_run else f", {done.size / 1e6:.1f} MB"
    verb = "would hold" if dry_run else "holds"
    click.echo(f"{path} {verb} {sum(done.files.values())} files and {done.runs} runs{size}", err=True)


@click.command()
@click.argument("folder", type=click.Path())
@registry_option
@reply_option
@dry_run_option
def export(folder: str, registry: str | None, form: str, dry_run: bool) -> None:
    """Write all of the registry to the new FOLDER as Parquet files, one for each table and run.

    Nothing is lost: 'dbb import' makes the same registry of it, on SQLite or on PostgreSQL.

    \b
    Example:
      dbb export survey-2026
    """
    from dbb.exchange import export_registry

    with open_registry(registry) as opened, progress("rows written") as report:
        done = export_registry(opened, folder, dry_run=dry_run, progress=report)
    if form == "json":
        click.echo(json.dumps({"rows": done.rows, "files": done.parts, "size": done.size}))
    rows, tables = sum(done.rows.values()), len(done.rows)
    if dry_run:
        click.echo(f"{folder} would hold {rows} rows of {tables} tables", err=True)
    else:
        size = f"{done.parts} files, {done.size / 1e6:.1f} MB"
        click.echo(f"{folder} holds {rows} rows of {tables} tables in {size}", err=True)


@click.command("import")
@click.argument("folder", type=click.Path())
@registry_option
@reply_option
@dry_run_option
@click.pass_context
def import_(ctx: click.Context, folder: str, registry: str | None, form: str, dry_run: bool) -> None:
    """Bring what 'dbb export' wrote to FOLDER into the registry, which may know some of it.

    What is known stays as it is. If anything contradicts the registry, all of that is told, nothing is changed, and the
    exit code is 4.

    \b
    Example:
      dbb import survey-2026 --registry postgresql+psycopg://user@host/survey
    """
    from dbb.exchange import import_folder

    with open_registry(registry) as opened, progress("rows read") as report:
        done = import_folder(opened, folder, dry_run=dry_run, progress=report)
    if form == "json":
        refused = [{"what": one.relpath, "why": one.why} for one in done.refused]
        click.echo(json.dumps({"added": done.added, "known": done.known, "runs": done.runs, "refused": refused}))
    for one in done.refused[:_MOST]:
        click.echo(shown(f"refused: {one.relpath}: {one.why}"), err=True)
    if len(done.refused) > _MOST:
        click.echo(f"… and {len(done.refused) - _MOST} more (--format json lists them)", err=True)
    if done.refused:
        click.echo("nothing was changed", err=True)
        ctx.exit(4)
    verb = "would be added" if dry_run else "added"
    click.echo(f"{done.added} files and {done.runs} runs {verb}, {done.known} files known", err=True)
