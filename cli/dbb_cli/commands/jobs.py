"""``dbb run-job``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from dbb_cli.options import dry_run_option

_DONE_IN_PART = 3


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), help="The work folder.  [default: work.K beside JOB]")
@click.option("--events", type=click.Path(path_type=Path), help="Its record.  [default: events.K.jsonl beside JOB]")
@click.option("--try", "number", type=click.IntRange(min=1), help="K, which try this is.  [default: the next one]")
@dry_run_option
@click.pass_context
def run_job(
    ctx: click.Context, job: Path, work: Path | None, events: Path | None, number: int | None, dry_run: bool
) -> None:
    """Run one job of a planned run. Needs no registry.

    JOB is the file job.json that 'dbb submit' writes. What happens is appended to the events file, from which
    'dbb merge' brings it into the registry.

    \b
    Example:
      dbb run-job Ht0_r20p01/jobs/warp_8x7/job.json --work /scratch/warp_8x7

    With --dry-run, the command lines are shown, each behind the number and module of its step.

    Exit codes: 0 succeeded, 1 failed, 3 all programs ended well but an output is missing or could not be saved, 128 and
    the number of the signal that ended it.
    """
    if dry_run:
        _show(job)
        return
    from dbb.jobs.run import run_job as run

    done = run(job, work=work, events=events, number=number)
    for step, result in sorted(done.steps.items()):
        if not result.is_good:
            click.echo(f"step {step}: {result.state}: {result.reason}", err=True)
    click.echo(f"{done.result.state}; events: {done.places.events}", err=True)
    if done.signal is not None:
        ctx.exit(128 + done.signal)
    if not done.result.is_good:
        ctx.exit(_DONE_IN_PART if done.result.state == "incomplete" else 1)


def _show(path: Path) -> None:
    from dbb.jobs.jobfile import read_job

    for step in read_job(path).steps:
        for one in step.execs:
            words = (word if isinstance(word, str) else json.dumps(word) for word in one.argv)
            click.echo(f"{step.wrapnum} {step.module}: {shlex.join(words)}")
