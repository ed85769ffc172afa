"""Registry against archives: what is lost, what nobody registered, what has another size or other bytes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from dbb.errors import NotFoundError, UsageError
from dbb.registry import Database
from dbb.registry.archives import archives
from dbb.storage import Digest
from dbb.verify.copies import Copy, copies_after, copies_elsewhere, registered
from dbb.verify.places import LOST, UNREADABLE, Folder, Places, Seen, open_places
from dbb.verify.repair import FACTS, Fill, all_agree, apply, proof_elsewhere, what_differs
from dbb.verify.state import Findings, Problem, Progress, progress_file

BATCH = 1_000
_PIECE = 1 << 30
_HASH = 8
_REPOSITORY = frozenset({"repositoryCfg.yaml", "_mapper", "registry.sqlite3", "calibRegistry.sqlite3"})
"""What makes a folder a Gen2 repository: nobody registers it, and where one was imported in place it stays."""
_LEFT_OVER = re.compile(r"(?:.*/)?\.[^/]+\.dbb-[0-9a-f]{8}(?:/.*)?", re.DOTALL)
Report = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Question:
    """What to verify.

    Parameters
    ----------
    archives
        Names; all archives if empty.
    filetype
        Only files of this type; what nobody registered has none and is not looked for.
    checksums
        Read the files and compare md5 and sha256, where registered; sizes are always compared.
    sample
        The part of the files to look at, above 0, at most 1.
    seed
        Which sample: the same seed takes the same paths.
    repair
        Fill sizes and checksums of intact files that the registry lacks, and forget lost copies of files of which
        another archive has an intact copy. Nothing else; no archive is changed.
    dry_run
        Say what repair would do.
    """

    archives: tuple[str, ...] = ()
    filetype: str | None = None
    checksums: bool = False
    sample: float = 1.0
    seed: int = 0
    repair: bool = False
    dry_run: bool = False

    def takes(self, archive: str, relpath: str) -> bool:
        """Whether the sample has this path."""
        if self.sample >= 1:
            return True
        text = f"{self.seed}:{archive}:{relpath}".encode(errors="surrogateescape")
        place = int.from_bytes(hashlib.blake2b(text, digest_size=_HASH).digest())
        return place < self.sample * (1 << 8 * _HASH)


def verify(
    db: Database,
    question: Question,
    *,
    state: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    progress: Report | None = None,
) -> Findings:
    """Compare the registry with its archives.

    Parameters
    ----------
    db
        The registry; only read, unless the question says repair.
    question
        What to compare.
    state
        A file to which each step forward is appended: the same call goes on from there if it was stopped, and answers
        at once if it was complete.
    jobs
        Files looked at or read at the same time; by default as many as there are processors.
    progress
        Called with the number of registered files looked at.

    Returns
    -------
    Findings
        Problems and counts, those of `state` included.

    Raises
    ------
    NotFoundError
        If an archive or the filetype is unknown.
    UsageError
        If the sample is none, or `state` belongs to another question.

    Notes
    -----
    Statements grow with batches of 1 000 files and there is no long transaction; memory holds a batch and the problems.
    A file is stated or listed once more when the archive is searched for what nobody registered.
    """
    if not 0 < question.sample <= 1:
        raise UsageError(f"a sample of {question.sample:g}: give a part above 0, at most 1, e.g. 0.01")
    with db.read() as conn:
        roots = archives(conn)
    for name in question.archives:
        if name not in roots:
            raise NotFoundError("archive", name, roots)
    if question.filetype is not None:
        question = replace(question, filetype=db.filetype(question.filetype).name)
    question = replace(question, archives=question.archives or tuple(roots))
    asked = {name: getattr(question, name) for name in question.__slots__}
    asked["archives"] = {name: roots[name] for name in question.archives}
    with (
        progress_file(Path(state) if state is not None else None, asked) as reached,
        ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
    ):
        work = _Verification(db, question, roots, pool, reached, progress)
        for name in question.archives:
            work.archive(name)
        return reached.findings


@dataclass(frozen=True, slots=True)
class _Verification:
    db: Database
    question: Question
    roots: dict[str, str]
    pool: Executor
    reached: Progress
    report: Report | None
    opened: dict[str, Places] = field(default_factory=dict)

    def places(self, archive: str) -> Places:
        if archive not in self.opened:
            self.opened[archive] = open_places(self.roots[archive])
        return self.opened[archive]

    def archive(self, name: str) -> None:
        """Do what is left to do for one archive."""
        if self.reached.is_done(name, "files") and self.reached.is_done(name, "dark"):
            return
        with self.db.read() as conn:
            in_use = bool(copies_after(conn, name, None, None, 1))
        try:
            why = self.places(name).unreachable(in_use)
        except (ImportError, ValueError, OSError) as error:  # fsspec does not know how to reach it
            why = str(error)
        if why:
            # not noted as done: when the verification goes on it may be there
            self.reached.note(Problem(name, "", "unreachable", self.roots[name], why))
            return
        if not self.reached.is_done(name, "files"):
            self._files(name)
        if not self.reached.is_done(name, "dark"):
            self._dark(name)

    def _files(self, archive: str) -> None:
        after = self.reached.reached(archive, "files")
        while True:
            with self.db.read() as conn:
                copies = copies_after(conn, archive, self.question.filetype, after, BATCH)
            for piece in self._pieces(copies):
                after = [piece[-1].desfile_id, piece[-1].path]
                self.reached.add(archive, "files", after, self._compare(archive, piece))
                if self.report is not None:
                    self.report(self.reached.checked)
            if len(copies) < BATCH:
                break
        self.reached.add(archive, "files", None, Findings())

    def _pieces(self, copies: Sequence[Copy]) -> Iterator[list[Copy]]:
        """Cut a batch so that what a killed verification reads again is not much."""
        piece: list[Copy] = []
        size = 0
        for copy in copies:
            piece.append(copy)
            size += copy.filesize or 0
            if self.question.checksums and size > _PIECE:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece

    def _compare(self, archive: str, copies: Sequence[Copy]) -> Findings:
        copies = [copy for copy in copies if self.question.takes(archive, copy.relpath)]
        seen = self.places(archive).look([copy.on_disk for copy in copies], self.pool)
        digests = self._digests(copies, seen)
        problems: list[tuple[Copy, Problem]] = []
        fills = []
        for copy, there, digest in zip(copies, seen, digests, strict=True):
            problem = _problem(copy, there, digest)
            if problem is not None:
                problems.append((copy, problem))
            elif fill := _fill(copy, there, digest):
                fills.append(fill)
        done, filled = self._repair(problems, fills) if self.question.repair else ([one for _, one in problems], 0)
        return Findings(
            tuple(done),
            checked=len(copies),
            read=sum(one.filesize for one in digests if isinstance(one, Digest)),
            unfilled=len(fills),
            filled=filled,
            unread=sum(self.question.checksums and not copy.is_readable for copy in copies),
        )

    def _digests(self, copies: Sequence[Copy], seen: Sequence[Seen]) -> list[Digest | str | None]:
        """Return what the files' bytes give, an error's text, or None of those that are not read."""

        def digest(pair: tuple[Copy, Seen]) -> Digest | str | None:
            copy, there = pair
            # of a size that differs the checksum does, too
            if there.problem or not copy.is_readable or (copy.tar is None and _wrong_size(copy, there)):
                return None
            return self._read(copy)

        if not self.question.checksums:
            return [None] * len(copies)
        return list(self.pool.map(digest, zip(copies, seen, strict=True)))

    def _read(self, copy: Copy) -> Digest | str:
        try:
            return self.places(copy.archive).digest(copy.on_disk, copy.part)
        except Exception as error:  # noqa: BLE001  # each file system has errors of its own
            return str(error) or type(error).__name__

    def _repair(self, problems: Sequence[tuple[Copy, Problem]], fills: Sequence[Fill]) -> tuple[list[Problem], int]:
        """Do, or for a dry run only say, what may be done about one piece."""
        lost = [copy for copy, problem in problems if problem.problem == LOST]
        with self.db.read() as conn:
            elsewhere = copies_elsewhere(conn, [*lost, *(fill.copy for fill in fills)])
        gone, told = [], []
        for copy, problem in problems:
            doable, why = self._advice(copy, problem, elsewhere.get(copy.desfile_id, []))
            if doable:
                gone.append(copy)
            repaired = doable and not self.question.dry_run
            told.append(replace(problem, repair=why, repaired=repaired))
        sure = [fill for fill in fills if all_agree(fill, elsewhere.get(fill.copy.desfile_id, []), self._elsewhere)]
        if self.question.dry_run:
            return told, len(sure)
        apply(self.db, gone, sure)
        return told, len(sure)

    def _advice(self, copy: Copy, problem: Problem, elsewhere: Sequence[Copy]) -> tuple[bool, str]:
        if problem.problem != LOST:
            return False, "none: the registry is not bent to fit the file"
        if copy.tar is not None:
            return False, f"none: {copy.tar} must come back"
        proved, why = proof_elsewhere(elsewhere, self._elsewhere)
        return proved, f"{'forget this copy' if proved else 'none'}: {why}"

    def _elsewhere(self, copy: Copy, size_only: bool) -> Digest | None:
        if size_only and copy.part is None:
            size = self.places(copy.archive).look([copy.relpath], self.pool)[0].filesize
            return None if size is None else Digest(size, "", "")
        found = self._read(copy) if copy.is_readable else None
        return found if isinstance(found, Digest) else None

    def _dark(self, archive: str) -> None:
        places = self.places(archive)
        if self.question.filetype is None and places.can_list:
            pending: list[Folder] = []
            for folder in places.walk(self.reached.reached(archive, "dark"), self._others_in(archive)):
                pending.append(folder)
                if sum(len(one.names) for one in pending) >= BATCH or len(pending) >= BATCH:
                    self.reached.add(archive, "dark", folder.path, self._unregistered(archive, pending))
                    pending = []
            self.reached.add(archive, "dark", None, self._unregistered(archive, pending))
        else:
            self.reached.add(archive, "dark", None, Findings(unlisted=int(not places.can_list)))

    def _others_in(self, archive: str) -> set[str]:
        """Return the folders of an archive that are archives of their own."""
        own = self.roots[archive] + "/"
        return {root.removeprefix(own) for root in self.roots.values() if root.startswith(own)}

    def _others_around(self, archive: str) -> dict[str, str]:
        """Return the archives that an archive is a folder of, each with what leads from its root to this one's."""
        own = self.roots[archive] + "/"
        return {
            name: own.removeprefix(f"{root}/")
            for name, root in self.roots.items()
            if own != f"{root}/" and own.startswith(f"{root}/")
        }

    def _unregistered(self, archive: str, folders: Sequence[Folder]) -> Findings:
        problems = [
            Problem(archive, _shown(one.path), UNREADABLE, "a folder", one.error) for one in folders if one.error
        ]
        there = [
            f"{one.path}/{name}" if one.path else name
            for one in folders
            for name in one.names
            if name not in _REPOSITORY
        ]
        there = [relpath for relpath in there if self.question.takes(archive, relpath)]
        known: set[str] = set()
        for start in range(0, len(there), BATCH):
            # a name that is no text can neither be registered nor asked for
            asked = [relpath for relpath in there[start : start + BATCH] if _shown(relpath) == relpath]
            with self.db.read() as conn:
                known |= registered(conn, archive, asked)
                for other, below in self._others_around(archive).items():
                    theirs = registered(conn, other, [below + relpath for relpath in asked])
                    known |= {relpath.removeprefix(below) for relpath in theirs}
        problems += [self._dark_problem(archive, relpath) for relpath in there if relpath not in known]
        return Findings(tuple(problems))

    def _dark_problem(self, archive: str, relpath: str) -> Problem:
        left = _LEFT_OVER.fullmatch(relpath) is not None
        found = "what a transfer left that was killed, or one at work" if left else "a file"
        advice = "remove it when no transfer is at work" if left else "dbb ingest-files, if it belongs here"
        return Problem(archive, _shown(relpath), "dark", "", found, f"none: {advice}" if self.question.repair else "")


def _shown(relpath: str) -> str:
    return relpath.encode(errors="backslashreplace").decode()


def _wrong_size(copy: Copy, there: Seen) -> bool:
    return None not in (copy.filesize, there.filesize) and copy.filesize != there.filesize


def _problem(copy: Copy, there: Seen, digest: Digest | str | None) -> Problem | None:
    if there.problem:
        found = f"its tar {copy.tar} is {there.problem}" if copy.tar else there.found
        return Problem(copy.archive, copy.relpath, there.problem, _known(copy), found)
    if copy.part is not None:
        there = Seen(copy.part.size)
    if _wrong_size(copy, there):
        return Problem(copy.archive, copy.relpath, "wrong size", str(copy.filesize), str(there.filesize))
    if isinstance(digest, str):
        return Problem(copy.archive, copy.relpath, UNREADABLE, _known(copy), digest)
    wrong = what_differs(copy, digest) if digest is not None else None
    if wrong is None:
        return None
    name, expected, found = wrong
    if name == FACTS[0]:
        return Problem(copy.archive, copy.relpath, "wrong size", expected, found)
    return Problem(copy.archive, copy.relpath, "wrong checksum", f"{name} {expected}", f"{name} {found}")


def _known(copy: Copy) -> str:
    return "a file" if copy.filesize is None else f"{copy.filesize} bytes"


def _fill(copy: Copy, there: Seen, digest: Digest | str | None) -> Fill | None:
    if isinstance(digest, Digest):
        new = {name: getattr(digest, name) for name in FACTS if getattr(copy, name) is None}
    else:
        size = copy.part.size if copy.part is not None else there.filesize
        new = {"filesize": size} if copy.filesize is None and size is not None else {}
    return Fill(copy, **new) if new else None
