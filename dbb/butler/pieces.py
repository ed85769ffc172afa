"""Members of tars on their way into a job repository: from local tars, compressed ones, and through plug-ins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbb.errors import IntegrityError
from dbb.members import HEADER, MemberRequest, copy_member, member_problem
from dbb.storage import StageRequest, is_local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbb.refcats.gz import GzipTars


def member_request(entry: Mapping[str, Any], target: str) -> MemberRequest:
    """Return the request for an entry of a manifest that has an offset."""
    facts = (entry.get("size"), entry.get("md5sum"), entry.get("sha256"), entry["offset"])
    name = entry.get("member") or entry["path"]
    return MemberRequest(entry["source"], target, *facts, name, entry.get("index"))


class Pieces:
    """Brings members of tars, each checked against the header before it.

    Parameters
    ----------
    folder
        Where parts of remote tars wait to be looked at; made when needed, and the caller's to remove.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._parts: dict[str, MemberRequest] = {}
        self._gzip: GzipTars | None = None

    @staticmethod
    def problem(request: MemberRequest) -> str:
        """Return what is wrong with a member as far as it can be told without reading it; or nothing."""
        return member_problem(request) if is_local(request.source) and request.index is None else ""

    def copy(self, request: MemberRequest) -> int:
        """Copy a member of a local or compressed tar and return its size.

        Raises
        ------
        IntegrityError
            If the tar is not what was indexed.
        OSError
            If something cannot be read or written.
        """
        if request.index is None:
            return copy_member(request)
        if self._gzip is None:
            from dbb.refcats.gz import GzipTars  # plain tars must not pay for what compressed ones need

            self._gzip = GzipTars()
        return self._gzip.copy(request)

    def part(self, request: MemberRequest) -> StageRequest:
        """Return what to ask of plug-ins: the member with its header, into a file that `unwrap` takes."""
        assert request.offset is not None
        Path(self._folder).mkdir(exist_ok=True)
        target = f"{self._folder}/{len(self._parts)}"
        self._parts[target] = request
        return StageRequest(request.source, target, HEADER + (request.filesize or 0), offset=request.offset - HEADER)

    def is_part(self, request: StageRequest) -> bool:
        """Whether `part` gave this request."""
        return request.target in self._parts

    def unwrap(self, part: StageRequest) -> int:
        """Put the member of a part that has come into its place and return its size.

        Raises
        ------
        IntegrityError
            If it is not the member that was indexed.
        OSError
            If it cannot be written.
        """
        whole = self._parts[part.target]
        here = MemberRequest(part.target, whole.target, whole.filesize, whole.md5sum, whole.sha256, HEADER, whole.name)
        try:
            copied = copy_member(here)
        except IntegrityError as error:
            raise IntegrityError(str(error).replace(part.target, whole.source)) from error
        Path(part.target).unlink()
        return copied

    def close(self) -> None:
        """Let go of open tars."""
        if self._gzip is not None:
            self._gzip.close()
