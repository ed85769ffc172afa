"""``dbb query-files``."""

from __future__ import annotations

import click

from dbb_cli.options import format_option, listed, open_registry, registry_option
from dbb_cli.output import print_rows


@click.command()
@click.argument("filetype")
@click.option("--where", help="An expression: \"visit IN (903334, 903340..903350:2) AND filter = 'HSC-R'\".")
@click.option(
    "--id", "ids", multiple=True, metavar="'KEY=VALUE …'", help="A Gen2 data id: 'visit=903334^903336 ccd=0..8:2'."
)
@click.option(
    "--runs",
    multiple=True,
    metavar="RUN,…",
    help="Search these in order, the first that has a data id wins; tag:NAME too.",
)
@click.option("--overlaps", metavar="VERSION", help="The overlap version that tract and patch of exposures refer to.")
@click.option("--columns", multiple=True, metavar="NAME,…", help="Only these columns, in this order.")
@click.option("--order-by", multiple=True, metavar="NAME,…", help="Sort by these columns; -NAME for falling order.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many files.")
@registry_option
@format_option
def query_files(
    filetype: str,
    where: str | None,
    ids: tuple[str, ...],
    runs: tuple[str, ...],
    overlaps: str | None,
    columns: tuple[str, ...],
    order_by: tuple[str, ...],
    limit: int | None,
    registry: str | None,
    form: str,
) -> None:
    """Show the files of FILETYPE (or Butler dataset type) that fit, with their metadata.

    \b
    Examples:
      dbb query-files raw --where "visit = 903334 AND NOT ccd = 100"
      dbb query-files calexp --id 'visit=903334^903336 ccd=0..8:2' --runs Ht0_r12p01,tag:PROTO-0.1 --format json
      dbb query-files raw --where "tract = 0 AND patch = '8,6'" --overlaps ci_hsc --columns visit,ccd,relpath
    """
    with open_registry(registry) as opened:
        way = opened.overlaps_used(filetype, where=where, ids=ids, overlaps=overlaps)
        records = opened.query(
            filetype,
            where=where,
            ids=ids,
            runs=listed(runs),
            overlaps=overlaps,
            order_by=listed(order_by),
            limit=limit,
        )
        names = opened.record_columns(filetype)
    chosen = [_known(name, names) for name in listed(columns)] or names
    rows = [{name: values[name] for name in chosen} for values in (record.as_dict() for record in records)]
    print_rows(rows, form, chosen)
    if way is not None:
        click.echo(f"tract and patch from overlap version {way}", err=True)
    click.echo(f"{len(rows)} files", err=True)


def _known(name: str, names: list[str]) -> str:
    from dbb.errors import NotFoundError

    for known in names:
        if known.lower() == name.lower():
            return known
    raise NotFoundError("column", name, names)
