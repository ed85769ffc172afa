"""A survey in miniature, from raw files to the Gen2 repository of one job, with the real ``dbb`` command.

``python demo.py [--folder FOLDER]`` makes the data (see ``make.py``), registers them, materialises the repository of a
job on one patch, reads it back, and measures what ingesting the same files one by one would have cost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from make import make

PROJECT = Path(__file__).resolve().parents[2]
MARK = ".made-by-dbb-demo"
PATCH = "tract = 0 AND patch = '8,6'"
DATASETS = ("raw", "calexp", "deepCoadd_calexp")
RUNS = ("Ht0_r12p01", "Ht0_r11p95")

SURVEY = (
    "create sqlite:///survey.db --mapper hsc",
    "archive add home archive",
    "ingest-files --filetype raw --archive home 'archive/raw/*.fits'",
    "ingest-table calexps.csv --archive home",
    "ingest-table coadds.csv --archive home",
    "ingest-table files.csv --archive home",
    "ingest-table calib_files.csv --archive home",
    "certify-calibrations --version 2014A --filetype bias bias_valid.csv",
    "certify-calibrations --version 2014A --filetype dark dark_valid.csv",
    "certify-calibrations --version 2014A --filetype flat flat_valid.csv",
    "overlaps load --version ci_hsc overlaps.csv",
    "tag PROTO-0.1 Ht0_r11p95",
)
QUERY = "query-files calexp --id 'visit=903334 ccd=16^22' --columns visit,ccd,run,relpath"
JOB = (
    f'materialize-repo job --mapper hsc --dataset {",".join(DATASETS)} --where "{PATCH}" \\\n'
    f"    --runs {','.join(RUNS)} --calibs 2014A --skymap skyMap-1.pickle \\\n"
    "    --output-run Ht0_r20p01 --outputs calexp,src"
)


class Survey:
    """The demo's folder and the ``dbb`` command that works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        beside = Path(sys.executable).with_name("dbb")
        found = str(beside) if beside.exists() else shutil.which("dbb")
        if found is None:
            sys.exit(f"demo: there is no dbb beside {sys.executable}: install it with 'make setup'")
        self._dbb = found
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("DBB_")}

    def dbb(self, command: str) -> float:
        """Run one command in the folder, show it with what it says, and return the seconds that it took."""
        start = time.perf_counter()
        done = subprocess.run(
            [self._dbb, *shlex.split(command.replace("\\\n", ""))],
            cwd=self.folder,
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
        said = (done.stdout + done.stderr).replace(f"{self.folder}/", "").splitlines()
        if len(said) == 1 and "\n" not in command:
            print(f"$ {f'dbb {command}':72} # {said[0]}")
        else:
            print(f"$ dbb {command}", *said, sep="\n  ")
        if done.returncode:
            sys.exit(f"demo: dbb ended with exit code {done.returncode}")
        return seconds


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = PROJECT / "build" / "demo"
    parser.add_argument("--folder", type=Path, default=default, help=f"where to work; made anew (default: {default})")
    folder = parser.parse_args().folder.absolute()
    begin(folder)
    survey = Survey(folder)
    heading(f"A small survey in {folder}, with a registry that dbb.toml names")
    make(folder)
    (folder / "dbb.toml").write_text('registry = "sqlite:///survey.db"\n', encoding="utf-8")
    for command in SURVEY:
        survey.dbb(command)
    heading("Two runs have made calexps of visit 903334; which files are they?")
    survey.dbb(QUERY)
    heading("A job on patch 8,6: its repository, with the calexps of r12p01 where it has them, else those of r11p95")
    seconds = survey.dbb(JOB)
    show_tree(folder / "job")
    heading("Reading it back as the Butler would")
    read_back(folder)
    heading("What it cost, and what ingesting the same files one by one costs")
    compare(folder, seconds)


def begin(folder: Path) -> None:
    """Make the folder anew, unless it holds what this demo has not made."""
    if folder.is_symlink() or (folder.exists() and not (folder / MARK).is_file()):
        sys.exit(f"demo: {folder} exists and was not made by this demo: give another --folder, or remove it")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def heading(text: str) -> None:
    """Print what comes next."""
    print(f"\n# {text}", flush=True)


def show_tree(job: Path) -> None:
    """Print the files of the job, and of each folder with links how many, the first and the name of its target."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(job.rglob("*")):
        if path.is_symlink() or path.is_file():
            folders[path.parent.relative_to(job.parent)].append(path)
    for folder, paths in sorted(folders.items()):
        links = [path for path in paths if path.is_symlink()]
        for path in (path for path in paths if path not in links):
            print(f"  {folder / path.name}")
        if links:
            target = links[0].readlink()
            example = f"{links[0].name} -> {f'…/{target.name}' if target.is_absolute() else target}"
            print(f"  {f'{folder}/':44} {f'{len(links)} links, e.g. ' if len(links) > 1 else ''}{example}")


def read_back(folder: Path) -> None:
    """Ask the job's repository for datasets, check every byte of its inputs, and write an output."""
    from dbb.butler import Repository

    entries = staged(folder)
    with Repository(folder / "job" / "out") as repository:
        for entry in entries:
            if md5sum(repository.get_uri(entry["dataset"], **entry["data_id"])) != entry["md5sum"]:
                sys.exit(f"demo: {entry['path']} has not the bytes that were registered")
        runs = Counter(entry["run"] for entry in entries if entry["dataset"] == "calexp")
        counts = ", ".join(f"{number} calexps of {run}" for run, number in runs.items())
        print(f"  {len(entries)} datasets found, each with the registered bytes: among them {counts}")
        for visit, ccd in ((903334, 16), (903986, 16)):
            uri = repository.get_uri("calexp", visit=visit, ccd=ccd)
            print(f"  calexp of visit {visit}, ccd {ccd}: its header says {header_of(uri)['RUN']}")
        print("  filter of visit 903986:", *repository.query_metadata("raw", "filter", visit=903986)[0])
        print("  a flat for visit 903334, ccd 16:", Path(repository.get_uri("flat", visit=903334, ccd=16)).name)
        print("  a calexp of ccd 22, which is not on the patch:", repository.exists("calexp", visit=903334, ccd=22))
        written = repository.put("calexp", b"a new calexp", visit=903334, ccd=16)
        print(f"  a new calexp goes to {os.path.relpath(written, folder)}", end="")
        print(", and is found first:", repository.get_uri("calexp", visit=903334, ccd=16) == written)


def staged(folder: Path) -> list[dict[str, Any]]:
    """Return the datasets that the job's manifest lists."""
    manifest = json.loads((folder / "job" / "manifest.json").read_text(encoding="utf-8"))
    return [*manifest["inputs"], *manifest["calibs"]]


def md5sum(path: str) -> str:
    """Return the checksum of a file."""
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()


def header_of(path: str) -> Any:
    """Return the header of a FITS file's first HDU that has one worth reading."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        return hdus[-1].header


def compare(folder: Path, command_seconds: float) -> None:
    """Measure both ways in this process, so that neither pays for starting Python and loading libraries."""
    from dbb import Registry, RepoSpec, materialize_repo
    from dbb.butler import CalibSpec, InputSpec

    sources = [entry["source"].removeprefix("file://") for entry in staged(folder)]
    spec = RepoSpec("hsc", tuple(InputSpec(name, PATCH, runs=RUNS) for name in DATASETS), CalibSpec("2014A"))
    with Registry(f"sqlite:///{folder / 'survey.db'}") as registry:
        ways: dict[str, Callable[[Path], object]] = {
            "one by one": lambda root: ingest_one_by_one(sources, root),
            "dbb": lambda root: materialize_repo(registry, root, spec),
        }
        taken = {name: min(measured(way, folder) for _ in range(3)) for name, way in ways.items()}
    for name, (seconds, opened) in taken.items():
        print(f"  {f'{name}:':11} {seconds * 1000:6.1f} ms for {len(sources)} files, which were opened {opened} times")
    ratio = taken["one by one"][0] / taken["dbb"][0]
    print(f"  so dbb is {ratio:.0f} times as fast, with small files on a local disk; 'make bench' measures larger jobs")
    print(f"  (the whole command took {command_seconds * 1000:.0f} ms above, most of it to load libraries)")


_opened: list[str] = []
sys.addaudithook(lambda event, details: _opened.append(str(details[0])) if event == "open" else None)


def measured(work: Callable[[Path], object], folder: Path) -> tuple[float, int]:
    """Return the seconds that `work` takes for a new job, and how many files of the archive it opens."""
    root = folder / "timed"
    shutil.rmtree(root, ignore_errors=True)
    _opened.clear()
    start = time.perf_counter()
    work(root)
    seconds = time.perf_counter() - start
    return seconds, sum(path.startswith(f"{folder}/archive/") for path in _opened)


def ingest_one_by_one(sources: Sequence[str], root: Path) -> None:
    """Do what ingesting into a Gen2 repository does per file: open, read the header, look, link, insert, commit."""
    root.mkdir()
    with closing(sqlite3.connect(root / "registry.sqlite3")) as registry:
        registry.execute("CREATE TABLE raw (path text, ccd int, filter text, dateObs text, unique(path))")
        for source in sources:
            header = header_of(source)
            row = (source, header.get("DET-ID"), header.get("FILTER01"), header.get("DATE-OBS"))
            if registry.execute("SELECT count(*) FROM raw WHERE path = ?", row[:1]).fetchone()[0]:
                continue
            (root / Path(source).name).symlink_to(source)
            registry.execute("INSERT INTO raw VALUES (?, ?, ?, ?)", row)
            registry.commit()


if __name__ == "__main__":
    main()
