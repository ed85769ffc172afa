"""Bringing remote files here, and files of this machine into archives, by whichever plug-in knows their kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbb.errors import PluginError
from dbb.storage import SaveOutcome, SaveRequest, StageOutcome, StageRequest


def stage_in(requests: Sequence[StageRequest]) -> Sequence[StageOutcome]:
    """Ask the plug-ins in turn to fetch `requests`; the first that does not pass does it.

    Raises
    ------
    PluginError
        If none takes them, or one breaks its contract.
    """
    return _first("dbb_stage_in", requests, requests[0].source)


def stage_out(requests: Sequence[SaveRequest]) -> Sequence[SaveOutcome]:
    """Ask the plug-ins in turn to save files in an archive; the first that does not pass does it.

    Raises
    ------
    PluginError
        If none takes them, or one breaks its contract.
    """
    return _first("dbb_stage_out", requests, requests[0].target)


def _first(name: str, requests: Sequence[Any], example: str) -> Sequence[Any]:
    from dbb.plugins import plugins  # a job that has all its files here starts without them

    hook = getattr(plugins().hook, name)
    try:
        outcomes: Sequence[Any] | None = hook(requests=list(requests))
    except Exception as error:
        raise PluginError(f"a plug-in failed to stage {example}: {type(error).__name__}: {error}") from error
    if outcomes is None:
        asked = [implementation.plugin_name for implementation in hook.get_hookimpls()]
        raise PluginError(f"nobody can stage {example}; asked: {', '.join(asked) or 'no plug-in'}")
    if len(outcomes) != len(requests):
        raise PluginError(f"a plug-in answered {len(outcomes)} outcomes for {len(requests)} requests")
    return outcomes
