"""``dbb plugins``."""

from __future__ import annotations

import click

from dbb_cli.options import format_option
from dbb_cli.output import print_rows

_COLUMNS = ("name", "module", "distribution", "version", "hooks", "mappers", "error")


@click.command()
@format_option
def plugins(form: str) -> None:
    """Show the plug-ins, what each adds, and why one does not work. DBB_PLUGINS=none|a,b limits what is loaded.

    \b
    Example:
      dbb plugins --format json
    """
    from dbb.plugins import plugins as load

    found = load()
    cameras = {name: [camera.name for camera in given] for name, given in found.each("dbb_mappers")}
    rows = [
        {
            "name": info.name,
            "module": info.module,
            "distribution": info.distribution,
            "version": info.version,
            "hooks": " ".join(info.hooks),
            "mappers": " ".join(cameras.get(info.name, ())),
            "error": info.error,
        }
        for info in found.infos.values()
    ]
    print_rows(rows, form, _COLUMNS)
