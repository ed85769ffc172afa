"""``dbb plan`` and ``dbb check``: what a submit file would run, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dbb_cli.options import format_option, open_registry, progress, registry_option
from dbb_cli.output import print_rows, shown

if TYPE_CHECKING:
    from dbb.pipeline.model import Problem
    from dbb.pipeline.workflow import Workflow

submit_argument = click.argument("submit", type=click.Path(path_type=Path))
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A value that wins over the submit file's."
)


@click.command()
@submit_argument
@set_option
@click.option(
    "--graph",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="Draw the jobs into this file, and list nothing.",
)
@registry_option
@format_option
@click.pass_context
def plan(
    ctx: click.Context,
    submit: Path,
    settings: tuple[str, ...],
    graph: Path | None,
    registry: str | None,
    form: str,
) -> None:
    """Show what SUBMIT would run: quanta with their files and command lines, and the jobs they are in.

    Queries are asked, query programs run in a folder of their own, and nothing else is written. A registry is needed
    only where a section asks it. With --graph the jobs become a picture, with arrows for what waits for what; many jobs
    of one kind are drawn as one box.

    \b
    Examples:
      dbb plan coadd.wcl --set attnum=95
      dbb plan coadd.wcl --set tract=0 --format json
      dbb plan coadd.wcl --graph coadd.svg
    """
    from dbb.pipeline import plan as make_plan
    from dbb.pipeline import read_pipeline
    from dbb.pipeline.picture import check_name, write_graph
    from dbb.pipeline.reading import parse_settings

    if graph is not None:
        check_name(graph)
    pipeline = read_pipeline(submit, parse_settings(settings))
    for problem in pipeline.problems:
        click.echo(shown(str(problem)), err=True)
    with progress("quanta") as report:
        workflow = make_plan(pipeline, lambda: ctx.with_resource(open_registry(registry)), progress=report)
    if graph is not None:
        write_graph(workflow, graph)
    elif form == "json":
        for piece in workflow.as_json():
            click.echo(piece, nl=False)
        return
    else:
        print_rows(_rows(workflow), form, ("wrapnum", "module", "loop", "job", "in", "out", "command"))
    click.echo(f"{len(workflow.instances)} quanta in {len(workflow.jobs)} jobs", err=True)


@click.command()
@submit_argument
@set_option
@registry_option
@format_option
@click.pass_context
def check(ctx: click.Context, submit: Path, settings: tuple[str, ...], registry: str | None, form: str) -> int:
    """Find what is wrong with SUBMIT, all at once, with file and line.

    What can be planned is planned: queries are asked, so that names which collide are found too. Warnings alone
    leave the exit code at 0.

    \b
    Example:
      dbb check coadd.wcl --set attnum=95
    """
    from dbb.pipeline import check_file
    from dbb.pipeline.reading import parse_settings

    found = check_file(submit, parse_settings(settings), lambda: ctx.with_resource(open_registry(registry)))
    if form == "table":
        for problem in found:
            click.echo(shown(str(problem)))
    else:
        print_rows([_row(problem) for problem in found], form, ("file", "line", "severity", "text"))
    errors = sum(problem.severity == "error" for problem in found)
    click.echo(f"{submit}: {errors} errors, {len(found) - errors} warnings", err=True)
    return 2 if errors else 0


def _rows(workflow: Workflow) -> list[dict[str, Any]]:
    job_of = {wrapnum: job.name for job in workflow.jobs for wrapnum in job.wrapnums}
    return [
        {
            "wrapnum": one.wrapnum,
            "module": one.module,
            "loop": " ".join(f"{key}={value}" for key, value in one.loop.items()),
            "job": job_of[one.wrapnum],
            "in": len(one.inputs),
            "out": len(one.outputs),
            "command": " ; ".join(" ".join(map(str, words)) for words in one.argv),
        }
        for one in workflow.instances
    ]


def _row(problem: Problem) -> dict[str, Any]:
    place = problem.place
    return {
        "file": place.file if place else None,
        "line": place.line if place else None,
        "severity": problem.severity,
        "text": problem.text,
    }
