"""``query`` and ``group_by``: what plug-ins answer, checked before anybody relies on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbb.errors import DbbError, NotFoundError, PipelineError, PluginError
from dbb.pipeline.inputs.output import make_lines
from dbb.pipeline.inputs.problems import NOT_FOUND, explained, problem
from dbb.pipeline.section import Line, Section
from dbb.plugins import plugins

if TYPE_CHECKING:
    from dbb.api import Registry


def plugin_lines(section: Section, registry: Registry | None) -> list[Line]:
    """Return the lines that a plug-in answers to ``query = NAME``.

    Raises
    ------
    NotFoundError
        If no plug-in knows the query.
    PluginError
        If it fails in a way it must not.
    PipelineError
        If it gives no row, or rows that are no files.
    """
    name = section.text("query") or ""
    args = {key: text for key in section.tree if key != "query" and (text := section.text(key)) is not None}
    args = {"folder": str(section.pipeline.folder.absolute()), **args}
    rows = _ask("dbb_query_inputs", name, name=name, args=args, registry=registry)
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise PluginError(f"query = {name}: a plug-in gave {rows!r:.60}: expected a sequence of rows")

    def wrong(text: str) -> PipelineError:
        return section.error(f"query = {name}: {text}", "query")

    lines = make_lines(section, [(f"row {number}", row) for number, row in enumerate(rows, start=1)], wrong)
    if not lines:
        raise problem(section, f"no lines: query = {name} found nothing", "query", NOT_FOUND)
    return lines


def group_lines(section: Section, name: str, lines: Sequence[Line], keys: Sequence[str]) -> dict[str, list[int]]:
    """Return the groups that a plug-in makes for ``group_by = NAME``: the indexes of their lines by group.

    Parameters
    ----------
    section
        Whose lines are grouped.
    name
        What the grouping is called.
    lines
        The data lines of the section.
    keys
        Those of its ``divide_by``.

    Raises
    ------
    PipelineError
        If no plug-in knows the grouping; if one fails, or names lines that are not there, or none at all.
    """
    with explained(section, "group_by"):
        groups = _ask("dbb_group_inputs", name, name=name, rows=lines, keys=keys)
        if not isinstance(groups, Mapping) or not groups:
            raise PluginError(f"{name}: a plug-in gave {groups!r:.60}: expected at least one group with its name")
        return {str(group): _indexes(name, str(group), members, len(lines)) for group, members in groups.items()}


def _indexes(name: str, group: str, members: object, count: int) -> list[int]:
    found = list(members) if isinstance(members, Sequence) and not isinstance(members, str) else []
    if not found or not all(type(index) is int and 0 <= index < count for index in found):
        raise PluginError(
            f"{name}: a plug-in gave group {group!r} the lines {str(members)[:60]}: expected some of 0..{count - 1}"
        )
    return found


def _ask(hook: str, asked: str, **arguments: object) -> Any:
    try:
        answer = getattr(plugins().hook, hook)(**arguments)
    except DbbError:
        raise
    except Exception as error:
        raise PluginError(f"a plug-in failed on {asked!r} ({hook}): {type(error).__name__}: {error}") from error
    if answer is None:
        able = sorted(info.name for info in plugins().infos.values() if hook in info.hooks)
        asking = f"Asked were the plug-ins {', '.join(able)}" if able else "No plug-in answers such"
        kind = "query" if hook == "dbb_query_inputs" else "grouping"
        raise NotFoundError(kind, asked, hint=f"{asking}; see 'dbb plugins'")
    return answer
