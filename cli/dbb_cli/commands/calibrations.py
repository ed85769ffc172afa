"""``dbb certify-calibrations``."""

from __future__ import annotations

import click

from dbb_cli.options import dry_run_option, open_registry, registry_option


@click.command()
@click.argument("table", required=False, type=click.Path(dir_okay=False))
@click.option("--version", required=True, help="The version of calibrations to add to, e.g. 2014A.")
@click.option("--filetype", help="What the files of TABLE are, e.g. bias.")
@click.option("--from-registry", metavar="FILE", help="An existing Gen2 calibRegistry.sqlite3 instead of TABLE.")
@click.option("--archive", help="The archive that holds the files.")
@registry_option
@dry_run_option
def certify_calibrations(
    table: str | None,
    version: str,
    filetype: str | None,
    from_registry: str | None,
    archive: str | None,
    registry: str | None,
    dry_run: bool,
) -> None:
    """Say from which day to which registered calibrations are valid.

    TABLE has columns relpath or filename, validStart and validEnd (both days inclusive).

    \b
    Examples:
      dbb certify-calibrations --version 2014A --filetype bias biases.csv
      dbb certify-calibrations --version 2014A --from-registry calibRegistry.sqlite3 --archive home
    """
    from dbb.ingest import certify_registry, certify_table

    if (table is None) == (from_registry is None):
        raise click.UsageError("give either TABLE or --from-registry")
    if table is not None and filetype is None:
        raise click.UsageError("--filetype says what the files of TABLE are")
    if from_registry is not None and archive is None:
        raise click.UsageError("--archive says where the files of the Gen2 registry are")
    with open_registry(registry) as opened:
        if table is not None and filetype is not None:
            done = {
                filetype: certify_table(
                    opened, table, version=version, filetype=filetype, archive=archive, dry_run=dry_run
                )
            }
        else:
            done = certify_registry(
                opened, from_registry or "", version=version, archive=archive or "", dry_run=dry_run
            )
    for name, one in done.items():
        for note in one.trimmed:
            click.echo(f"warning: {name}: trimmed: {note}", err=True)
        verb = "would be certified" if dry_run else "certified"
        click.echo(f"{name}: {one.added} {verb}, {one.known} known", err=True)
