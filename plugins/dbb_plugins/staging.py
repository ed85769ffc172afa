"""Brings remote files to this machine through fsspec: several at once, each checked while its bytes pass."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from dbb.errors import IntegrityError
from dbb.hookspecs import hookimpl
from dbb.storage import StageOutcome, StageRequest, copy_stream, is_local, mismatch, new_file
from dbb_plugins._retry import TRIES, ShortError, StoppedError, most_tries, pause_after
from dbb_plugins._saving import dbb_stage_out

__all__ = ["dbb_stage_in", "dbb_stage_out"]

_THREADS = 8
_BLOCK = 8 << 20  # bytes asked for at once from stores that are read in ranges
_PATIENCE = 60  # seconds without a byte until a web server counts as broken
_LEAVE = 2.0  # seconds that downloads get to clean up after an interrupt
_EXTRAS = {"http": "http", "https": "http", "s3": "s3", "s3a": "s3"}


@dataclass(frozen=True, slots=True)
class _Download:
    """One request, and the file system and path where its source is."""

    request: StageRequest
    files: Any
    path: str


@hookimpl
def dbb_stage_in(requests: Sequence[StageRequest]) -> Sequence[StageOutcome] | None:
    """Download files that fsspec can reach; None unless every source is a URL of a scheme that it knows.

    Notes
    -----
    Eight files at a time. A broken connection is tried three times with growing pauses, a short file twice; an
    absent file or wrong checksum once. A target is written aside and renamed: it is there whole and checked, or not.
    """
    if not _are_ours(requests):
        return None
    outcomes: list[StageOutcome | None] = [None] * len(requests)
    downloads: list[tuple[int, _Download]] = []
    for number, request in enumerate(requests):
        found = _locate(request)
        if isinstance(found, StageOutcome):
            outcomes[number] = found
        else:
            downloads.append((number, found))
    _run_all(downloads, outcomes)
    return [outcome for outcome in outcomes if outcome is not None]


def _are_ours(requests: Sequence[StageRequest]) -> bool:
    if any(is_local(request.source) for request in requests):
        return False
    import fsspec

    known = set(fsspec.available_protocols())
    return all(fsspec.utils.get_protocol(request.source) in known for request in requests)


def _locate(request: StageRequest) -> _Download | StageOutcome:
    import fsspec

    try:
        # fsspec keeps file systems by their options and thread: asked from this one thread, all files of a store
        # share one object and thus its pool of connections.
        files, path = fsspec.core.url_to_fs(request.source)
    except ImportError as error:
        return StageOutcome(request, error=f"{request.source}: {_missing(request.source, error)}")
    except Exception as error:  # noqa: BLE001  # every backend has errors of its own, and one bad URL must not stop the rest
        return StageOutcome(request, error=f"{request.source}: {_reason(error, request)}")
    return _Download(request, files, path)


def _missing(source: str, error: ImportError) -> str:
    import fsspec

    scheme = fsspec.utils.get_protocol(source)
    extra = _EXTRAS.get(scheme)
    advice = f": run pip install 'mini-dbb[{extra}]'" if extra else ""
    return f"what reads {scheme}:// URLs is not installed ({error}){advice}"


def _run_all(downloads: Sequence[tuple[int, _Download]], outcomes: list[StageOutcome | None]) -> None:
    """Fill in the outcomes. Threads are daemons: after an interrupt nobody waits for a server that is silent."""
    stop, positions = threading.Event(), itertools.count()

    def work() -> None:
        while not stop.is_set() and (position := next(positions)) < len(downloads):
            number, download = downloads[position]
            outcomes[number] = _fetch(download, stop)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_THREADS, len(downloads)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_LEAVE / len(threads))
        raise


def _fetch(download: _Download, stop: threading.Event) -> StageOutcome:
    """Download one file, again if that may help; whatever goes wrong is the outcome."""
    request = download.request
    reason = ""
    for attempt in range(1, TRIES + 1):
        try:
            return StageOutcome(request, _fetch_once(download, stop))
        except ImportError as error:
            reason = _missing(request.source, error)
            break
        except Exception as error:  # noqa: BLE001  # every backend has errors of its own
            reason = _reason(error, request)
            if attempt >= most_tries(error):
                break
        if stop.wait(pause_after(attempt)):
            break
    return StageOutcome(request, error=f"{request.source}: {reason}")


def _fetch_once(download: _Download, stop: threading.Event) -> int:
    request = download.request
    with _open(download) as source, new_file(Path(request.target)) as target:
        found = copy_stream(cast("BinaryIO", _Stoppable(source, stop)), target, sha256=request.sha256 is not None)
        wrong = mismatch(found, request)
        if wrong:
            error = IntegrityError if found.filesize == request.filesize or request.filesize is None else ShortError
            raise error(f"{wrong}; it is not the file that was registered")
    return found.filesize


def _open(download: _Download) -> Any:
    """Open what is wanted: all of a source, or the part that the request names."""
    request, files = download.request, download.files
    options = _options(download)
    if request.offset is None:
        return files.open(download.path, "rb", **options)
    size = request.filesize or 0
    if _is_web(files):  # as for whole files, any size will do that is not too small
        options["size"] = request.offset + size
    part = options | {"block_size": _BLOCK, "cache_type": "none"}
    return _Part(files.open(download.path, "rb", **part), request.offset, size)


class _Part:
    """Reads so many bytes of a file from an offset on, and asks its store for no others."""

    def __init__(self, file: Any, offset: int, size: int) -> None:
        self._file, self._left = file, size
        file.seek(offset)

    def read(self, count: int) -> bytes:
        wanted = min(max(count, _BLOCK), self._left)
        data = cast("bytes", self._file.read(wanted)) if wanted else b""
        self._left -= len(data)
        return data

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()


def _is_web(files: Any) -> bool:
    return "http" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)


def _options(download: _Download) -> dict[str, Any]:
    files = download.files
    if not _is_web(files):
        return {"block_size": _BLOCK}
    import aiohttp

    # One plain GET: not every server gives ranges. With a size (any will do) fsspec does not ask for it first, which
    # would cost a round trip and take every failure for an absent file. The default timeout of aiohttp, five minutes
    # in all, is too short for large files and too long for a silent server. Compressed files must stay so.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)
    options = {"block_size": 0, "size": download.request.filesize or 1, "timeout": timeout, "auto_decompress": False}
    options = {key: value for key, value in options.items() if key not in files.client_kwargs | files.kwargs}
    return options | {"headers": {**files.kwargs.get("headers", {}), "Accept-Encoding": "identity"}}


class _Stoppable:
    """Reads from a stream until told to stop."""

    def __init__(self, stream: Any, stop: threading.Event) -> None:
        self._stream, self._stop = stream, stop

    def read(self, count: int) -> bytes:
        if self._stop.is_set():
            raise StoppedError("interrupted")
        return cast("bytes", self._stream.read(count))


def _reason(error: Exception, request: StageRequest) -> str:
    gone = isinstance(error, FileNotFoundError) or getattr(error, "status", None) == 404
    if gone and Path(request.target).parent.is_dir():
        return "it is not there"
    if isinstance(error, IntegrityError):
        return str(error)
    if request.offset is not None and isinstance(error, ValueError) and "range request" in str(error):
        return "the server does not give parts of files (HTTP ranges): use another, or a local archive"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
