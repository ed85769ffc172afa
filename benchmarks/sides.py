"""The sides of the benchmark: which command makes the repository of one job, for dbb and each of its peers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import run
from survey import CALIBS_VERSION, Job

HERE = Path(__file__).parent
BASES = ("python", "sqlalchemy", "one-row")
DBB = ("dbb", "dbb-manifest")


@dataclass(frozen=True, slots=True)
class Setting:
    """Where things are: the work folder, where repositories are made, Python, the Gen3 Python (None: left out).

    ``rows`` is the number of raws in the global registry, ``dbb`` whether dbb takes part.
    """

    work: Path
    jobs: Path
    python: Path
    gen3: Path | None
    rows: int
    dbb: bool

    @property
    def archive(self) -> Path:
        """The archive's root."""
        return self.work / "survey" / "archive"

    @property
    def floor_source(self) -> Path:
        """The global SQLite file of the floor."""
        return self.work / "survey" / "global.sqlite3"

    @property
    def registry(self) -> Path:
        """The SQLite file of dbb's global registry."""
        return self.work / f"registry-{self.rows}.db"

    @property
    def url(self) -> str:
        """The registry that one row is read from: dbb's own if there is one."""
        return f"sqlite:///{self.registry if self.dbb else self.floor_source}"


Command = Callable[[Setting, int, Path], list[str]]


def base_commands(setting: Setting) -> dict[str, list[str]]:
    """Give the processes that ratios are formed with."""
    return {
        "python": [str(setting.python), "-c", "pass"],
        "sqlalchemy": [str(setting.python), "-c", "import sqlalchemy"],
        "one-row": [str(setting.python), str(HERE / "floor.py"), "one-row", setting.url],
    }


def _floor(setting: Setting, inputs: int, root: Path) -> list[str]:
    job = Job.of(inputs)
    numbers = (str(number) for number in (job.first, job.last, job.ccds))
    script = [str(setting.python), str(HERE / "floor.py"), "repository"]
    return [*script, str(setting.floor_source), str(setting.archive), str(root), *numbers]


def _gen2(setting: Setting, inputs: int, root: Path) -> list[str]:
    return [str(setting.python), str(HERE / "gen2_ingest.py"), str(job_file(setting, inputs)), str(root)]


def _gen3(way: str) -> Command:
    def command(setting: Setting, inputs: int, root: Path) -> list[str]:
        source = job_file(setting, inputs) if way == "ingest" else gen3_source(setting, inputs)
        return [str(setting.gen3), str(HERE / "gen3_peer.py"), way, str(source), str(root)]

    return command


def dbb(setting: Setting, inputs: int, root: Path) -> list[str]:
    """Build from the registry."""
    job = Job.of(inputs)
    words = [program(setting), "materialize-repo", str(root), "--registry", setting.url, "--mapper", "hsc"]
    return [*words, "--dataset", "raw", "--id", job.data_id(), "--calibs", CALIBS_VERSION, "--format", "json"]


def dbb_from_manifest(setting: Setting, inputs: int, root: Path) -> list[str]:
    """Build from the manifest that `dbb` wrote for as many inputs."""
    planned = setting.jobs / f"planned-{inputs}"
    if not planned.exists():
        run(dbb(setting, inputs, planned))
    manifest = planned / "manifest.json"
    return [program(setting), "materialize-repo", str(root), "--from", str(manifest)]


def dbb_hundred(setting: Setting, root: Path) -> list[str]:
    """Build a hundred small jobs in one process."""
    return [str(setting.python), str(HERE / "dbb_hundred.py"), setting.url, str(root), CALIBS_VERSION]


def program(setting: Setting) -> str:
    """Give the path of the ``dbb`` command."""
    return str(setting.python.with_name("dbb"))


COMMANDS: dict[str, Command] = {
    "floor": _floor,
    "dbb": dbb,
    "dbb-manifest": dbb_from_manifest,
    "gen2": _gen2,
    "gen3-ingest": _gen3("ingest"),
    "gen3-transfer": _gen3("transfer"),
    "gen3-import": _gen3("import"),
}


def chosen(setting: Setting, inputs: int, cap: int) -> dict[str, Command]:
    """Give the sides that take part at this number of inputs."""
    slow = inputs > cap
    out = {
        name
        for name in COMMANDS
        if (name in DBB and not setting.dbb)
        or (name.startswith("gen3") and (slow or setting.gen3 is None))
        or (name == "gen2" and slow)
    }
    return {name: command for name, command in COMMANDS.items() if name not in out}


def job_file(setting: Setting, inputs: int) -> Path:
    """Write the rows of one job for the sides that take them as given."""
    path = setting.work / f"job-{inputs}.json"
    if not path.exists():
        job = Job.of(inputs)
        rows = {"archive": str(setting.archive), "exposures": list(job.exposures()), "calibs": list(job.calibs())}
        path.write_text(json.dumps(rows))
    return path


def gen3_source(setting: Setting, inputs: int) -> Path:
    """Make the Gen3 repository and export file that transfer and import start from."""
    path = setting.work / f"gen3-source-{inputs}"
    if not (path / "export.yaml").exists():
        run([str(setting.gen3), str(HERE / "gen3_peer.py"), "prepare", str(job_file(setting, inputs)), str(path)])
    return path
