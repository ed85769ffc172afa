"""``dbb import-repo``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dbb_cli.options import dry_run_option, open_registry, progress, registry_option, reply_option
from dbb_cli.output import shown

if TYPE_CHECKING:
    from dbb.butler import Imported

_MOST = 20


@click.command()
@click.argument("repo", type=click.Path(file_okay=False))
@click.option("--archive", required=True, help="The archive that holds the repository; its root is REPO or above it.")
@click.option("--run", help="The run that made the files, e.g. Ht0_r11p95; raws and calibrations have none.")
@click.option("--calibs", metavar="VERSION", help="Certify the calibration registry in this version, e.g. 2014A.")
@click.option("--mapper", help="The camera, where no plug-in has the class that REPO names.")
@click.option(
    "--era",
    type=click.Choice(["both", "2017", "2021"]),
    default="both",
    show_default=True,
    help="Which Gen2 stack wrote it: whose templates count.",
)
@click.option("--checksums", is_flag=True, help="Read all files for their checksums; otherwise none is opened.")
@registry_option
@reply_option
@dry_run_option
@click.pass_context
def import_repo(
    ctx: click.Context,
    repo: str,
    archive: str,
    run: str | None,
    calibs: str | None,
    mapper: str | None,
    era: str,
    checksums: bool,
    registry: str | None,
    form: str,
    dry_run: bool,
) -> None:
    """Register the files of the Gen2 repository REPO where they lie.

    Only what lies in REPO itself is imported: parents, and reruns within it, are named and imported by calls of their
    own. A name that no template gives, or several, is reported, the rest go in, and the exit code is 3.

    \b
    Examples:
      dbb import-repo /data/hsc --archive disk --calibs 2014A
      dbb import-repo /data/hsc/rerun/ana --archive disk --run Ht0_r11p95 --dry-run
    """
    from dbb.butler import import_repo as move_in

    with open_registry(registry) as opened, progress("files seen") as report:
        done = move_in(
            opened, repo, archive=archive, run=run, calibs=calibs, mapper=mapper, era=era, checksums=checksums,
            dry_run=dry_run, progress=report,
        )  # fmt: skip
    if form == "json":
        _as_json(done)
    _talk(done, dry_run)
    if calibs is not None and not (done.certified or done.absent or done.files.conflict):
        click.echo("the calibration registry lists no calibrations: nothing was certified", err=True)
    if done.files.conflict:
        click.echo("nothing was changed", err=True)
        ctx.exit(4)
    if done.files.refused or done.absent:
        ctx.exit(3)


def _as_json(done: Imported) -> None:
    from dbb.ingest.table import as_dict

    more = {
        "certified": {name: asdict(one) for name, one in done.certified.items()},
        "absent": done.absent,
        "parents": done.parents,
        "others": done.others,
    }
    click.echo(json.dumps(as_dict(done.files) | more, ensure_ascii=False))


def _talk(done: Imported, dry_run: bool) -> None:
    lines = [f"refused: {one.relpath}: {one.why}" for one in done.files.refused]
    lines += [f"not certified: {why}" for why in done.absent]
    for line in lines[:_MOST]:
        click.echo(shown(line), err=True)
    if len(lines) > _MOST:
        click.echo(f"… and {len(lines) - _MOST} more (--format json lists all)", err=True)
    for parent in done.parents:
        click.echo(f"parent, not imported: {parent}", err=True)
    for other in done.others:
        click.echo(f"another repository or a linked folder, not imported: {other}", err=True)
    for name, one in done.certified.items():
        for note in one.trimmed:
            click.echo(f"warning: {name}: trimmed: {note}", err=True)
        click.echo(
            f"{name}: {one.added} {'would be certified' if dry_run else 'certified'}, {one.known} known", err=True
        )
    if done.links:
        click.echo(f"{done.links} of the files are links, and registered as what they lead to", err=True)
    verb = "would be added" if dry_run else "added"
    files = done.files
    click.echo(f"{files.added} {verb}, {files.known} known, {len(files.refused)} refused", err=True)
