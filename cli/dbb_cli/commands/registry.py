"""``dbb create``, ``dbb migrate``, ``dbb register-filetypes``: the registry itself."""

from __future__ import annotations

from pathlib import Path

import click

from dbb_cli.options import dry_run_option, open_registry, registry_option, registry_url


@click.command()
@click.argument("url")
@click.option("--mapper", help="The camera whose filetypes the registry shall know, e.g. hsc; see 'dbb plugins'.")
@dry_run_option
def create(url: str, mapper: str | None, dry_run: bool) -> None:
    """Make a new registry at URL.

    \b
    Examples:
      dbb create sqlite:///survey.db --mapper hsc
      dbb create postgresql+psycopg://user@host/survey --mapper hsc
    """
    from dbb.registry import open_engine
    from dbb.registry.create import create_registry

    engine = open_engine(url, create=True)
    try:
        create_registry(engine, mapper, dry_run=dry_run)
    finally:
        engine.dispose()
    shown = engine.url.render_as_string()  # with a password masked
    click.echo(f"{shown}: {'would be created' if dry_run else 'created'}", err=True)


@click.command()
@registry_option
@dry_run_option
def migrate(registry: str | None, dry_run: bool) -> None:
    """Bring the schema of an older registry up to date, in one transaction.

    \b
    Example:
      dbb migrate --registry sqlite:///survey.db
    """
    from dbb.registry.migrate import migrate as migrate_registry

    before, after = migrate_registry(registry_url(registry), dry_run=dry_run)
    if before == after:
        click.echo(f"the schema is {after} already", err=True)
    else:
        click.echo(f"schema {before} {'would become' if dry_run else 'became'} {after}", err=True)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@registry_option
@dry_run_option
def register_filetypes(files: tuple[Path, ...], registry: str | None, dry_run: bool) -> None:
    """Add filetypes from TOML FILES, or without any what the registry's camera and the plug-ins know by now.

    A known filetype may have gained columns; nothing else of it can change.

    \b
    Example:
      dbb register-filetypes my_catalogs.toml
    """
    from dbb.filetypes import load_filetypes
    from dbb.plugins import plugins

    with open_registry(registry) as opened:
        camera = opened.mapper()
        changed = []
        if files:
            known = {name: one for path in files for name, one in load_filetypes(path).items()}
            changed += opened.register_filetypes(list(known.values()), dry_run=dry_run)
        else:
            changed += opened.register_filetypes(list(plugins().filetypes().values()), dry_run=dry_run)
            if camera is not None:
                changed += opened.register_filetypes(list(camera.filetypes.values()), camera.name, dry_run=dry_run)
    verb = "would be registered" if dry_run else "registered"
    click.echo(f"{verb}: {', '.join(changed) or 'nothing new'}", err=True)
