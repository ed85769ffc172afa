"""``dbb verify``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dbb_cli.options import dry_run_option, format_option, open_registry, progress, registry_option
from dbb_cli.output import print_rows

if TYPE_CHECKING:
    from dbb.verify import Findings, Question

_COLUMNS = ("archive", "relpath", "problem", "expected", "found")


@click.command()
@click.option("--archive", "archives", multiple=True, help="Only this archive; may be given several times.")
@click.option("--filetype", help="Only files of this filetype or dataset type; unregistered files are not looked for.")
@click.option("--checksums", is_flag=True, help="Read the files and compare md5 and sha256, not sizes alone.")
@click.option("--sample", type=float, default=1.0, metavar="PART", help="Look at this part of the files, e.g. 0.01.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which sample: each seed gives another.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False),
    help="Append to this file how far it came; the same command goes on from there when it was stopped.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Files read at a time; default: one per processor.")
@click.option(
    "--repair",
    is_flag=True,
    help="Fill sizes and checksums that the registry lacks of intact files; forget lost copies where another archive"
    " has an intact one. Archives are never changed.",
)
@registry_option
@dry_run_option
@format_option
@click.pass_context
def verify(
    ctx: click.Context,
    archives: tuple[str, ...],
    filetype: str | None,
    checksums: bool,
    sample: float,
    seed: int,
    state: str | None,
    jobs: int | None,
    repair: bool,
    registry: str | None,
    dry_run: bool,
    form: str,
) -> None:
    """Compare the registry with what lies in its archives; the exit code is 0 if all is well and 1 if not.

    Problems: lost (registered, not there), dark (there, not registered), wrong size, wrong checksum, unreadable, and
    unreachable for a whole archive. Nothing is changed without --repair.

    \b
    Examples:
      dbb verify --archive home
      dbb verify --checksums --sample 0.01 --seed 7 --format json
      dbb verify --checksums --state verify.jsonl --repair
    """
    from dbb.verify import Question
    from dbb.verify import verify as check

    if dry_run and not repair:
        raise click.UsageError("--dry-run says what --repair would do: give both")
    question = Question(archives, filetype, checksums, sample, seed, repair, dry_run)
    with open_registry(registry) as opened, progress("files checked") as report:
        found = check(opened, question, state=state, jobs=jobs, progress=report)
    columns = (*_COLUMNS, "repair") if repair else _COLUMNS
    problems = [asdict(problem) for problem in found.problems]
    print_rows([{name: problem[name] for name in columns} for problem in problems], form, columns)
    _talk(found, question)
    if any(not problem.repaired for problem in found.problems):
        ctx.exit(1)


def _talk(found: Findings, question: Question) -> None:
    counts = Counter(problem.problem for problem in found.problems)
    listed = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no problem"
    read = f" ({found.read} bytes read)" if question.checksums else ""
    click.echo(f"{found.checked} files checked{read}: {listed}", err=True)
    if found.unread:
        click.echo(f"{found.unread} members of compressed tars were not read: their tars were", err=True)
    if question.filetype is not None:
        click.echo("unregistered files were not looked for: they have no filetype", err=True)
    if found.unlisted:
        click.echo("a web server cannot be listed: unregistered files were not looked for there", err=True)
    if found.unfilled:
        what = "size or checksum" if question.checksums else "size"
        done = (
            f"{found.filled} {'would be' if question.dry_run else 'were'} filled" if question.repair else "see --repair"
        )
        click.echo(f"{found.unfilled} intact files have no {what} in the registry: {done}", err=True)
    if counts["dark"]:
        click.echo("what belongs to an archive is registered with 'dbb ingest-files' or 'dbb ingest-table'", err=True)
