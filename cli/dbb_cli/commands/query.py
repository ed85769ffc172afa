"""``dbb query-files`` and ``dbb explain``: files that fit a question, and how the database finds them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import click

from dbb_cli.options import format_option, listed, open_registry, registry_option
from dbb_cli.output import print_rows

_STEP = ("does", "table", "by", "rows")
_OPTIONS = (
    click.argument("filetype"),
    click.option("--where", help="An expression: \"visit IN (903334, 903340..903350:2) AND filter = 'HSC-R'\"."),
    click.option(
        "--id", "ids", multiple=True, metavar="'KEY=VALUE …'", help="A Gen2 data id: 'visit=903334^903336 ccd=0..8:2'."
    ),
    click.option(
        "--runs",
        multiple=True,
        metavar="RUN,…",
        help="Search these in order, the first that has a data id wins; tag:NAME too.",
    ),
    click.option(
        "--overlaps", metavar="VERSION", help="The overlap version that tract and patch of exposures refer to."
    ),
    click.option("--columns", multiple=True, metavar="NAME,…", help="Only these columns, in this order."),
    click.option("--order-by", multiple=True, metavar="NAME,…", help="Sort by these columns; -NAME for falling order."),
    click.option("--limit", type=click.IntRange(min=0), help="At most so many files."),
    registry_option,
    format_option,
)


def _question(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a question; those that `Registry.query` takes come in as ``asked``."""

    @functools.wraps(function)
    def command(
        where: str | None,
        ids: tuple[str, ...],
        runs: tuple[str, ...],
        overlaps: str | None,
        order_by: tuple[str, ...],
        limit: int | None,
        **others: Any,
    ) -> None:
        asked = {"where": where, "ids": ids, "runs": listed(runs), "overlaps": overlaps}
        function(asked=asked | {"order_by": listed(order_by), "limit": limit}, **others)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_question
def query_files(
    filetype: str, asked: dict[str, Any], columns: tuple[str, ...], registry: str | None, form: str
) -> None:
    """Show the files of FILETYPE (or Butler dataset type) that fit, with their metadata.

    \b
    Examples:
      dbb query-files raw --where "visit = 903334 AND NOT ccd = 100"
      dbb query-files calexp --id 'visit=903334^903336 ccd=0..8:2' --runs Ht0_r12p01,tag:PROTO-0.1 --format json
      dbb query-files raw --where "tract = 0 AND patch = '8,6'" --overlaps ci_hsc --columns visit,ccd,relpath
    """
    with open_registry(registry) as opened:
        way = opened.overlaps_used(filetype, **{name: asked[name] for name in ("where", "ids", "overlaps")})
        records = opened.query(filetype, **asked)
        names = opened.record_columns(filetype)
    chosen = [_known(name, names) for name in listed(columns)] or names
    rows = [{name: values[name] for name in chosen} for values in (record.as_dict() for record in records)]
    print_rows(rows, form, chosen)
    if way is not None:
        click.echo(f"tract and patch from overlap version {way}", err=True)
    click.echo(f"{len(rows)} files", err=True)


@click.command()
@_question
def explain(filetype: str, asked: dict[str, Any], columns: tuple[str, ...], registry: str | None, form: str) -> None:
    """Show how the database would answer `dbb query-files` with the same options: the SQL, and what it does.

    What it reads as a whole, where that is much, is warned of, with what to do about it. The numbers of rows are
    those that the database knows without counting. --columns makes no difference.

    \b
    Examples:
      dbb explain raw --where "visit = 903334 AND NOT ccd = 100"
      dbb explain calexp --where "filter = 'HSC-R'" --runs Ht0_r12p01 --format json
    """
    with open_registry(registry) as opened:
        names = opened.record_columns(filetype)
        for name in listed(columns):
            _known(name, names)
        found = opened.explain(filetype, **asked)
    steps = [dataclasses.asdict(step) for step in found.steps]
    if form == "json":
        whole = {"sql": found.sql, "parameters": found.parameters, "steps": steps, "warnings": found.warnings}
        click.echo(json.dumps(whole, ensure_ascii=False))
        return
    if form == "table":
        click.echo(f"{found.sql}\nvalues: {json.dumps(found.parameters, ensure_ascii=False)}\n")
    print_rows(steps, form, _STEP)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)


def _known(name: str, names: list[str]) -> str:
    from dbb.errors import NotFoundError

    for known in names:
        if known.lower() == name.lower():
            return known
    raise NotFoundError("column", name, names)
