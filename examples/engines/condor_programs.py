"""Find HTCondor's programs, or fetch Debian's and make them run from a folder of their own, with nothing installed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kept import EngineError

_SUITE = "trixie"  # the first Debian since 2020 that has HTCondor
_HOW = (
    "install HTCondor and put its programs on the PATH: `apt install condor` (Debian 13 or newer), "
    "`conda install -c conda-forge htcondor`, or https://htcondor.org"
)
# Of all that condor depends on only the libraries are needed, and of these not those of its Perl and Python tools.
_NEEDED = re.compile(r"condor|patchelf|zlib1g|lib(?!boost|date|debconf|js-|perl|python|pam|systemd)[a-z0-9.+-]+")


@dataclass(frozen=True, slots=True)
class CondorPrograms:
    """Folders of an HTCondor."""

    bin: Path
    sbin: Path
    libexec: Path
    release: Path


def find_condor(cache: Path | None = None, *, fetch: bool = True) -> CondorPrograms:
    """Return the HTCondor that the PATH leads to, else one from Debian's packages, fetched at the first time.

    Parameters
    ----------
    cache
        Where fetched programs are kept; by default ``$CONDOR_CACHE``, else a folder of the user's caches. They cannot
        be moved, since each names its libraries.
    fetch
        Whether to fetch any.

    Raises
    ------
    EngineError
        If there is none, and none can be fetched or is to be.
    """
    master, submit = shutil.which("condor_master"), shutil.which("condor_submit_dag")
    if master and submit:
        return _programs(Path(submit).parent, Path(master).parent)
    folder = (cache or _default_cache()).resolve() / f"debian-{_SUITE}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock")):
        if not folder.is_dir():
            if not fetch:
                raise EngineError(f"no HTCondor here: `make pool` fetches it, or {_HOW}")
            _fetch(folder)
    return _programs(folder / "usr/bin", folder / "usr/sbin")


def _programs(bin_: Path, sbin: Path) -> CondorPrograms:
    release = bin_.parent
    for libexec in (release / "libexec/condor", release / "libexec", release / "lib/condor/libexec"):
        if (libexec / "condor_shared_port").exists():
            return CondorPrograms(bin_, sbin, libexec, release)
    raise EngineError(f"{release} has no condor_shared_port where it is looked for: {_HOW}")


def _default_cache() -> Path:
    if named := os.environ.get("CONDOR_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mini-dbb/condor"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path) -> None:
    """Unpack the packages aside, make the programs find their libraries in ``folder``, and rename."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise EngineError(f"no HTCondor here, and this is no Debian to fetch it for: {_HOW}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as name:
        scratch = Path(name)
        unpacked = scratch / "unpacked"
        for package in _download(scratch):
            _run(["dpkg-deb", "--extract", str(package), str(unpacked)])
        _relink(unpacked, folder)
        for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/python3"):
            shutil.rmtree(unpacked / unused, ignore_errors=True)
        unpacked.rename(folder)


def _download(scratch: Path) -> list[Path]:
    """Download condor with the libraries it needs, by an apt that knows nothing of what is installed."""
    for sub in ("lists/partial", "cache/archives/partial", "parts", "debs"):
        (scratch / sub).mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "parts/suite.sources").write_text(_sources())
    (scratch / "apt.conf").write_text(
        f'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "{scratch}/parts/";\n'
        f'Dir::State::Lists "{scratch}/lists/";\nDir::State::status "{scratch}/status";\n'
        f'Dir::Cache "{scratch}/cache/";\n'
        f'APT::Sandbox::User "{"root" if os.getuid() == 0 else ""}";\n'
    )
    environ = {**os.environ, "APT_CONFIG": str(scratch / "apt.conf"), "LC_ALL": "C.UTF-8"}
    _run(["apt-get", "update", "--quiet", "--error-on=any"], environ)
    wanted = ["condor", "patchelf"]
    plan = _run(["apt-get", "--simulate", "--quiet", "--no-install-recommends", "install", *wanted], environ)
    names = re.findall(r"^Inst (\S+)", plan, flags=re.MULTILINE)
    needed = sorted(name for name in names if _NEEDED.fullmatch(name))
    _run(["apt-get", "download", "--quiet", *needed], environ, cwd=scratch / "debs")
    return sorted((scratch / "debs").iterdir())


def _sources() -> str:
    """Return apt's entry for the suite, from the mirror and with the keys of the machine's own Debian."""
    for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            entry = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, flags=re.MULTILINE))
            if uri := re.search(r"\S+/debian/?(?=\s|$)", entry.get("URIs", "")):
                keys = {key: entry[key] for key in ("Signed-By", "Trusted") if entry.get(key)}
                return _stanza(uri[0], keys)
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))]:
        text = path.read_text() if path.exists() else ""
        if line := re.search(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+/debian/?)\s", text, flags=re.MULTILINE):
            return _stanza(line[1], {})
    raise EngineError(f"no HTCondor here, and apt's sources name no mirror of Debian to fetch it from: {_HOW}")


def _stanza(uri: str, more: Mapping[str, str]) -> str:
    entry = {"Types": "deb", "URIs": uri, "Suites": _SUITE, "Components": "main", **more}
    return "".join(f"{key}: {value}\n" for key, value in entry.items())


def _relink(unpacked: Path, final: Path) -> None:
    """Give each program the loader and the libraries that were unpacked with it, at the place where they will lie."""
    (loader,) = unpacked.glob("usr/lib/*/ld-linux*.so.*")
    libraries = [loader.parent, unpacked / "usr/lib"]
    there = [str(final / path.relative_to(unpacked)) for path in libraries]
    # patchelf itself comes from the same suite, and is run by the loader that it is about to write into the others
    patchelf = [str(loader), "--library-path", ":".join(map(str, libraries)), str(unpacked / "usr/bin/patchelf")]
    for pattern in ("lib/lib*.so*", "bin/*", "sbin/*", "libexec/condor/*"):
        for path in filter(_is_elf, (unpacked / "usr").glob(pattern)):
            if path.name == "patchelf":
                continue
            _run([*patchelf, "--force-rpath", "--set-rpath", ":".join(there), str(path)])
            has_loader = subprocess.run([*patchelf, "--print-interpreter", str(path)], capture_output=True, check=False)
            if has_loader.returncode == 0:  # a library has none
                _run([*patchelf, "--set-interpreter", str(final / loader.relative_to(unpacked)), str(path)])


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise EngineError(f"{' '.join(command[:3])} failed: {' / '.join(said)}; or else {_HOW}")
    return done.stdout
