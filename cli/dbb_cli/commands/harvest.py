"""``dbb harvest-repo``."""

from __future__ import annotations

import json

import click

from dbb_cli.options import dry_run_option, open_registry, progress, registry_option, reply_option
from dbb_cli.output import shown

_MOST = 20


@click.command()
@click.argument("job", type=click.Path(file_okay=False))
@click.option("--run", required=True, help="The run that the outputs belong to, e.g. Ht0_r20p01.")
@click.option("--archive", help="Where to save them; may be left out where there is one archive only.")
@click.option(
    "--transfer",
    type=click.Choice(["copy", "hardlink"]),
    default="copy",
    show_default=True,
    help="How they get there. With hardlink the archive's file is the very file below out/: nothing may write into it.",
)
@registry_option
@reply_option
@dry_run_option
@click.pass_context
def harvest_repo(
    ctx: click.Context,
    job: str,
    run: str,
    archive: str | None,
    transfer: str,
    registry: str | None,
    form: str,
    dry_run: bool,
) -> None:
    """Save and register what a job wrote below JOB/out, with metadata, checksums and what it was made from.

    Files get the archive names of their filetype and RUN. It is safe to repeat. A name that no template gives, or
    several, and a file that cannot be read are reported, the rest go in, and the exit code is 3.

    \b
    Examples:
      dbb harvest-repo JOB --run Ht0_r20p01
      dbb harvest-repo JOB --run Ht0_r20p01 --archive home --dry-run --format json
    """
    from dbb.butler import harvest_repo as harvest

    with open_registry(registry) as opened, progress("files looked into") as report:
        done = harvest(opened, job, run=run, archive=archive, transfer=transfer, dry_run=dry_run, progress=report)
    files = done.files
    if form == "json":
        from dbb.ingest.table import as_dict

        more = {"used": done.used, "unknown_inputs": done.unknown_inputs}
        click.echo(json.dumps(as_dict(files) | more, ensure_ascii=False))
    for one in files.refused[:_MOST]:
        click.echo(shown(f"refused: {one.relpath}: {one.why}"), err=True)
    if len(files.refused) > _MOST:
        click.echo(f"… and {len(files.refused) - _MOST} more (--format json lists all)", err=True)
    if files.conflict:
        click.echo("nothing was changed", err=True)
        ctx.exit(4)
    verb = "would be added" if dry_run else "added"
    click.echo(f"{files.added} {verb}, {files.known} known, {len(files.refused)} refused", err=True)
    unknown = f", {done.unknown_inputs} are not registered here" if done.unknown_inputs else ""
    click.echo(f"made from {done.used} registered files{unknown}", err=True)
    if files.refused:
        ctx.exit(3)
