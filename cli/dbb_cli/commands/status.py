"""``dbb status``, ``dbb job``, ``dbb report`` and ``dbb messages``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from dbb_cli.options import format_option, open_registry, registry_option
from dbb_cli.output import print_rows, shown

if TYPE_CHECKING:
    from dbb import Registry

_INTERVAL = 2.0
watch_option = click.option("--watch", is_flag=True, help="Show it again and again until the run is over.")
campaign_option = click.option("--campaign", metavar="NAME", help="Instead of RUN: all runs of a campaign.")

_STATUS = (
    *("id", "prj", "pipeline", "campaign", "run", "block", "subblock", "stat", "done", "failed", "jobs", "steps"),
    *("operator", "submitsite", "runsite", "to_home", "queue"),
)
_JOB = (
    *("block", "job", "jk", "ended", "jstate", "jstatus", "wrap", "modname", "wk", "state", "status", "reason"),
    "queue",
)
_SELDOM = ("to_home", "queue")
_MESSAGE = ("time", "level", "wrap", "modname", "message", "log_file", "log_line", "pattern")
_Rows = Sequence[dict[str, Any]]


def _show(
    registry: str | None,
    run: str | None,
    ask: Callable[[Registry], _Rows],
    form: str,
    columns: Sequence[str],
    watch: bool,
    campaign: str | None = None,
) -> None:
    """Print what `ask` gives; with `watch` whenever it changes, until nothing of the run is to come."""
    from dbb.runs.status import run_status

    last: _Rows | None = None
    with open_registry(registry) as opened:
        while True:
            going_on = watch and any(one.is_open for one in run_status(opened, run, campaign=campaign))
            rows = ask(opened)
            if rows != last:
                if last is not None and sys.stdout.isatty():
                    click.clear()
                _print(rows, form, columns)
                sys.stdout.flush()
                last = rows
            if not going_on:
                return
            time.sleep(_INTERVAL)


def _print(rows: _Rows, form: str, columns: Sequence[str]) -> None:
    """Print rows; a table has no column of what few runs have, unless one of them has it."""
    if form == "table":
        empty = {name for name in _SELDOM if not any(row.get(name) for row in rows)}
        rows = [{name: value for name, value in row.items() if name not in empty} for row in rows]
        columns = [name for name in columns if name not in empty]
    print_rows(rows, form, columns)


@click.command()
@click.argument("run", required=False)
@campaign_option
@watch_option
@format_option
@registry_option
def status(run: str | None, campaign: str | None, watch: bool, form: str, registry: str | None) -> None:
    """Show how each run, or RUN, stands.

    STAT counts the jobs of the block under way as (held up by a failure/pending/running/total); before the first job
    begins it is PEND, and after the run DONE, FAIL, KILL or, if it was cancelled, DEL. DONE and FAILED count the jobs
    of the whole run. TO_HOME counts outputs that wait in the target archive to be copied to the home archive. QUEUE is
    what the queue of the run's engine says, where that is something else.

    \b
    Examples:
      dbb status
      dbb status Ht0_r11p95 --watch
      dbb status --campaign survey1
    """
    from dbb.runs.queued import status_rows

    if run is not None and campaign is not None:
        raise click.UsageError("give RUN or --campaign, not both")
    _show(registry, run, lambda opened: status_rows(opened, run, campaign=campaign), form, _STATUS, watch, campaign)


@click.command()
@click.argument("run")
@click.option("--verbose", is_flag=True, help="Show all steps.")
@watch_option
@format_option
@registry_option
def job(run: str, verbose: bool, watch: bool, form: str, registry: str | None) -> None:
    """Show the jobs of RUN, with the steps that run or went wrong and the last one that went well.

    A job is PRE before it begins, EXEC, POST when its steps are over, then DONE, FAIL, BLOCKED, KILLED or INCOMPLETE; a
    step is WAIT before it begins and PRE before its first program. QUEUE is what the queue of the run's engine says of
    the job, where that is something else.

    \b
    Examples:
      dbb job Ht0_r11p95
      dbb job r11p95 --verbose --format json
    """
    from dbb.runs.queued import job_rows

    def ask(opened: Registry) -> _Rows:
        rows, remarks = job_rows(opened, run, verbose=verbose)
        for text in remarks:
            click.echo(shown(text), err=True)
        return rows

    _show(registry, run, ask, form, _JOB, watch)


@click.command()
@click.argument("run", required=False)
@campaign_option
@click.option("--verbose", is_flag=True, help="Name each missing file, or each unit that is not done.")
@watch_option
@format_option
@registry_option
def report(run: str | None, campaign: str | None, verbose: bool, watch: bool, form: str, registry: str | None) -> None:
    """Report on RUN: steps by module and state, the slowest, failures with their first message, and what is missing.

    On a campaign: units by state and number of attempts, the time of steps and what of it was lost, what failed most.

    \b
    Examples:
      dbb report Ht0_r11p95
      dbb report Ht0_r11p95 --verbose --format json
      dbb report --campaign survey1
    """
    from dbb.runs.campaign_report import campaign_report
    from dbb.runs.report import run_report

    def ask(opened: Registry) -> _Rows:
        if run is not None:
            return [one.as_dict() for one in run_report(opened, run, verbose=verbose)]
        return [one.as_dict() for one in campaign_report(opened, campaign or "", verbose=verbose)]

    if (run is None) == (campaign is None):
        raise click.UsageError("give RUN, or --campaign NAME")
    _show(registry, run, ask, form, (), watch, campaign)


@click.command()
@click.argument("run")
@click.option(
    "--level",
    type=click.Choice(["error", "warning", "info"]),
    default="info",
    show_default=True,
    help="Leave out what is less grave.",
)
@watch_option
@format_option
@registry_option
def messages(run: str, level: str, watch: bool, form: str, registry: str | None) -> None:
    """Show what the programs of RUN printed that an operator should see, and what dbb has to say of their reports.

    \b
    Examples:
      dbb messages Ht0_r11p95 --level error
    """
    from dbb.runs.report import run_messages

    def ask(opened: Registry) -> _Rows:
        return [one.as_dict() for one in run_messages(opened, run, level)]

    _show(registry, run, ask, form, _MESSAGE, watch)
