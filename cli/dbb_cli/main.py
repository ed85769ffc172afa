"""The ``dbb`` command: finds commands, and turns errors into one message and an exit code."""

from __future__ import annotations

import gc
import os
import sys
import traceback

import click

from dbb.errors import DbbError
from dbb_cli import commands


class DbbGroup(click.Group):
    """Commands of dbb, each loaded when used, and those of plug-ins, looked for when dbb has none of that name."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command."""
        return commands.load(cmd_name) or _plugin_commands().get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*commands.MODULES, *_plugin_commands()})

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; that whoever read its output has seen enough is no error."""
        try:
            result: object = super().invoke(ctx)
            if sys.stdout is not None:  # closed by whoever started us: nobody wants to read it
                sys.stdout.flush()
        except BrokenPipeError:
            # keep the interpreter from complaining at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return result


def _plugin_commands() -> dict[str, click.Command]:
    from dbb.errors import PluginError
    from dbb.plugins import plugins

    found: dict[str, click.Command] = {}
    for plugin, given in plugins().each("dbb_commands"):
        for command in given:
            name = command.name or ""
            if name in commands.MODULES and command is not commands.load(name):
                plugins().record_failure(plugin, PluginError(f"its command {name!r} is one of dbb's own"))
            else:
                found[name] = command
    return found


@click.group(cls=DbbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--registry", metavar="URL", help='The registry; also $DBB_REGISTRY, or registry = "URL" in dbb.toml.')
@click.option("--debug", is_flag=True, help="Show where in the code an error arose.")
@click.version_option(package_name="mini-dbb", prog_name="dbb")
@click.pass_context
def cli(ctx: click.Context, registry: str | None, debug: bool) -> None:
    """A registry of survey files, and Gen2 Butler repositories made from it.

    \b
    Examples:
      dbb create sqlite:///survey.db --mapper hsc
      export DBB_REGISTRY=sqlite:///survey.db
      dbb archive add home file:///data/home
      dbb ingest-files --filetype hsc_raw --archive home '/data/home/raw/*.fits'
      dbb ingest-table calexps.csv --filetype calexp --archive home --run Ht0_r11p95
      dbb query-files calexp --where "visit = 903334 AND ccd IN (0..49)" --format json
      dbb materialize-repo JOB --mapper hsc --dataset raw --id 'visit=903334 ccd=16^22' --calibs 2014A
      dbb snapshot campaign.db --where "visit IN (903334..903346)"
      dbb export survey-2026

    Exit codes: 0 done, 1 failed, 2 wrong usage or unreadable text, 3 done in part, 4 conflict and nothing changed,
    5 not found, 6 registry of another schema version, 130 interrupted.
    """
    ctx.obj = {"registry": registry, "debug": debug}


def main() -> None:
    """Run the command line; exit with the code that the outcome stands for."""
    # Importing makes tens of thousands of objects that stay: looking through them for garbage again and again is
    # a tenth of a short command's time.
    gc.set_threshold(100_000, 50, 50)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = cli.main(arguments, prog_name="dbb", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("dbb: interrupted", err=True)
        return 130
    except Exception as error:  # noqa: BLE001  # a user sees a message, never a traceback
        if "--debug" in arguments:
            traceback.print_exc()
        return _report(error)


def _report(error: Exception) -> int:
    if isinstance(error, DbbError):
        click.echo(f"dbb: error: {error}", err=True)
        return error.exit_code
    what = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    click.echo(f"dbb: error: {what} (dbb --debug … shows where)", err=True)
    return 1
