"""``dbb lineage``."""

from __future__ import annotations

import click

from dbb_cli.options import open_registry, registry_option
from dbb_cli.output import print_rows


@click.command()
@click.argument("file")
@click.option("--up/--down", default=True, help="What FILE came from (the default), or what came from it.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "json", "prov"]),
    default="tree",
    show_default=True,
    help="prov is W3C PROV-JSON and needs the extra prov.",
)
@registry_option
def lineage(file: str, up: bool, form: str, registry: str | None) -> None:
    """Show what FILE was made from, by which tasks, as far back as is known.

    FILE is a name, a path in an archive, or that with the archive's root before it.

    JSON lists the files and tasks, then their relations, each an object whose ``kind`` says what it is.

    \b
    Examples:
      dbb lineage CORR-0903334-016-r20p01.fits
      dbb lineage raw/2013-06-17/HSCA90333426.fits --down
      dbb lineage CORR-0903334-016-r20p01.fits --format prov
    """
    from dbb.report.lineage import lineage as trace

    with open_registry(registry) as opened:
        found = trace(opened, file, up=up)
    if form == "prov":
        from dbb.report.prov import prov_json

        click.echo(prov_json(found))
    elif form == "json":
        print_rows(found.as_rows(), "json")
    else:
        for line in found.tree():
            click.echo(line)
