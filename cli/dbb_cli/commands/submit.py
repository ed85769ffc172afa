"""``dbb submit``, ``dbb attend`` and ``dbb cancel``: start a run, look after it, and end one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from dbb_cli.commands.campaign import campaign_options, run_table
from dbb_cli.commands.pipelines import set_option
from dbb_cli.options import dry_run_option, open_registry, registry_option
from dbb_cli.output import shown

if TYPE_CHECKING:
    from dbb.runs.submit import Submitted

_CANCELLED = 1


@click.command()
@click.argument("submit_file", metavar="[SUBMIT]", required=False, type=click.Path(path_type=Path))
@set_option
@click.option("--engine", default="local", show_default=True, help="What starts the jobs; 'dbb plugins' lists engines.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Folder of the run.  [default: its name, here]")
@click.option(
    "--jobs", "at_once", type=click.IntRange(min=1), metavar="N", help="Jobs at the same time.  [default: processors]"
)
@click.option("--retries", type=click.IntRange(min=0), default=0, show_default=True, help="Start a failed job again.")
@click.option("--resume", metavar="RUN", help="A new attempt of RUN that takes over what it finished.")
@click.option("--detach", is_flag=True, help="Give the run to its engine and return; 'dbb attend' looks after it.")
@campaign_options
@registry_option
@dry_run_option
def submit(
    submit_file: Path | None,
    settings: tuple[str, ...],
    engine: str,
    workdir: Path | None,
    at_once: int | None,
    retries: int,
    resume: str | None,
    detach: bool,
    table: Path | None,
    attempts: int | None,
    resubmit: int | None,
    stop_after: int | None,
    registry: str | None,
    dry_run: bool,
) -> int:
    """Plan SUBMIT and run it to its end; everything that happens is in the registry while it happens.

    The attempt number is the next free one, unless the submit file or --set says one. The folder of the run keeps what
    was planned, and for each job its file, record and work folder. With --resume, SUBMIT may be left out: the run's own
    pipeline is planned again.

    With --table, each row (CSV, ECSV, JSON lines or Parquet) is a unit: its columns are settings, as --set gives them.
    All rows are planned before the first is begun. Attempts are made in the folder --workdir, by default called after
    the table. Doing it again passes over units that succeeded, waits for those that run, and resumes the others.

    \b
    Examples:
      dbb submit coadd.wcl
      dbb submit coadd.wcl --jobs 8 --retries 1 --workdir /scratch/coadd
      dbb submit --resume Ht0_r11p95
      dbb submit coadd.wcl --table patches.csv --at-once 4 --resubmit 1

    Exit codes: 0 all jobs succeeded, 3 some did not or outputs are not in the home archive, 130 interrupted.
    """
    from dbb.pipeline import read_pipeline
    from dbb.pipeline.reading import parse_settings, with_settings
    from dbb.runs.kept import read_submitted, run_folder
    from dbb.runs.submit import Submission
    from dbb.runs.submit import submit as start

    if table is not None:
        if resume is not None or detach:
            raise click.UsageError("--table goes with neither --resume nor --detach")
        return run_table(
            submit_file, table, settings=settings, engine=engine, workdir=workdir, jobs=at_once, retries=retries,
            attempts=attempts, resubmit=resubmit, stop_after=stop_after, registry=registry, dry_run=dry_run,
            bar=_progress,
        )  # fmt: skip
    if (attempts, resubmit, stop_after) != (None, None, None):
        raise click.UsageError("--at-once, --resubmit and --stop-after go with --table")
    if submit_file is None and resume is None:
        raise click.UsageError("give a submit file, or --resume RUN")
    with open_registry(registry) as opened:
        if submit_file is not None:
            pipeline = read_pipeline(submit_file, parse_settings(settings))
        else:
            pipeline = with_settings(read_submitted(run_folder(opened, resume or "")), parse_settings(settings))
        for problem in pipeline.problems:
            click.echo(shown(str(problem)), err=True)
        wanted = Submission(engine, workdir, at_once or os.cpu_count() or 1, retries, resume, detach)
        with _terminable(), _progress() as say:
            done = start(opened, pipeline, wanted, dry_run=dry_run, say=say)
    if dry_run:
        click.echo(f"{done.run}: {done.jobs} jobs would run in {done.folder}{_reused(done)}")
        return 0
    if not done.is_over:
        click.echo(
            f"{done.run}: {done.jobs} jobs are with {engine}{_reused(done)}; 'dbb attend {done.run}' looks after it"
        )
        return 0
    return _print_outcome(done)


@click.command()
@click.argument("run")
@registry_option
@dry_run_option
def attend(run: str, registry: str | None, dry_run: bool) -> int:
    """Look after RUN, which was detached or whose 'dbb submit' was killed, until it is over.

    What its jobs do is merged, and job files are written for those that can start. When this is interrupted, the run
    goes on. Only engines that work by themselves, as batch systems do, have such runs. Of a run that is over, outputs
    are copied from its target archive that the home archive lacks.

    \b
    Example:
      dbb attend Ht0_r11p95

    Exit codes: 0 all jobs succeeded, 3 some did not, 4 somebody attends it or it is over, 130 interrupted.
    """
    from dbb.runs.attend import attend as look_after

    with open_registry(registry) as opened, _terminable(), _progress() as say:
        done = look_after(opened, run, dry_run=dry_run, say=say)
    if dry_run:
        click.echo(
            f"{done.run}: would be looked after; {len(done.problems)} of {done.jobs} jobs have failed or are blocked"
        )
        return 0
    return _print_outcome(done)


@click.command()
@click.argument("run")
@registry_option
@dry_run_option
def cancel(run: str, registry: str | None, dry_run: bool) -> None:
    """End RUN: its jobs are stopped, and the registry says that it was cancelled. Its files stay.

    \b
    Example:
      dbb cancel Ht0_r11p95
    """
    from dbb.runs.cancel import cancel_run

    with open_registry(registry) as opened:
        running = cancel_run(opened, run, dry_run=dry_run)
    click.echo(f"{run}: {running} tasks {'would be' if dry_run else 'were'} ended")


def _reused(done: Submitted) -> str:
    return f", {done.reused} quanta taken over" if done.reused else ""


def _print_outcome(done: Submitted) -> int:
    click.echo(f"{done.run}: {done.jobs - len(done.problems)} of {done.jobs} jobs succeeded{_reused(done)}")
    for name, why in done.problems.items():
        click.echo(f"{name}: {why}", err=True)
    if done.unmoved:
        click.echo(done.unmoved, err=True)
    return 3 if done.problems or done.unmoved else 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a run in the same good order as Ctrl-C."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give what shows each job that ends: a bar on a terminal, a line elsewhere."""
    if not sys.stderr.isatty():
        yield lambda text, done, jobs: click.echo(f"[{done}/{jobs}] {shown(text)}", err=True)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("jobs")

        def show(text: str, done: int, jobs: int) -> None:
            bar.console.print(shown(text), markup=False, highlight=False)
            bar.update(task, completed=done, total=jobs)

        yield show
