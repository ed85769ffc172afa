"""What a file says of itself, asked of whichever plug-in can read it."""

from __future__ import annotations

from typing import Any

from dbb.errors import DbbError, IntegrityError, PluginError
from dbb.filetypes import Filetype
from dbb.plugins import plugins


def gather_metadata(source: str, filetype: Filetype) -> dict[str, Any]:
    """Return the values of columns that the file at `source` holds itself, and its ``corners`` where it has some.

    Raises
    ------
    IntegrityError
        If no plug-in can read it though columns need it, or it is broken.
    PluginError
        If a plug-in fails.
    """
    try:
        found: dict[str, Any] | None = plugins().hook.dbb_gather_metadata(uri=source, filetype=filetype)
    except (DbbError, OSError):
        raise
    except Exception as error:
        raise PluginError(f"{source}: a plug-in failed to gather metadata: {type(error).__name__}: {error}") from error
    if found is None and any(column.source != "name" for column in filetype.columns):
        asked = [implementation.plugin_name for implementation in plugins().hook.dbb_gather_metadata.get_hookimpls()]
        raise IntegrityError(f"no plug-in can read it (asked: {', '.join(asked) or 'none'})")
    return found or {}
