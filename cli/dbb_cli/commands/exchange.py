"""``dbb snapshot``: registries as files."""

from __future__ import annotations

import json

import click

from dbb_cli.options import dry_run_option, listed, open_registry, progress, registry_option, reply_option


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
