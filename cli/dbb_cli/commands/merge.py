"""``dbb merge``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from dbb_cli.options import dry_run_option, open_registry, progress, registry_option, reply_option
from dbb_cli.output import shown


@click.command()
@click.argument("paths", metavar="DIR...", nargs=-1, required=True, type=click.Path())
@click.option("--final", is_flag=True, help="The jobs are over: what they left running was killed.")
@registry_option
@reply_option
@dry_run_option
@click.pass_context
def merge(
    ctx: click.Context, paths: tuple[str, ...], final: bool, registry: str | None, form: str, dry_run: bool
) -> None:
    """Bring what jobs wrote into their event files below DIR into the registry.

    It may be done while they run, again, by several processes at once, or with a copy of the files: nothing counts
    twice. What contradicts the registry becomes a message (see dbb messages). Files of unknown runs are reported, the
    rest go in, and the exit code is 3.

    \b
    Examples:
      dbb merge Ht0_r11p95
      dbb merge /scratch/runs --final --format json
    """
    from dbb.runs.merge import merge as merge_events

    with open_registry(registry) as opened, progress("events merged") as report:
        done = merge_events(opened, paths, final=final, dry_run=dry_run, progress=report)
    if form == "json":
        refused = [{"path": one.relpath, "why": one.why} for one in done.refused]
        click.echo(json.dumps(asdict(done) | {"refused": refused}, ensure_ascii=False))
    for one in done.refused:
        click.echo(shown(f"refused: {one.relpath}: {one.why}"), err=True)
    verb = "would be merged" if dry_run else "merged"
    click.echo(f"{done.events} events of {done.logs} files {verb}, {done.files} files registered", err=True)
    if done.lost:
        click.echo(f"{done.lost} jobs had ended without a word: they count as killed", err=True)
    if done.refused:
        ctx.exit(3)
