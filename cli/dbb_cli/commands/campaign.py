"""What ``dbb submit --table`` does: one attempt for each row of a table."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dbb_cli.options import open_registry, progress
from dbb_cli.output import shown

if TYPE_CHECKING:
    from dbb import Registry
    from dbb.runs.campaign import Campaign, UnitPlan
    from dbb.runs.campaign_run import Outcome
    from dbb.runs.work import Say

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = (
    click.option(
        "--table", type=click.Path(path_type=Path), help="A campaign: one attempt for each row of this table."
    ),
    click.option("--at-once", "attempts", type=click.IntRange(min=1), metavar="N", help="Attempts at the same time."),
    click.option(
        "--resubmit", type=click.IntRange(min=0), metavar="N", help="Resume a unit that failed, up to N times."
    ),
    click.option(
        "--stop-after", type=click.IntRange(min=1), metavar="N", help="Begin no more when N units have failed."
    ),
)


def campaign_options(function: F) -> F:
    """Add the options of campaigns."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def run_table(
    submit_file: Path | None,
    table: Path,
    *,
    settings: tuple[str, ...],
    engine: str,
    workdir: Path | None,
    jobs: int | None,
    retries: int,
    attempts: int | None,
    resubmit: int | None,
    stop_after: int | None,
    registry: str | None,
    dry_run: bool,
    bar: Callable[[], Any],
) -> int:
    """Check all rows of a table, and run them; return the exit code."""
    from dbb.pipeline.reading import parse_settings
    from dbb.runs.campaign import Campaign, check_campaign

    if submit_file is None:
        raise click.UsageError("--table needs a submit file")
    at_once = attempts or 1
    campaign = Campaign(
        submit_file,
        table,
        parse_settings(settings),
        workdir,
        engine,
        at_once,
        jobs or max(1, (os.cpu_count() or 1) // at_once),
        retries,
        resubmit or 0,
        stop_after,
    )
    with open_registry(registry) as opened:
        with progress("rows checked") as report:
            plans = check_campaign(
                opened, campaign, warn=lambda text: click.echo(shown(text), err=True), progress=report
            )
        if dry_run:
            _print_plans(plans, campaign.place)
            return 0
        with bar() as say:
            done = _run(opened, campaign, plans, say)
    return _print_outcome(campaign.table.stem, done)


def _run(opened: Registry, campaign: Campaign, plans: list[UnitPlan], say: Say) -> Outcome:
    from dbb.runs.campaign_run import run_campaign

    with _interruptions() as count:
        return run_campaign(opened, campaign, plans, say=say, interruptions=count)


@contextmanager
def _interruptions() -> Iterator[Callable[[], int]]:
    """Count Ctrl-C and SIGTERM instead of being broken off by them, so that no attempt is begun and not noted."""
    count = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: count
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_plans(plans: list[UnitPlan], place: Path) -> None:
    for plan in plans:
        tried = plan.tried
        if tried is not None and (plan.is_done or tried.alive() or tried.unknown()):
            why = "succeeded already" if plan.is_done else tried.alive() or tried.unknown()
            click.echo(f"{tried.run}: {why}")
            continue
        reused = f", {plan.reused} quanta taken over" if plan.reused else ""
        click.echo(f"{plan.run}: {plan.jobs} jobs would run in {place / str(plan.run)}{reused}")


def _print_outcome(name: str, done: Outcome) -> int:
    parts = [f"{len(done.done)} of {done.units} units succeeded"]
    if done.problems:
        parts.append(f"{len(done.problems)} did not")
    if done.not_begun:
        parts.append(f"{len(done.not_begun)} were not begun")
    click.echo(f"{name}: {', '.join(parts)}; {done.attempts} attempt{'' if done.attempts == 1 else 's'}")
    for unit, why in done.problems.items():
        click.echo(shown(f"{unit}: {why}"), err=True)
    if done.is_interrupted:
        return 130
    return 3 if done.problems or done.not_begun else 0
