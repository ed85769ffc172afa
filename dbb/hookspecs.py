"""Every hook of dbb: what a plug-in may give, when it is asked, and what it must not do.

A plug-in is a module named by an entry point in the group ``dbb``. Import nothing heavy at its top: ``dbb --help``
loads all plug-ins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from dbb.api import Registry
    from dbb.engine import Engine
    from dbb.filetypes import Filetype
    from dbb.jobs.jobfile import JobRepo
    from dbb.jobs.messages import MessagePattern
    from dbb.mapper import Mapper
    from dbb.pipeline.model import Pipeline
    from dbb.storage import SaveOutcome, SaveRequest, StageOutcome, StageRequest

hookspec = pluggy.HookspecMarker("dbb")
hookimpl = pluggy.HookimplMarker("dbb")


@hookspec
def dbb_mappers() -> Sequence[Mapper]:  # type: ignore[empty-body]  # a specification has no body
    """Return the cameras that this plug-in adds.

    Called when a mapper is first asked for by name. A `dbb.mapper.Mapper` reads its files only when used.
    """


@hookspec
def dbb_filetypes() -> Sequence[Path]:  # type: ignore[empty-body]  # a specification has no body
    """Return TOML files with filetypes that belong to no camera; see `dbb.filetypes` for their form."""


@hookspec(firstresult=True)
def dbb_translate_header(header: Mapping[str, object], filetype: str) -> dict[str, object] | None:
    """Turn the header of one raw into its metadata, or return None to pass.

    Plug-ins are asked in turn and the first answer wins. Raise `dbb.errors.HeaderError` when the header is yours
    but broken: None would hand it to the next plug-in and hide the fault.
    """


@hookspec(firstresult=True)
def dbb_gather_metadata(uri: str, filetype: Filetype) -> dict[str, object] | None:
    """Read the file at `uri` and return what it says of its columns, or None to pass.

    Keys are column names of the filetype, and ``corners`` for a `dbb.sky.Corners` where the file says where it
    looked. Only the columns whose source is ``header:`` or ``mapper`` are asked for. Raise
    `dbb.errors.HeaderError` when the file is of your kind but lacks what it must have.
    """


@hookspec(firstresult=True)
def dbb_stage_in(requests: Sequence[StageRequest]) -> Sequence[StageOutcome] | None:
    """Copy remote files to this machine, or return None to pass.

    Each request names a source URL and a local path whose folder exists. Return one outcome per request, in
    order; a failure is an outcome with its reason, never an exception, so that one missing file does not hide the
    others. Check size and checksums while the bytes pass. Where a request has an offset, only the ``filesize`` bytes
    from there are wanted. Return None unless every source is of a kind you know.
    """


@hookspec(firstresult=True)
def dbb_stage_out(requests: Sequence[SaveRequest]) -> Sequence[SaveOutcome] | None:
    """Save files of this machine in an archive, or return None to pass.

    All requests are for one archive. A file appears in its place whole or not at all, and is on disk before it does.
    One with the same checksums that lies there already is no error; one with others is refused, unless its MD5 sum is
    among the request's ``replaces``. Return one outcome per request, in order; a failure is an outcome with its reason,
    never an exception. Return None unless the archive is of a kind you know.
    """


@hookspec
def dbb_prepare_step(step: Mapping[str, object], repo: JobRepo) -> None:
    """Make the repository of a job ready for a step, an entry of the job file.

    Called before each step of a job that has a repository, one step at a time; once before the first, when the
    repository must be made. What is there already must be left as it is. Raise `dbb.errors.DbbError` if it cannot be
    made: the step has failed then.
    """


@hookspec
def dbb_message_patterns() -> Sequence[MessagePattern]:  # type: ignore[empty-body]  # a specification has no body
    """Return patterns that find messages in the output of programs.

    Called when a run is planned: a job carries its patterns. Use numbers that no other plug-in uses.
    """


@hookspec(firstresult=True)
def dbb_read_pipeline(path: Path, settings: Mapping[str, str]) -> Pipeline | None:
    """Read the submit file at `path`, or return None if it is of no language that you know.

    `settings` are the operator's values from outside (``--set key=value``): they win over the file's, and are known
    while it is read. Raise `dbb.errors.PipelineError` with file and line for a file that is yours but wrong.
    """


@hookspec(firstresult=True)
def dbb_query_inputs(
    name: str, args: Mapping[str, str], registry: Registry | None
) -> Sequence[Mapping[str, object]] | None:
    """Answer the query called `name`, or return None to pass.

    Asked for a section with ``query = name``; `args` are the section's keys with their variables replaced, and as
    ``folder`` that of the submit file. Each row is a file: ``filename``, ``compression`` if it is not in the name, and
    whatever else is known of it, with texts, numbers or None; or several files by nickname, each such a mapping.
    `registry` is None where there is none. Raise a `dbb.errors.DbbError` for a query that is yours but wrong; the
    caller adds which section asked.
    """


@hookspec(firstresult=True)
def dbb_group_inputs(
    name: str, rows: Sequence[Mapping[str, Mapping[str, str]]], keys: Sequence[str]
) -> Mapping[str, Sequence[int]] | None:
    """Group data lines for a section with ``group_by = name``, or return None to pass.

    `rows` are the lines, the files on each by nickname; `keys` are those of ``divide_by``. Return for each group its
    name and the indexes of its lines, in order; a line may be in several groups. Each group becomes a quantum, which
    knows its name as ``${group}``. Raise a `dbb.errors.DbbError` if lines or keys are not what it takes.
    """


@hookspec
def dbb_engines() -> Sequence[Engine]:  # type: ignore[empty-body]  # a specification has no body
    """Return the workflow engines that this plug-in adds; see `dbb.engine` for what one must do."""


@hookspec
def dbb_commands() -> Sequence[click.Command]:  # type: ignore[empty-body]  # a specification has no body
    """Return commands to add to ``dbb``; a name that dbb itself has is refused and reported."""
