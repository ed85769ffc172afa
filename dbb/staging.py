"""Bringing remote files here by whichever plug-in knows their kind."""

from __future__ import annotations

from collections.abc import Sequence

from dbb.errors import PluginError
from dbb.plugins import plugins
from dbb.storage import StageOutcome, StageRequest


def stage_in(requests: Sequence[StageRequest]) -> Sequence[StageOutcome]:
    """Ask the plug-ins in turn to fetch `requests`; the first that does not pass does it.

    Raises
    ------
    PluginError
        If none takes them, or one breaks its contract.
    """
    hook = plugins().hook.dbb_stage_in
    try:
        outcomes: Sequence[StageOutcome] | None = hook(requests=list(requests))
    except Exception as error:
        raise PluginError(f"a plug-in failed to stage {requests[0].source}: {type(error).__name__}: {error}") from error
    if outcomes is None:
        asked = [implementation.plugin_name for implementation in hook.get_hookimpls()]
        raise PluginError(f"nobody can stage {requests[0].source}; asked: {', '.join(asked) or 'no plug-in'}")
    if len(outcomes) != len(requests):
        raise PluginError(f"a plug-in answered {len(outcomes)} outcomes for {len(requests)} requests")
    return outcomes
