"""Files that steps read: brought into the work folder, each once, and given their fixed names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from dbb.errors import DbbError, IntegrityError, UnsafePathError
from dbb.jobs.context import Context
from dbb.jobs.jobfile import Input
from dbb.patterns import safe_path
from dbb.staging import stage_in
from dbb.storage import StageRequest, copy_checked, is_local, local_path


def stage_inputs(context: Context, inputs: Iterable[Input], written: Collection[str]) -> None:
    """Bring inputs whose source is known into the work folder; why one cannot be brought is noted in the context.

    Files of local archives are linked, so that a thousand cost little; those that a step writes to (`written`) are
    copied, and what lies elsewhere is downloaded, with checksums.
    """
    wanted = {one.fullname: one for one in inputs if one.source}
    remote: dict[str, list[StageRequest]] = {}
    for fullname, one in wanted.items():
        target = context.work / fullname
        if os.path.lexists(target):
            continue
        try:
            request = _request(context, one, target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if is_local(request.source):
                _take_local(request, copy=fullname in written)
            else:
                remote.setdefault(request.source.partition("://")[0], []).append(request)
        except (DbbError, OSError) as error:
            context.missing[fullname] = str(error)
    for requests in remote.values():
        _download(context, requests)
    for one in wanted.values():
        if one.untar and one.fullname not in context.missing:
            unpack(context, one)


def _request(context: Context, one: Input, target: Path) -> StageRequest:
    source = one.source
    if source["archive"] not in context.archives:
        raise DbbError(f"it lies in archive {source['archive']!r}, of which the job does not know where it is")
    safe_path(source["relpath"], "path in the archive")
    size = source.get("filesize")
    url = f"{context.archives[source['archive']]}/{source['relpath']}"
    return StageRequest(url, str(target), None if size is None else int(size), source.get("md5sum"))


def _take_local(request: StageRequest, *, copy: bool) -> None:
    path = os.path.abspath(local_path(request.source))  # noqa: PTH100  # a text, not a path
    if copy:
        copy_checked(request)
        return
    try:
        size = os.stat(path).st_size  # noqa: PTH116  # the same
    except OSError as error:
        raise IntegrityError(f"{path}: {error.strerror}") from error
    if request.filesize is not None and size != request.filesize:
        raise IntegrityError(f"{path}: filesize is {size}, registered as {request.filesize}")
    Path(request.target).symlink_to(path)


def _download(context: Context, requests: Sequence[StageRequest]) -> None:
    try:
        errors = [outcome.error for outcome in stage_in(requests)]
    except DbbError as error:
        errors = [str(error)] * len(requests)
    prefix = f"{context.work}/"
    context.missing |= {
        request.target.removeprefix(prefix): why for request, why in zip(requests, errors, strict=True) if why
    }


def unpack(context: Context, one: Input) -> None:
    """Unpack a tar beside itself; members that would leave the folder are refused."""
    import tarfile  # few jobs have tars

    path = context.work / one.fullname
    if not hasattr(tarfile, "data_filter"):
        context.missing[one.fullname] = "it cannot be unpacked safely: Python must be at least 3.11.4"
        return
    try:
        with tarfile.open(path) as tar:
            tar.extractall(path.parent, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        context.missing[one.fullname] = f"it cannot be unpacked: {error}"


def fix_name(context: Context, one: Input) -> None:
    """Give an input its fixed name besides; a name that an earlier step gave to another file moves on.

    Raises
    ------
    UnsafePathError
        If a file that is no such link has the name.
    """
    if one.rename is None or one.rename == one.fullname.rpartition("/")[2]:
        return
    link = (context.work / one.fullname).parent / one.rename
    target = one.fullname.rpartition("/")[2]
    if os.path.lexists(link):
        if not link.is_symlink():
            raise UnsafePathError(f"{one.fullname} cannot be called {one.rename}: a file has that name")
        if link.readlink() == Path(target):
            return
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
    link.symlink_to(target)
