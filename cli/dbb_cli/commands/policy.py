"""``dbb policy``: what the Butler is told about a camera, and whether it can work."""

from __future__ import annotations

from pathlib import Path

import click

from dbb_cli.options import FORMATS, format_option
from dbb_cli.output import print_rows

_PROBLEM = ("mapper", "kind", "era", "dataset", "filetype", "problem")


@click.group()
def policy() -> None:
    """The Butler policy of a camera: templates, classes and storage of every dataset type.

    \b
    Examples:
      dbb policy dump hsc
      dbb policy dump hsc --repo JOB/out --era 2017
      dbb policy check
    """


@policy.command("dump")
@click.argument("mapper")
@click.option("--repo", metavar="R", help="Merge in what the repository R overrides; its parents' have their own.")
@click.option(
    "--era", type=click.Choice(["2017", "2021"]), default="2021", show_default=True, help="For which stack's Butler."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["yaml", *FORMATS]),
    default="yaml",
    show_default=True,
    help="yaml is what the Butler reads; the others give rows of section, dataset, key, value and origin.",
)
def dump(mapper: str, repo: str | None, era: str, form: str) -> None:
    """Show the merged policy of MAPPER with the file and table that each value comes from.

    The YAML is a policy file, with origins as comments; it may also stand as it is below _policy: in a
    repositoryCfg.yaml.

    \b
    Examples:
      dbb policy dump hsc
      dbb policy dump hsc --repo JOB/out --format json
    """
    from dbb.butler.policy import merged_policy, policy_yaml
    from dbb.plugins import plugins

    camera = plugins().mapper(mapper)
    values = merged_policy(camera, era, _folder(repo))
    if form == "yaml":
        click.echo(policy_yaml(camera, era, values), nl=False)
    else:
        print_rows([value.as_row() for value in values], form, ("section", "dataset", "key", "value", "origin"))


@policy.command("check")
@click.argument("mapper", required=False)
@click.option("--repo", metavar="R", help="Check the policy of the repository R; names the camera if MAPPER does not.")
@click.option(
    "--era", type=click.Choice(["2017", "2021", "both"]), default="both", show_default=True, help="For which Butlers."
)
@format_option
@click.pass_context
def check(ctx: click.Context, mapper: str | None, repo: str | None, era: str, form: str) -> None:
    """Show what cannot work in the policy of MAPPER, or of every camera; the exit code is 1 if there is anything.

    Looked for are archive names and Butler templates that cannot be satisfied together, names that two files can have,
    and keys without a value.

    \b
    Examples:
      dbb policy check
      dbb policy check hsc --era 2021 --format json
      dbb policy check --repo JOB/out
    """
    from dbb.butler.chain import camera_of
    from dbb.butler.config import read_config
    from dbb.butler.policycheck import check_policy
    from dbb.plugins import plugins

    folder = _folder(repo)
    if mapper is not None:
        cameras = [plugins().mapper(mapper)]
    elif folder is not None:
        cameras = [camera_of(read_config(folder).mapper_class)]
    else:
        cameras = list(plugins().mappers().values())
    rows = []
    for camera in cameras:
        problems = check_policy(camera, era, folder)
        rows += [{name: row[name] for name in _PROBLEM} for row in (problem.as_row() for problem in problems)]
        click.echo(f"{camera.name}: {len(camera.filetypes)} filetypes, {len(problems) or 'no'} problems", err=True)
    if rows or form != "table":
        print_rows(rows, form, _PROBLEM)
    if rows:
        ctx.exit(1)


def _folder(repo: str | None) -> Path | None:
    from dbb.storage import local_path

    return None if repo is None else Path(local_path(repo))
