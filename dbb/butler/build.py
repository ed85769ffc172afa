"""Writing one job repository, entry by entry, wherever the entries come from. Standard library only.

Everything is written into a folder aside that is renamed at the end. No input is opened: a link needs its source's
size, which the directory knows. Only copies are read, and checked while their bytes pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbb.butler.config import format_config
from dbb.butler.head import Entry, Head, Progress, RepoReport
from dbb.butler.layout import ExposureRegistry, write_calibrations
from dbb.butler.linker import CONFLICT, MOST_PROBLEMS, LinkMaker, source_problem
from dbb.butler.manifest import ManifestWriter
from dbb.butler.pieces import Pieces, member_request
from dbb.errors import AmbiguousError, ConflictError, DbbError, IntegrityError, UnsafePathError, UsageError
from dbb.members import MemberRequest
from dbb.patterns import is_safe_path, safe_path
from dbb.storage import StageRequest, copy_checked, is_local, local_path, new_folder

if TYPE_CHECKING:
    from dbb.butler.linkprocess import LinkProcess

REMOTE_BATCH = 256
MANY_LINKS = 1_000
"""From so many links on, a second process makes them: starting it costs as much as some hundred links."""
_PARTS = "parts"
_REGISTRIES = ("in/registry.sqlite3", "in/CALIB/calibRegistry.sqlite3", "in/calibRegistry.sqlite3")
# SQLite would read the first as parts of our registries, the Butler the others before repositoryCfg.yaml
_STRANGE_FILES = (
    *(f"{registry}{end}" for registry in _REGISTRIES for end in ("-journal", "-wal", "-shm")),
    "in/_mapper",
    "in/_parent",
)
_OWN_FILES = frozenset({"in/repositoryCfg.yaml", *_REGISTRIES, *_STRANGE_FILES})


class JobBuilder:
    """Writes the parts of one repository as they come; made by `build_job`.

    Parameters
    ----------
    aside
        Where to write, or None to check only.
    final
        Where the folder will be.
    """

    def __init__(self, aside: Path | None, final: Path, head: Head, progress: Progress | None) -> None:
        self._aside, self._final, self._head, self._progress = aside, final, head, progress
        self._counts = {"inputs": 0, "calibs": 0, "files": 0, "refcats": 0}
        self._staged: dict[str, int] = {}
        self._copied = 0
        self._exposures = 0
        self._calibs: list[Entry] = []
        self._refcats: list[Entry] = []
        self._pieces = Pieces(f"{aside}/{_PARTS}")
        self._problems: list[str] = []
        self._remote: list[StageRequest] = []
        self._links: LinkMaker | LinkProcess | None = None
        self._links_made = 0
        self._paths: set[str] = set(_OWN_FILES)
        if aside is not None:
            self._begin(aside)

    def _begin(self, aside: Path) -> None:
        for folder in (f"in/{self._head.layout.calib_root}", "out"):
            (aside / folder).mkdir(parents=True)
        (aside / "in/repositoryCfg.yaml").write_text(
            format_config(self._head.layout.mapper_class, [], {}), encoding="utf-8"
        )
        with ExitStack() as undo:
            self._registry = ExposureRegistry(aside / "in/registry.sqlite3", self._head.layout)
            undo.callback(self._registry.abandon)
            self._stream = (aside / "manifest.json").open("x", encoding="utf-8", buffering=1 << 18)
            undo.callback(self._stream.close)
            self._manifest = ManifestWriter(self._stream, self._head.as_dict(1))
            self._manifest.open("inputs")
            self._links = LinkMaker(str(aside))
            undo.pop_all()

    def add(self, array: str, entry: Entry) -> None:
        """Stage what an entry of ``inputs``, ``calibs`` or ``files`` names, and note it."""
        path = entry["path"]
        self._claim(path, entry["source"])
        self._counts[array] += 1
        if array == "calibs":
            self._calibs.append(entry)
        if self._aside is not None:
            self._manifest.add(array, entry)
        self._stage(entry, path)
        self._tell()

    def add_refcat(self, entry: Entry) -> None:
        """Stage the files of an entry of ``refcats``, and note it."""
        for member in entry["members"]:
            self._claim(member["path"], member["source"])
            self._counts["refcats"] += 1
            self._stage(member, member["path"])
            self._tell()
        self._refcats.append(entry)

    def _claim(self, path: str, source: object) -> None:
        if not path.startswith("in/") or not is_safe_path(path):
            safe_path(path)
            raise UnsafePathError(f"path {path!r} does not lie below in/")
        if path in self._paths:
            if path in _OWN_FILES:
                raise _not_yours(str(source), path)
            raise AmbiguousError(f"two files want to be {path}; the second is {source}")
        self._paths.add(path)

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(len(self._paths) - len(_OWN_FILES))

    def has(self, path: str) -> bool:
        """Whether something is staged at `path` already."""
        return path in self._paths

    def add_exposure(self, row: Sequence[object]) -> None:
        """Note one exposure, values in the order of the layout's columns."""
        self._exposures += 1
        if self._aside is not None:
            self._registry.add(row)

    def _stage(self, entry: Entry, path: str) -> None:
        source = entry["source"]
        if "\0" in source:
            raise UnsafePathError(f"source {source!r} holds a NUL character")
        if entry.get("offset") is not None:
            self._stage_member(entry, path)
            return
        local, mode = is_local(source), self._head.stage
        if mode == "auto":
            mode = "symlink" if local else "copy"
        if not local and mode != "copy":
            raise UsageError(f"{source} is not on this machine, so it cannot be staged by {mode}: use auto or copy")
        self._staged[mode] = self._staged.get(mode, 0) + 1
        if mode in {"symlink", "relsymlink"} and self._aside is not None:
            self._link(local_path(source), entry.get("filesize"), path, relative=mode == "relsymlink")
            return
        problem = source_problem(local_path(source), entry.get("filesize")) if local else ""
        if problem:
            self._problem(problem)
        elif self._aside is not None:
            facts = (entry.get(name) for name in ("filesize", "md5sum", "sha256"))
            self._bring(StageRequest(source, f"{self._aside}/{path}", *facts), path, mode)

    def _stage_member(self, entry: Entry, path: str) -> None:
        """Copy a part of a tar, whatever the mode: nothing else can be done with it."""
        self._staged["copy"] = self._staged.get("copy", 0) + 1
        request = member_request(entry, f"{self._aside}/{path}")
        if self._aside is not None:
            self._bring(request, path, "copy")
        elif problem := self._pieces.problem(request):
            self._problem(problem)

    def _link(self, source: str, filesize: int | None, path: str, *, relative: bool) -> None:
        target = source
        if relative:
            folder = path[: path.rindex("/")]
            target = os.path.relpath(source, self._final / folder)
        assert self._links is not None
        if self._links_made == MANY_LINKS and isinstance(self._links, LinkMaker) and (os.cpu_count() or 1) > 1:
            from dbb.butler.linkprocess import LinkProcess  # a small job need not know of processes

            self._links.close()
            self._links = LinkProcess(str(self._aside))
        self._links_made += 1
        problem = self._links.link(source, filesize, target, path)
        if problem:
            self._problem(problem)

    def _bring(self, request: StageRequest, path: str, mode: str) -> None:
        try:
            os.makedirs(os.path.dirname(request.target), exist_ok=True)
            if mode == "hardlink":
                self._hardlink(local_path(request.source), request.target)
            else:
                self._copy(request)
        except (FileExistsError, NotADirectoryError) as error:
            problem = f"{request.source} cannot be {path}: a file and a folder would have one name there"
            raise ConflictError(problem) from error
        except OSError as error:
            self._problem(f"{request.source} cannot be {path}: {error.strerror}")

    def _problem(self, text: str) -> None:
        if text.startswith(CONFLICT):
            raise ConflictError(text.removeprefix(CONFLICT))
        self._problems.append(text)
        if len(self._problems) > MOST_PROBLEMS:
            self._check()

    def _check(self) -> None:
        if self._problems:
            more = "\n    and perhaps more" if len(self._problems) > MOST_PROBLEMS else ""
            listed = "\n    ".join(self._problems[:MOST_PROBLEMS])
            raise IntegrityError(
                f"not what is registered, or cannot be staged:\n    {listed}{more}\nNothing was written"
            )

    def _hardlink(self, source: str, target: str) -> None:
        try:
            os.link(os.path.realpath(source), target)
        except FileExistsError:
            raise
        except OSError as error:
            raise DbbError(f"{source} cannot be hard-linked ({error.strerror}): use --stage symlink or copy") from error

    def _copy(self, request: StageRequest) -> None:
        member = request if isinstance(request, MemberRequest) else None
        if is_local(request.source) or (member is not None and member.index is not None):
            try:
                self._copied += copy_checked(request) if member is None else self._pieces.copy(member)
            except FileExistsError:
                raise
            except (IntegrityError, OSError) as error:
                self._problem(str(error))
            return
        self._remote.append(request if member is None else self._pieces.part(member))
        if len(self._remote) == REMOTE_BATCH:
            self._fetch()

    def _fetch(self) -> None:
        if not self._remote:
            return
        from dbb.staging import stage_in  # plug-ins and fsspec, which local repositories must not pay for

        for request, outcome in zip(self._remote, stage_in(self._remote), strict=True):
            if outcome.error:
                source = request.source  # which a plug-in may have named already
                self._problem(outcome.error if outcome.error.startswith(source) else f"{source}: {outcome.error}")
            elif self._pieces.is_part(request):
                self._unwrap(request)
            else:
                self._copied += outcome.copied
        self._remote.clear()

    def _unwrap(self, part: StageRequest) -> None:
        try:
            self._copied += self._pieces.unwrap(part)
        except (IntegrityError, OSError) as error:
            self._problem(str(error))

    def finish(self) -> RepoReport:
        """Write what remains, and say what there is."""
        if self._aside is not None:
            self._fetch()
            self._pieces.close()
        self._finish_links()
        self._check()
        if self._aside is not None:
            self._finish(self._aside)
        return RepoReport(
            str(self._final),
            self._counts["inputs"],
            self._counts["calibs"],
            self._counts["files"],
            self._exposures,
            staged=self._staged,
            copied=self._copied,
            dry_run=self._aside is None,
            refcats=self._counts["refcats"],
        )

    def _finish_links(self) -> None:
        links, self._links = self._links, None
        if isinstance(links, LinkMaker):
            links.close()
        elif links is not None:
            for problem in links.finish():
                self._problem(problem)

    def _finish(self, aside: Path) -> None:
        for path in _STRANGE_FILES:
            if os.path.lexists(aside / path):  # as a folder; `add` has refused a file
                raise _not_yours("a folder of staged files", path)
        for array in ("calibs", "files"):
            if not self._counts[array]:
                self._manifest.open(array)
        self._manifest.open("refcats")
        for entry in self._refcats:
            self._manifest.add("refcats", entry)
        if os.path.exists(aside / _PARTS):
            os.rmdir(aside / _PARTS)
        self._manifest.open("exposures")
        for row in self._registry.rows():
            self._manifest.add("exposures", row)
        self._manifest.close()
        self._stream.close()
        self._registry.close()
        layout = self._head.layout
        write_calibrations(aside / "in" / layout.calib_root / "calibRegistry.sqlite3", layout, self._calibs)
        policy = output_policy(self._head.outputs)
        config = format_config(self._head.layout.mapper_class, ["../in"], policy)
        (aside / "out/repositoryCfg.yaml").write_text(config, encoding="utf-8")
        # the Butler of 2021 asks no parent's registry of calibrations; it does find files in a parent
        link = layout.calib_root if layout.calib_root != "." else "calibRegistry.sqlite3"
        os.symlink(f"../in/{link}", aside / "out" / link)

    def abandon(self) -> None:
        """Let go of open files after a failure."""
        self._pieces.close()
        if isinstance(self._links, LinkMaker):
            self._links.close()
        elif self._links is not None:
            self._links.kill()
        if self._aside is not None:
            self._stream.close()
            self._registry.abandon()


def _not_yours(source: str, path: str) -> ConflictError:
    reason = "SQLite or the Butler would read it" if path in _STRANGE_FILES else "dbb writes that file itself"
    return ConflictError(f"{source} cannot be {path}: {reason}; choose another name")


def _final_folder(root: Path) -> Path:
    """Return where the job will be, if it can be there."""
    if not root.name:
        raise UnsafePathError(f"job folder {str(root)!r} is there already: name a new folder, e.g. {root / 'JOB'}")
    final = Path(os.path.realpath(root.parent)) / root.name
    if set("[]*?") & set(str(final)):
        raise UnsafePathError(
            f"job folder {str(final)!r}: the Butler reads [ ] * ? in a path as a pattern; choose another"
        )
    nearest = next(folder for folder in final.parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise ConflictError(f"job folder {final}: {nearest} is no folder; choose another")
    return final


def output_policy(outputs: Sequence[Entry]) -> dict[str, dict[str, dict[str, object]]]:
    """Return the policy overrides that the manifest's ``outputs`` stand for."""
    policy: dict[str, dict[str, dict[str, object]]] = {}
    for entry in outputs:
        what = {key: entry[key] for key in ("template", "python", "persistable", "storage", "tables") if entry.get(key)}
        policy.setdefault(entry["section"], {})[entry["dataset"]] = what
    return policy


@contextmanager
def build_job(root: Path, head: Head, *, dry_run: bool, progress: Progress | None = None) -> Iterator[JobBuilder]:
    """Give a builder whose repository appears at `root` when the block ends well, and not at all otherwise.

    Raises
    ------
    ConflictError
        If `root` exists, or is below a file.
    UnsafePathError
        If `root` names no new folder or holds characters that the Butler globs.
    """
    final = _final_folder(root)
    if dry_run:
        if os.path.lexists(final):
            raise ConflictError(f"{final} exists: choose another folder or remove it first")
        yield JobBuilder(None, final, head, progress)
        return
    with new_folder(final) as aside:
        builder = JobBuilder(aside, final, head, progress)
        try:
            yield builder
        except BaseException:
            builder.abandon()
            raise
