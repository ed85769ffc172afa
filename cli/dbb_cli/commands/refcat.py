"""``dbb refcat``: reference catalogues, each a tar of shards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dbb_cli.options import dry_run_option, format_option, open_registry, registry_option
from dbb_cli.output import print_rows

_COLUMNS = ("name", "tarball", "archive", "depth", "members", "shards", "filesize")


@click.group()
def refcat() -> None:
    """Reference catalogues: tars of HTM shards, of which a job gets those that its inputs need.

    \b
    Examples:
      dbb refcat pack ps1_pv3_3pi_20170110 /data/home/refcats/ps1_pv3_3pi_20170110.tar
      dbb refcat add ps1_pv3_3pi_20170110 refcats/ps1_pv3_3pi_20170110.tar --archive home
      dbb refcat list --format json
    """


@refcat.command("add")
@click.argument("name")
@click.argument("tarball")
@click.option("--archive", help="The archive that holds TARBALL, where it is not clear.")
@click.option("--reindex", is_flag=True, help="The tar was replaced: forget what was known of it.")
@registry_option
@dry_run_option
def add(name: str, tarball: str, archive: str | None, reindex: bool, registry: str | None, dry_run: bool) -> None:
    """Register TARBALL, a file in an archive, as the reference catalogue NAME; its members are looked up once.

    A .tar is best; a .tar.gz gets a seek index beside it. A tar that could do harm is refused as a whole.

    \b
    Examples:
      dbb refcat add ps1_pv3_3pi_20170110 refcats/ps1_pv3_3pi_20170110.tar --archive home
      dbb refcat add ps1_pv3_3pi_20170110 refcats/ps1_pv3_3pi_20170110.tar --reindex
    """
    from dbb.ingest import add_refcat

    with open_registry(registry) as opened:
        done = add_refcat(opened, name, tarball, archive=archive, reindex=reindex, dry_run=dry_run)
    verb = "is known already" if done.known else "would be added" if dry_run else "added"
    click.echo(
        f"reference catalogue {name} {verb}: {done.shards} shards of HTM depth {done.depth} and"
        f" {done.members - done.shards} other files in {done.tarball} ({done.archive})",
        err=True,
    )


@refcat.command("list")
@registry_option
@format_option
def list_catalogues(registry: str | None, form: str) -> None:
    """Show the reference catalogues and their tars.

    \b
    Example:
      dbb refcat list
    """
    from dbb.ingest import list_refcats

    with open_registry(registry) as opened:
        rows = [{name: asdict(one)[name] for name in _COLUMNS} for one in list_refcats(opened)]
    print_rows(rows, form, _COLUMNS)


@refcat.command("pack")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("tarball", type=click.Path(path_type=Path))
@dry_run_option
def pack(folder: Path, tarball: Path, dry_run: bool) -> None:
    """Pack the files in FOLDER into TARBALL: uncompressed, in a fixed order, the same bytes for the same files.

    \b
    Example:
      dbb refcat pack ps1_pv3_3pi_20170110 /data/home/refcats/ps1_pv3_3pi_20170110.tar
    """
    from dbb.refcats.pack import pack_folder

    count = pack_folder(folder, tarball, dry_run=dry_run)
    click.echo(f"{count} files {'would be packed' if dry_run else 'packed'} into {tarball}", err=True)
