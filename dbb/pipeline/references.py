"""References between sections as a submit file writes them: ``file.nick``, ``list.name.nick``, ``module.file.nick``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dbb.pipeline.model import Tree, Value, subtree

_FORMATTED = re.compile(r"\$FMT\{[^{},]*,([^{}]*)\}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reference:
    """A section that is referred to.

    Parameters
    ----------
    kind, name
        ``file`` or ``list``, and the section's name.
    nick
        The nickname of the files that are meant; of a file section its name.
    """

    kind: str
    name: str
    nick: str = ""

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}" + (f".{self.nick}" if self.kind == "list" and self.nick else "")


def parse_reference(text: str) -> Reference | None:
    """Read ``file.nick``, ``list.name`` or ``list.name.nick``; None if it is none of these.

    Examples
    --------
    >>> print(parse_reference("list.Corr.img"), parse_reference("file.skymap.fullname"), parse_reference("skymap"))
    list.corr.img file.skymap None
    """
    parts = text.strip().lower().split(".")
    if not all(parts):
        return None
    if parts[0] == "file" and (len(parts) == 2 or (len(parts) == 3 and parts[2] == "fullname")):
        return Reference("file", parts[1], parts[1])
    if parts[0] == "list" and len(parts) in {2, 3}:
        return Reference("list", *parts[1:])
    return None


def column_names(text: str) -> list[str]:
    """Return the columns of a list in lower case, without their formats.

    Examples
    --------
    >>> column_names("img.fullname, $FMT{%05d, visit} ccd")
    ['img.fullname', 'visit', 'ccd']
    """
    return [name.lower() for name in re.split(r"[\s,]+", _FORMATTED.sub(r"\1", text)) if name]


def list_sections(module: Mapping[str, Value]) -> dict[str, Tree]:
    """Return the list sections of a module by name, with those that ``div_list_by_col`` makes of one."""
    found: dict[str, Tree] = {}
    for name, tree in subtree(module, "list").items():
        if isinstance(tree, dict):
            found[name] = tree
            shared = {key: value for key, value in tree.items() if key != "div_list_by_col"}
            for part, own in subtree(tree, "div_list_by_col").items():
                if isinstance(own, dict):
                    found[part] = {**shared, **own}
    return found


def section_of(module: Mapping[str, Value], reference: Reference) -> Tree | None:
    """Return the section that is referred to, or None if the module has none such."""
    if reference.kind == "list":
        return list_sections(module).get(reference.name)
    found = subtree(module, "file").get(reference.name)
    return found if isinstance(found, dict) else None
