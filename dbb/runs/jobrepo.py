"""The Butler repository of a job: what it must hold, and where each input and output lies in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dbb.butler import CalibSpec, FileSpec, InputSpec, RefcatSpec, RepoSpec, plan_repo
from dbb.butler.camera import output_entries
from dbb.errors import NotFoundError, PipelineError
from dbb.mapper import Mapper, eras_of
from dbb.patch import butler_patch
from dbb.patterns import parse_pattern
from dbb.pipeline.defaults import REPOSITORY_MODULE
from dbb.pipeline.lists import list_items
from dbb.pipeline.traits import ModuleTraits
from dbb.pipeline.workflow import InputFile, Instance, OutputFile
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry.archives import archives
from dbb.runs.jobinputs import KnownFile
from dbb.runs.repofiles import RepositoryFiles

_DEFAULT_FOLDER = "jobrepo"


@dataclass(slots=True)
class JobRepository:
    """The repository of one job, as its steps see it.

    Parameters
    ----------
    folder
        What tasks are given as their repository: they read and write it.
    manifest
        What the job's link farm holds, and how outputs are called.
    wrapnum
        The quantum that stands for making it, or None.
    farm
        By the names of inputs that only the Butler sees, their paths in the job.
    files
        What steps read besides.
    raws
        The names of raws among the inputs.
    """

    folder: str
    manifest: dict[str, Any]
    wrapnum: int | None
    farm: Mapping[str, str] = field(default_factory=dict)
    files: RepositoryFiles | None = None
    raws: frozenset[str] = frozenset()

    def inputs_of(self, instance: Instance) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
        """Return the nicknames of a step's raws, and what it reads through the Butler because it reads them."""
        nicks = tuple(dict.fromkeys(one.nick for one in instance.inputs if one.filename in self.raws))
        return nicks, self.files.inputs_of(instance) if nicks and self.files is not None else []

    def as_dict(self) -> dict[str, Any]:
        """Return what a job file holds."""
        return {"dir": self.folder, "manifest": self.manifest, "module": REPOSITORY_MODULE, "wrapnum": self.wrapnum}


def job_repository(
    db: Database,
    instances: Sequence[Instance],
    modules: Mapping[str, ModuleTraits],
    known: Mapping[str, KnownFile],
    preferred: Sequence[str] = (),
) -> JobRepository | None:
    """Return the repository that the quanta of a job share, or None if none of them needs one.

    Copies in `preferred` archives are taken before others.

    Raises
    ------
    PipelineError
        If modules of the job disagree about it.
    DbbError
        As `dbb.butler.plan_repo`.
    """
    wanted = _settings(instances, modules)
    if wanted is None:
        return None
    folder = wanted.get("job_repo_dir") or _DEFAULT_FOLDER
    camera = _camera(wanted.get("mapper", ""))
    era = wanted.get("era", "both")
    datasets, fixed = _sorted(db, instances, modules, known, camera, folder)
    spec = RepoSpec(
        camera.name,
        tuple(InputSpec(dataset, files=tuple(one.id for one in files)) for dataset, files in datasets.items()),
        calibs=_calibs(wanted),
        refcats=tuple(RefcatSpec(name) for name in list_items(wanted.get("ref_cats", "")) if name),
        files=tuple(FileSpec(known[name].relpath, path) for name, path in fixed.items()),
        era=era,
        archives=tuple(preferred),
        overlaps=wanted.get("overlaps"),
    )
    manifest = plan_repo(db, spec)
    manifest["outputs"] = list(_outputs(db, instances, modules, camera, era, folder))
    own = next((one.wrapnum for one in instances if one.module == REPOSITORY_MODULE), None)
    with db.read() as conn:
        roots = archives(conn)
    raws = frozenset(name for name, one in known.items() if one.filetype == camera.raw_filetype)
    files = RepositoryFiles(manifest, camera, f"{folder}.job", roots)
    return JobRepository(folder, manifest, own, _farm(roots, manifest, folder, datasets, fixed), files, raws)


def below(folder: str, path: str) -> str | None:
    """Return `path` relative to `folder`, or None if it is not below it."""
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


def butler_path(output: OutputFile, traits: ModuleTraits, folder: str) -> str | None:
    """Return where the Butler writes an output if a data id has the patch with a comma, where that is another name."""
    pattern = traits.patterns.get(output.nick)
    patch = output.metadata.get("patch")
    if not pattern or patch is None or below(folder, output.fullname) is None:
        return None
    path = parse_pattern(pattern).expand({**output.metadata, "patch": butler_patch(patch)})
    return path if path != output.fullname else None


def _settings(instances: Sequence[Instance], modules: Mapping[str, ModuleTraits]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    needed = False
    for module in dict.fromkeys(one.module for one in instances):
        said = modules[module].repository
        needed = needed or bool(said)
        for key, value in said.items():
            if found.setdefault(key, value) != value:
                earlier = f"an earlier module of its job says {found[key]}"
                raise PipelineError(f"module {module} says {key} = {value}, but {earlier}: a job has one repository")
    return found if needed else None


def _camera(name: str) -> Mapper:
    """Return the camera called `name`, which may be that of the stack's mapper class.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    cameras = plugins().mappers()
    for camera in cameras.values():
        if (
            name in {camera.name, camera.butler_class}
            or name.rpartition(".")[2] == camera.butler_class.rpartition(".")[2]
        ):
            return camera
    raise NotFoundError("mapper", name, cameras, "A module's wrapper section says mapper = NAME")


def _sorted(
    db: Database,
    instances: Sequence[Instance],
    modules: Mapping[str, ModuleTraits],
    known: Mapping[str, KnownFile],
    camera: Mapper,
    folder: str,
) -> tuple[dict[str, list[KnownFile]], dict[str, str]]:
    """Part the inputs that the Butler sees into datasets by type, and files with a fixed name by that name."""
    datasets: dict[str, dict[int, KnownFile]] = {}
    fixed: dict[str, str] = {}
    for one in _inputs(instances, modules):
        file = known.get(one.filename)
        if file is None:
            continue
        place = below(folder, one.fullname)
        if one.rename is not None and place is not None:
            fixed[one.filename] = f"{place.rpartition('/')[0]}/{one.rename}".lstrip("/")
        elif (dataset := _dataset(db, camera, file.filetype)) is not None:
            datasets.setdefault(dataset, {})[file.id] = file
    return {name: list(files.values()) for name, files in datasets.items()}, fixed


def _inputs(instances: Sequence[Instance], modules: Mapping[str, ModuleTraits]) -> Iterable[InputFile]:
    for instance in instances:
        own = modules[instance.module].own
        yield from (one for one in instance.inputs if one.nick not in own)


def _dataset(db: Database, camera: Mapper, name: str) -> str | None:
    """Return the Butler dataset type of a filetype, or None if the Butler finds it otherwise or not at all."""
    filetype = db.filetypes().get(name)
    if filetype is None or filetype.dataset is None or filetype.name not in camera.filetypes:
        return None
    layouts = camera.layouts(filetype.dataset, eras_of("both"))
    return None if not layouts or layouts[0].is_validity_ranged else filetype.dataset


def _calibs(wanted: Mapping[str, str]) -> CalibSpec | None:
    if "calibs" not in wanted:
        return None
    types = tuple(name for name in list_items(wanted.get("calib_types", "")) if name)
    return CalibSpec(wanted["calibs"], types or None)


def _outputs(
    db: Database,
    instances: Sequence[Instance],
    modules: Mapping[str, ModuleTraits],
    camera: Mapper,
    era: str,
    folder: str,
) -> Iterable[dict[str, Any]]:
    """Give the manifest's ``outputs``: the Butler writes each dataset type under the name that the pipeline planned."""
    seen = set()
    for instance in instances:
        for output in instance.outputs:
            dataset = _dataset(db, camera, output.filetype) if output.filetype else None
            pattern = below(folder, modules[instance.module].patterns.get(output.nick, ""))
            if dataset is not None and pattern is not None and dataset not in seen:
                seen.add(dataset)
                yield from output_entries(camera, era, [dataset], {}, {dataset: pattern})


def _farm(
    roots: Mapping[str, str],
    manifest: Mapping[str, Any],
    folder: str,
    datasets: Mapping[str, Sequence[KnownFile]],
    fixed: Mapping[str, str],
) -> dict[str, str]:
    paths: dict[str, str] = {}
    for entry in manifest["inputs"]:
        paths.setdefault(entry["source"], entry["path"])
    farm = {}
    for files in datasets.values():
        for one in files:
            path = paths.get(f"{roots[one.archive]}/{one.relpath}")
            if path is not None:
                farm[one.filename + one.compression] = f"{folder}.job/{path}"
    return farm | {name: f"{folder}.job/in/{path}" for name, path in fixed.items()}
