"""``dbb materialize-repo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dbb_cli.options import dry_run_option, listed, progress, registry_option, reply_option

if TYPE_CHECKING:
    from dbb.butler import RepoReport, RepoSpec


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--mapper", help="The camera, e.g. hsc; see 'dbb plugins'.")
@click.option("--dataset", "datasets", multiple=True, help="A Butler dataset type or filetype to stage; repeatable.")
@click.option(
    "--id",
    "ids",
    multiple=True,
    metavar="'KEY=VALUE …'",
    help="A Gen2 data id that inputs fit: 'visit=903334 ccd=16^22'.",
)
@click.option("--where", help="An expression that inputs fit.")
@click.option(
    "--runs",
    multiple=True,
    metavar="RUN,…",
    help="Search these in order, the first that has a data id wins; tag:NAME too.",
)
@click.option("--calibs", metavar="VERSION", help="Stage the calibrations of this version that fit the exposures.")
@click.option("--skymap", metavar="FILENAME", help="A registered file to stage as deepCoadd/skyMap.pickle.")
@click.option(
    "--refcat",
    "refcats",
    multiple=True,
    metavar="NAME",
    help="Stage the shards of this reference catalogue that the inputs need.",
)
@click.option("--output-run", metavar="RUN", help="The run that outputs are named by.")
@click.option("--outputs", multiple=True, metavar="DATASET,…", help="What the job writes.")
@click.option("--overlaps", metavar="VERSION", help="The overlap version that tract and patch of exposures refer to.")
@click.option("--archives", multiple=True, metavar="NAME,…", help="Whose copy of a file is preferred.")
@click.option(
    "--stage",
    type=click.Choice(["auto", "symlink", "relsymlink", "hardlink", "copy"]),
    help="How files get there: auto (the default) links what is local and copies what is not.",
)
@click.option("--era", type=click.Choice(["both", "2017", "2021"]), help="Which Gen2 stack reads it.  [default: both]")
@click.option("--spec", type=click.Path(path_type=Path), metavar="JOB.toml", help="Everything in a file instead.")
@click.option(
    "--from",
    "manifest",
    type=click.Path(path_type=Path),
    metavar="MANIFEST.json",
    help="A manifest instead; needs no registry.",
)
@registry_option
@reply_option
@dry_run_option
def materialize_repo(root: Path, registry: str | None, form: str, dry_run: bool, **options: Any) -> None:
    """Lay out at ROOT the Gen2 Butler repository of one job: in/ to read, out/ to write, manifest.json.

    Everything comes from the registry (or a manifest); no input file is opened. ROOT appears whole or not at all.

    \b
    Examples:
      dbb materialize-repo JOB --mapper hsc --dataset raw --id 'visit=903334 ccd=16^22' --calibs 2014A
      dbb materialize-repo JOB --mapper hsc --dataset calexp --where "tract = 0 AND patch = '8,6'" \\
          --runs Ht0_r12p01,r11p95 --output-run Ht0_r20p01 --outputs deepCoadd_tempExp
      dbb materialize-repo JOB --spec job.toml
      dbb materialize-repo JOB --from manifest.json
    Then run tasks as: task.py JOB/in --output JOB/out --id …
    """
    with progress("files staged") as report:
        if options["manifest"] is not None:
            _refuse_others(options, {"manifest", "stage"})
            from dbb.butler.rebuild import materialize_manifest

            done = materialize_manifest(
                root, options["manifest"], stage=options["stage"], dry_run=dry_run, progress=report
            )
        else:
            spec = _spec(options)
            from dbb.butler import materialize_repo as materialize
            from dbb_cli.options import open_registry

            with open_registry(registry) as opened:
                done = materialize(opened, root, spec, dry_run=dry_run, progress=report)
    _reply(done, form)


def _refuse_others(options: dict[str, Any], allowed: set[str]) -> None:
    given = [name for name, value in options.items() if value not in (None, ()) and name not in allowed]
    if given:
        option = {"ids": "id", "datasets": "dataset", "refcats": "refcat"}.get(given[0], given[0].replace("_", "-"))
        raise click.UsageError(f"--{option} cannot be combined with --{'from' if 'manifest' in allowed else 'spec'}")


def _spec(options: dict[str, Any]) -> RepoSpec:
    from dbb.butler.spec import CalibSpec, FileSpec, InputSpec, OutputSpec, RefcatSpec, RepoSpec, read_spec

    if options["spec"] is not None:
        _refuse_others(options, {"spec"})
        return read_spec(options["spec"])
    if not options["mapper"]:
        raise click.UsageError("give --mapper, --spec or --from")
    if not options["datasets"] and not options["skymap"]:
        raise click.UsageError("nothing to stage: give --dataset at least once")
    if options["outputs"] and not options["output_run"]:
        raise click.UsageError("--outputs needs --output-run, whose names the outputs carry")
    runs = listed(options["runs"])
    run = options["output_run"]
    return RepoSpec(
        mapper=options["mapper"],
        inputs=tuple(InputSpec(name, options["where"], options["ids"], runs) for name in listed(options["datasets"])),
        calibs=CalibSpec(options["calibs"]) if options["calibs"] else None,
        files=(FileSpec(options["skymap"], "deepCoadd/skyMap.pickle"),) if options["skymap"] else (),
        outputs=OutputSpec(run, listed(options["outputs"])) if run else None,
        stage=options["stage"] or "auto",
        era=options["era"] or "both",
        archives=listed(options["archives"]),
        overlaps=options["overlaps"],
        refcats=tuple(RefcatSpec(name) for name in listed(options["refcats"])),
    )


def _reply(done: RepoReport, form: str) -> None:
    if done.overlaps is not None:
        click.echo(f"tract and patch from overlap version {done.overlaps}", err=True)
    if form == "json":
        names = ("root", "inputs", "calibs", "files", "exposures", "staged", "copied", "dry_run", "refcats", "overlaps")
        click.echo(json.dumps({name: getattr(done, name) for name in names}))
    staged = ", ".join(f"{count} by {mode}" for mode, count in done.staged.items())
    verb = "would hold" if done.dry_run else "holds"
    shards = f", {done.refcats} files of reference catalogues" if done.refcats else ""
    click.echo(
        f"{done.root} {verb} {done.inputs} inputs, {done.calibs} calibrations, {done.files} fixed files{shards} and"
        f" {done.exposures} exposures ({staged or 'nothing staged'})",
        err=True,
    )
