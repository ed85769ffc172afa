"""The way back: what a job wrote is saved to an archive under the run's own names, and registered with provenance."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb.butler.outputs import Job, Output, Stray, find_outputs, read_job
from dbb.errors import ConflictError, DbbError, IntegrityError, NotFoundError, UsageError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.ingest.carry import Errand, Outcome, carry, md5_of
from dbb.ingest.table import register_batch, write_files
from dbb.ingest.tables import BATCH
from dbb.ingest.transfer import Found, bring, check_places
from dbb.ingest.withdraw import check_brought, withdraw
from dbb.patterns import is_safe_path, safe_path
from dbb.registry import Database
from dbb.registry.archives import archive_root, archives
from dbb.registry.files import Refusal, Registered
from dbb.registry.newfiles import NewFile, NewFiles
from dbb.registry.provenance import add_used, ensure_task, files_at
from dbb.registry.relpaths import split_relpath
from dbb.registry.runs import Run, ensure_run, full_run
from dbb.storage import Digest, is_local, local_path, scratch_folder

TASK = "harvest"
"""Name of the task that stands for a job whose outputs were harvested."""
SAVES = ("copy", "hardlink")
"""How outputs may get into an archive."""
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Harvested:
    """What a harvest did.

    Parameters
    ----------
    files
        Files added, known and refused; those refused are named by their path below ``out/``.
    used
        How many of the job's inputs the registry knows, and so are noted as used.
    unknown_inputs
        How many it does not know.
    """

    files: Registered
    used: int = 0
    unknown_inputs: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """An output that can be harvested: where it goes, and what is known of it before it is opened."""

    output: Output
    filetype: Filetype
    relpath: str
    known: Mapping[str, object]


def harvest_repo(
    db: Database,
    job: str | os.PathLike[str],
    *,
    run: str,
    archive: str | None = None,
    transfer: str = "copy",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Harvested:
    """Save and register what a job wrote below ``out/``.

    Parameters
    ----------
    db
        The registry.
    job
        The folder that `dbb.materialize_repo` made.
    run
        The run that the outputs belong to; archive names are made from it, whatever run their names below ``out/``
        carry.
    archive
        Where to save; may be left out where there is one archive only.
    transfer
        ``copy``, or ``hardlink``: the archive's file is then the very file below ``out/``, and who writes into one
        in place changes both. The Butler does not, it writes anew and renames.
    dry_run
        Look into everything; copy and register nothing.
    progress
        Called with the number of files looked into.

    Returns
    -------
    Harvested
        A name that no template or several give, or a file that cannot be read, is refused and the rest go in. So is a
        file of which a run has only one (a configuration, a schema) where another job of the run saved other bytes.
        If an output with a data id contradicts what the archive or the registry has, nothing was changed.

    Raises
    ------
    NotFoundError
        If the job, its camera, or the archive is unknown.
    UsageError
        If the manifest or the run cannot be used, several archives could be meant, or there is no such transfer.
    ConflictError
        If other bytes appear in the archive meanwhile; nothing was changed.
    DbbError
        If a copy fails; what was copied is removed again, unless another process has registered it by now. In an
        archive that is not on this machine it stays, and is replaced when the harvest is repeated.

    Notes
    -----
    Safe to repeat, also after it was killed. Each output is read once, for its MD5 sum and the copy; `dbb verify` adds
    SHA-256 sums. One transaction; statements grow with batches of 5 000 files. For a remote archive files are read
    twice.
    """
    if transfer not in SAVES:
        raise UsageError(f"transfer {transfer!r} is none of {', '.join(SAVES)}")
    made_by = full_run(run)
    work = read_job(Path(local_path(os.fspath(job))).absolute())
    with db.read() as conn:
        name = _archive(conn, archive)
        root = archive_root(conn, name)
    check_places([], root, transfer)
    plans, refused = _plan(db, work, made_by)
    with db.read() as conn:
        registered = {relpath for _, relpath in files_at(conn, [(name, plan.relpath) for plan in plans])}
    harvester = _Harvester(db, work, made_by, (name, root), transfer=transfer, dry_run=dry_run, progress=progress)
    done = harvester.harvest(plans, registered)
    return replace(done, files=replace(done.files, refused=tuple(refused) + done.files.refused))


def _archive(conn: sa.Connection, asked: str | None) -> str:
    known = list(archives(conn))
    if asked is None and len(known) != 1:
        raise UsageError(f"say which archive the outputs go to: {', '.join(known) or 'there is none yet'}")
    return asked or known[0]


def _plan(db: Database, job: Job, run: Run) -> tuple[list[_Plan], list[Refusal]]:
    plans: dict[str, _Plan] = {}
    refused = []
    for found in find_outputs(job):
        try:
            if isinstance(found, Stray):
                raise IntegrityError(found.why)
            plan = _planned(db, job, found, run)
            # compressed or not, it is the same thing; X.fits comes before X.fits.gz, and the Butler looks for it first
            other = plans.setdefault(plan.relpath.removesuffix(plan.output.reading.compression), plan)
            if other is not plan:
                raise ConflictError(f"it would be {plan.relpath} in the archive, where {other.output.relpath} goes")
        except (DbbError, ValueError) as error:
            refused.append(Refusal(_printable(found.relpath), _printable(str(error))))
    return list(plans.values()), refused


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _planned(db: Database, job: Job, output: Output, run: Run) -> _Plan:
    dataset = output.reading.dataset
    if dataset.filetype not in db.filetypes():
        raise NotFoundError("filetype", dataset.filetype, hint="The registry lacks it: see dbb register-filetypes")
    filetype = db.filetypes()[dataset.filetype]
    if filetype.name_pattern is None:
        raise UsageError(f"filetype {filetype.name} says no name in the archive")
    known = _converted(filetype, job.metadata(output.reading, filetype))
    known |= {name: value for name, value in job.camera.derive(known).items() if name in filetype.types}
    values = {**output.reading.data_id, **known, **run.values}
    patterns = [pattern for pattern in (filetype.directory, filetype.name_pattern) if pattern is not None]
    relpath = "/".join(part for pattern in patterns if (part := pattern.expand(values))) + output.reading.compression
    return _Plan(output, filetype, safe_path(str(CONVERTERS["str"](relpath)), "path in the archive"), known)


def _converted(filetype: Filetype, values: Mapping[str, object]) -> dict[str, object]:
    types, found = filetype.types, {}
    for name, value in values.items():
        if name in types and value is not None:
            try:
                found[name] = CONVERTERS[types[name]](value)
            except (ValueError, TypeError, OverflowError) as error:
                raise IntegrityError(f"column {name}: {error}, not {str(value)[:60]!r}") from error
    return found


@dataclass(frozen=True, slots=True)
class _Ready:
    """An output that was looked into; `values` are its metadata in the order of the filetype's columns."""

    plan: _Plan
    outcome: Outcome
    values: tuple[object, ...]

    def file(self, run_id: int, task_id: int | None) -> NewFile:
        """Return what is registered."""
        facts, kind = self.outcome, self.plan.filetype.name
        place = split_relpath(self.plan.relpath)
        corners = None if facts.corners is None else astuple(facts.corners)
        return NewFile(*place, kind, facts.filesize, facts.md5sum, None, run_id, self.values, corners, task_id)


class _Harvester:
    """Carries out what was planned for one job."""

    def __init__(
        self,
        db: Database,
        job: Job,
        run: Run,
        place: tuple[str, str],
        *,
        transfer: str,
        dry_run: bool,
        progress: Progress | None,
    ) -> None:
        self._db, self._job, self._run, (self._archive, self._root) = db, job, run, place
        self._transfer, self._dry_run, self._progress = transfer, dry_run, progress
        self._refused: list[Refusal] = []
        self._looked = 0

    def harvest(self, plans: Sequence[_Plan], registered: set[str]) -> Harvested:
        """Save what the archive lacks and register all; change nothing if what is there contradicts."""
        lying = {plan.relpath for plan in plans if is_local(self._root) and os.path.lexists(self._target(plan))}
        seen = registered | lying
        there = [plan for plan in plans if plan.relpath in seen]
        known = self._look(there, save=False)
        wrong = self._contradictions(known, registered)
        outputs = {plan.relpath: plan.output.relpath for plan in there}
        refusals = tuple(Refusal(outputs[relpath], why) for relpath, why in wrong.items())
        if any(one.plan.relpath in wrong and one.plan.filetype.keys for one in known):
            return Harvested(Registered(0, 0, refusals, conflict=True))
        # of a configuration or schema a run has one, which another job may have saved
        self._refused += refusals
        known = [one for one in known if one.plan.relpath not in wrong]
        absent = [plan for plan in plans if plan.relpath not in seen]
        if is_local(self._root):  # a registered file that was lost comes back
            absent += [one.plan for one in known if one.plan.relpath not in lying]
            known = [one for one in known if one.plan.relpath in lying]
        return self._save(known, absent)

    def _target(self, plan: _Plan) -> str:
        return f"{local_path(self._root)}/{plan.relpath}"

    def _look(self, plans: Sequence[_Plan], *, save: bool) -> list[_Ready]:
        """Look into outputs, and copy or link them; those that are no good are noted as refused."""
        if not plans:
            return []
        relpaths = {one.output.source: one.relpath for one in plans}

        def undo(some: Sequence[Errand]) -> None:
            withdraw(self._db, self._archive, self._root, [relpaths[one.source] for one in some])

        targets = [self._target(one) if save else None for one in plans]
        errands = [
            Errand(one.output.source, one.filetype, target, self._transfer)
            for one, target in zip(plans, targets, strict=True)
        ]
        # without copies nothing is made aside, and the archive need not be on this machine
        aside = scratch_folder(Path(local_path(self._root)) / "harvest") if save else contextlib.nullcontext()
        with aside as scratch:
            outcomes = carry(errands, scratch, self._report, undo)
        self._looked += len(plans)
        ready, bad = [], []
        for plan, errand, outcome in zip(plans, errands, outcomes, strict=True):
            try:
                if outcome.why:
                    raise IntegrityError(outcome.why)
                ready.append(_Ready(plan, outcome, _values(plan, outcome.metadata or {}, self._job)))
            except IntegrityError as error:
                self._refused.append(Refusal(plan.output.relpath, str(error)))
                bad += [errand] if outcome.made else []
        undo(bad)
        return ready

    def _report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(self._looked + done)

    def _contradictions(self, known: Sequence[_Ready], registered: set[str]) -> dict[str, str]:
        """Return why files that the archive or the registry has already are not the job's, by path in the archive."""
        wrong: dict[str, str] = {}
        for one in known:
            facts, target = one.outcome, self._target(one.plan)
            if one.plan.relpath in registered:
                continue
            try:
                if (facts.filesize, facts.md5sum) != md5_of(target):
                    wrong[one.plan.relpath] = f"{target} lies in the archive with other bytes"
            except OSError as error:  # a folder, a link to nothing, a file that others must not read
                wrong[one.plan.relpath] = f"{target} is in the way in the archive: {error.strerror}"
        sure = [one for one in known if one.plan.relpath in registered]
        if sure:
            wrong |= {one.relpath: one.why for one in self._register(sure, check_only=True).files.refused}
        return wrong

    def _save(self, known: Sequence[_Ready], absent: Sequence[_Plan]) -> Harvested:
        local = is_local(self._root)
        fresh = self._look(absent, save=local and not self._dry_run)
        made = [one.plan.relpath for one in fresh if one.outcome.made]
        if not local and not self._dry_run:
            bring([_found(one) for one in fresh], self._root, "copy", lambda _: None)
        ready = [*known, *fresh]
        try:
            done = self._register(ready, check_only=self._dry_run) if ready else Harvested(Registered())
        except BaseException:
            withdraw(self._db, self._archive, self._root, made)
            raise
        if done.files.conflict:  # another process registered something meanwhile
            withdraw(self._db, self._archive, self._root, made)
        return replace(done, files=replace(done.files, refused=(*self._refused, *done.files.refused)))

    def _register(self, ready: Sequence[_Ready], *, check_only: bool) -> Harvested:
        used = unknown = 0

        def work(conn: sa.Connection) -> Registered:
            nonlocal used, unknown
            if not check_only:
                check_brought(self._root, (one.plan.relpath for one in ready))
            run_id = ensure_run(conn, self._run)
            task_id = ensure_task(conn, TASK, f"{self._run} {self._job.digest}")
            total = Registered()
            for start in range(0, len(ready), BATCH):
                files = [one.file(run_id, task_id) for one in ready[start : start + BATCH]]
                total += register_batch(self._db, conn, self._archive, NewFiles.of(files))
            inputs = _registered_inputs(conn, self._job)
            add_used(conn, task_id, inputs)
            used, unknown = len(inputs), len(self._job.sources) - len(inputs)
            return total

        done = write_files(self._db, work, dry_run=check_only)
        return Harvested(done, used, unknown)


def _values(plan: _Plan, metadata: Mapping[str, Any], job: Job) -> tuple[object, ...]:
    """Return the metadata of an output in the order of its columns; what its path and the job say wins."""
    filetype = plan.filetype
    found = {**_converted(filetype, metadata), **plan.known}
    found |= {name: value for name, value in job.camera.derive(found).items() if found.get(name) is None}
    missing = [column.name for column in filetype.columns if column.required and found.get(column.name) is None]
    if missing:
        raise IntegrityError(f"nothing says its {', '.join(missing)}: neither its name, its header nor the job")
    return tuple(found.get(column.name) for column in filetype.columns)


def _found(ready: _Ready) -> Found:
    digest = Digest(ready.outcome.filesize, ready.outcome.md5sum, "")
    return Found(ready.plan.output.source, ready.plan.relpath, {}, digest)


def _registered_inputs(conn: sa.Connection, job: Job) -> set[int]:
    """Return the files of the registry that the job was given."""
    roots = {local_path(root) + "/": name for name, root in archives(conn).items()}
    longest = sorted(roots, key=len, reverse=True)
    places = []
    for source in map(local_path, job.sources):
        root = next((root for root in longest if source.startswith(root)), None)
        if root is not None and is_safe_path(source.removeprefix(root)):
            places.append((roots[root], source.removeprefix(root)))
    return set(files_at(conn, places).values())
