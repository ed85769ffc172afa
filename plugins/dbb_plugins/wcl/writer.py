"""Writes settings as WCL, such that reading gives them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dbb.errors import PipelineError
from dbb.pipeline.model import Value
from dbb_plugins.wcl.reader import DEEPEST_SECTION, is_directive
from dbb_plugins.wcl.settings import KEEP_CASE

_INDENT = "    "


def write_wcl(tree: Mapping[str, Value], *, sort: bool = False) -> str:
    """Return settings as the text of a WCL file.

    Parameters
    ----------
    tree
        The settings. Reading the text gives an equal tree.
    sort
        Whether keys are sorted, but for those in ``cmdline``, whose order means something.

    Raises
    ------
    PipelineError
        If WCL cannot hold a key or value; names it.
    """
    return "".join(f"{line}\n" for line in _section(tree, (), sort))


def _section(tree: Mapping[str, Value], path: tuple[str, ...], sort: bool) -> Iterator[str]:
    if len(path) > DEEPEST_SECTION:
        raise PipelineError(f"{'.'.join(path)}: sections are nested more than {DEEPEST_SECTION} deep")
    indent = _INDENT * len(path)
    for key in sorted(tree) if sort and "cmdline" not in path else tree:
        value = tree[key]
        inner = (*path, key)
        problem = _problem(key, value, path)
        if problem:
            raise PipelineError(f"{'.'.join(inner)} cannot be written as WCL: {problem}")
        if isinstance(value, Mapping):
            yield f"{indent}<{key}>"
            yield from _section(value, inner, sort)
            yield f"{indent}</{key}>"
        else:
            yield f"{indent}{key} = {value}" if value else f"{indent}{key} = #"


def _problem(key: str, value: Value, path: tuple[str, ...]) -> str:
    """Return why WCL cannot hold a key with its value; an empty text if it can."""
    if not key or not key.isprintable() or set(key) & set(" =#<>"):
        return "a key is a word without '=', '#', '<' and '>'"
    if isinstance(value, Mapping):
        if key.startswith("/") or key != key.lower():
            return "the name of a section is lower case and begins with no slash"
        return "a section directly inside one of its own name" if path[-1:] == (key,) else ""
    if key != key.lower() and KEEP_CASE.isdisjoint(path):
        return "a key outside of cmdline is lower case"
    if type(value) is not str:
        return "it is data that must stay as it is, and a file has only the operator's texts"
    if is_directive(value):
        return "it would be read as an include"
    if value != value.strip() or value.endswith("\\"):
        return "a value has no blank at its ends, and no backslash at the last"
    return "a value has neither '#' nor line breaks" if set(value) & set("#\r\n") else ""
