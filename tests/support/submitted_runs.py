"""A pipeline of three modules whose programs do as they are told, submitted by the real command, and its outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from job_files import start_dbb
from registries import rows

from dbb import Registry
from dbb.filetypes import load_filetypes

_FILETYPE = """
[filetypes.number]
keys = ["visit", "ccd"]
[filetypes.number.columns]
visit = "int"
ccd = "int"
"""
_PROGRAM = """#!/bin/sh
# make OUT IN...: puts its name below what is in its inputs, and does before what orders/NAME says
out=$1; shift
name=$(basename "$out" .txt)
echo "begin $name" >> "{folder}/told"
[ -f "{folder}/orders/$name" ] && . "{folder}/orders/$name"
cat "$@" > "$out" || exit 9
echo "$name" >> "$out"
echo "end $name" >> "{folder}/told"
"""
_SUBMIT = """
reqnum = 1
unitname = U
home_archive = home
ops_run_dir = ${submit_run}
blocklist = first, middle, last
<block first>
    modulelist = seed
</block>
<block middle>
    modulelist = part
    divide_jobs_by = visit
</block>
<block last>
    modulelist = total
</block>
<filename_pattern>
    seed = seed.txt
    part = part-${visit}-${ccd}.txt
    total = total.txt
    parts = parts.list
</filename_pattern>
<directory_pattern made>
    runtime = made
    ops = ${ops_run_dir}/made
</directory_pattern>
<directory_pattern raw>
    runtime = raw
    ops = raw
</directory_pattern>
<module seed>
    modnamepat = seed
    <file raw>
        filename = raw.txt
        dirpat = raw
    </file>
    <file made>
        filetype = genfile
        filepat = seed
        dirpat = made
    </file>
    <exec_1>
        execname = {folder}/make
        used = file.raw
        was_generated_by = file.made
        ancestry = file.raw:file.made
        <cmdline>
            _1 = ${file.made.fullname}
            _2 = ${file.raw.fullname}
        </cmdline>
    </exec_1>
</module>
<module part>
    wrapperloop = visit, ccd
    visit = 1, 2
    ccd = 1, 2
    modnamepat = part_${visit}_${ccd}
    <file seed>
        depends = seed.file.made
        dirpat = made
    </file>
    <file made>
        filetype = number
        filepat = part
        dirpat = made
    </file>
    <exec_1>
        execname = {folder}/make
        used = file.seed
        was_generated_by = file.made
        ancestry = file.seed:file.made
        <cmdline>
            _1 = ${file.made.fullname}
            _2 = ${file.seed.fullname}
        </cmdline>
    </exec_1>
</module>
<module total>
    modnamepat = total
    <list parts>
        depends = part.file.made
        filepat = parts
        columns = part.fullname
    </list>
    <file part>
        listonly = True
        dirpat = made
    </file>
    <file made>
        filetype = genfile
        filepat = total
        dirpat = made
    </file>
    <exec_1>
        execname = {folder}/make
        used = list.parts.part
        was_generated_by = file.made
        ancestry = list.parts.part:file.made
        <cmdline>
            _1 = ${file.made.fullname}
        </cmdline>
    </exec_1>
    <wrapper>
        per_file_cmdline = list.parts.part:$(part.fullname)
    </wrapper>
</module>
"""
PARTS = ("part-1-1", "part-1-2", "part-2-1", "part-2-2")


class SubmittedRuns:
    """A folder with a registry, an archive and a submit file, and the commands that one gives there."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        for name in ("home/raw", "orders"):
            (folder / name).mkdir(parents=True)
        (folder / "home/raw/raw.txt").write_text("raw\n")
        program = folder / "make"
        program.write_text(_PROGRAM.replace("{folder}", str(folder)))
        program.chmod(0o755)
        self.write(_SUBMIT)
        (folder / "number.toml").write_text(_FILETYPE)
        with Registry.create(url) as registry:
            registry.add_archive("home", str(folder / "home"))
            registry.register_filetypes(list(load_filetypes(folder / "number.toml").values()))
            registry.ingest_table([{"relpath": "raw/raw.txt"}], filetype="genfile", archive="home")

    def write(self, text: str) -> None:
        """Write the submit file."""
        (self.folder / "submit.des").write_text(text.replace("{folder}", str(self.folder)))

    def change(self, *changes: tuple[str, str]) -> None:
        """Replace texts of the submit file."""
        text = (self.folder / "submit.des").read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.write(text)

    def order(self, name: str, script: str) -> None:
        """Let the shell do something when a step begins."""
        (self.folder / "orders" / name).write_text(script)

    @property
    def told(self) -> list[str]:
        """What steps have told: when they began and ended."""
        told = self.folder / "told"
        return told.read_text().splitlines() if told.exists() else []

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Begin ``dbb submit``."""
        return start_dbb("submit", *arguments, "--registry", self.url, cwd=self.folder, **options)

    def dbb_started(self, *arguments: object) -> subprocess.Popen[str]:
        """Begin a command."""
        return start_dbb(*arguments, "--registry", self.url, cwd=self.folder)

    def dbb(self, *arguments: object, code: int | None = 0) -> str:
        """Run a command; return what it printed. `code` is its exit code, or None for any."""
        command = self.dbb_started(*arguments)
        out, err = command.communicate(timeout=60)
        assert code is None or command.returncode == code, out + err
        return out + err

    def dbb_any(self, *arguments: object) -> str:
        """Run a command that may fail; return what it printed."""
        return self.dbb(*arguments, code=None)

    def submit(self, *arguments: str, code: int = 0) -> str:
        """Run ``dbb submit submit.des``; return what it printed."""
        return self.dbb("submit", "submit.des", *arguments, code=code)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a SELECT as an operator would type it."""
        with Registry(self.url) as registry:
            return rows(registry, statement)

    def states(self, attnum: int = 1) -> dict[str, str]:
        """Return the state of each step, as the registry has it."""
        found = self.ask(
            "select w.name, w.wrapkeys, t.state from pfw_wrapper w, task t, pfw_attempt a"
            f" where t.id = w.task_id and a.id = w.pfw_attempt_id and a.attnum = {attnum} order by w.wrapnum"
        )
        return dict(zip(("seed", *PARTS, "total"), (state for *_, state in found), strict=True))

    def made(self) -> set[tuple[Any, ...]]:
        """Return what was made, by data id: with its content, its metadata and what it was made from."""
        return set(
            self.ask(
                "select d.filename, d.md5sum, n.visit, n.ccd, p.filename, p.md5sum from desfile d"
                " left join number n on n.desfile_id = d.id join opm_was_derived_from o on o.child_desfile_id = d.id"
                " join desfile p on p.id = o.parent_desfile_id"
                " join file_archive_info f on f.desfile_id = d.id"
            )
        )


def write_image(path: Path) -> None:
    """Write a FITS file with an image that can be compressed well."""
    import numpy as np
    from astropy.io import fits

    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.arange(40_000, dtype="i2").reshape(200, 200))]).writeto(path)


def wait_for(what: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has begun, and those that they have."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid, ()))
    for one in found:
        found += children.get(one, ())
    return found


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it has begun, as a machine does that fails."""
    os.kill(process.pid, signal.SIGSTOP)
    for pid in [process.pid, *descendants(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
