"""Names and folders of files: patterns filled for a module, with holes for what each quantum brings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dbb.errors import VariableError
from dbb.pipeline.fillers import Filler
from dbb.pipeline.lists import is_list, list_items
from dbb.pipeline.model import Data, subtree
from dbb.pipeline.scope import Scope
from dbb.pipeline.section import Section
from dbb.pipeline.values import Hole, Parts, Text, expand, expand_all, holes, render, settled_text

_MOST_KNOWN = 10_000
COMPRESSIONS = (".fz", ".gz")
"""Suffixes of compressed files."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file whose name follows from a pattern.

    Parameters
    ----------
    fullname
        Its path in the job, with holes.
    archivepath
        Its folder in the archive, or None if the section does not say.
    used
        The variables that its name was made from: what is known of the file.
    """

    fullname: Filler
    archivepath: Filler | None
    used: Mapping[str, Parts]


@contextmanager
def blamed_on(section: Section, key: str = "") -> Iterator[None]:
    """Make errors of variables say in which section and key they arose."""
    try:
        yield
    except VariableError as error:
        if error.place is not None or str(error).startswith("module "):
            raise
        what = f"{section.title}, {key}" if key else section.title
        raise type(error)(f"{what}: {error.problem}", section.place(key)) from None


def named_files(
    section: Section, naming: Scope, archiving: Scope, *, output: bool, split: bool = True
) -> list[NamedFile]:
    """Return the files that a section names by ``fullname``, ``filename`` or ``filepat``.

    Parameters
    ----------
    section
        A file section.
    naming, archiving
        What names mean in file names and run-time folders, and in archive folders; see facts of each in `dbb.pipeline`.
    output
        Whether the archive folder is wanted.
    split
        Whether lists in the name make several files; else they stay the text that they are.

    Raises
    ------
    PipelineError
        If no name or no folder can be made; names the section, the key and what is missing.
    """
    found = []
    for name in _names(section, naming, split):
        known = {key: Data(render(parts, {})) for key, parts in name.used.items() if not any(holes(parts))}
        place = replace(naming, current={**known, **naming.current})
        fullname = name.parts if "fullname" in section.tree else _joined(folder(section, place, "runtime"), name.parts)
        archivepath = None
        if output and "dirpat" in section.tree:
            archivepath = folder(section, replace(archiving, search=(*archiving.search, known)), "ops")
        archiving_filler = None if archivepath is None else Filler(archivepath)
        found.append(NamedFile(Filler(fullname), archiving_filler, name.used))
    return found


def _names(section: Section, scope: Scope, split: bool) -> list[Text]:
    for key in ("fullname", "filename"):
        value = section.tree.get(key)
        if isinstance(value, str):
            with blamed_on(section, key):
                texts = list_items(value) if is_list(value) else [value]
                return [name for text in texts for name in expand_all(text, scope)]
    if "filepat" not in section.tree:
        raise section.error("nothing says which file this is: give filename, filepat, fullname, a query or depends")
    with blamed_on(section, "filepat"):
        text = pattern(section, scope, "filename_pattern", "filepat")
        return expand_all(text, scope) if split else [expand(text, scope)]


def pattern(section: Section, scope: Scope, kind: str, key: str, part: str = "") -> str:
    """Return the text of the pattern that a section's `key` names.

    Raises
    ------
    PipelineError
        If there is no pattern of that name; lists those that are there.
    """
    name = settled_text(str(section.tree[key]), scope)
    known = subtree(scope.root, kind)
    found = known.get(name.lower())
    if part and isinstance(found, dict):
        found = found.get(part)
    if not isinstance(found, str):
        import difflib  # only for a message

        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; near: {', '.join(near)}" if near else f"; there are {len(known)}"
        what = f"{kind} {name!r} has no {part!r}" if part and name in known else f"no {kind} {name!r}"
        raise section.error(f"{key} = {name}: {what}{hint}", key)
    return found


def folder(section: Section, scope: Scope, part: str) -> Parts:
    """Return the folder that a section's ``dirpat`` gives: ``runtime`` in the job, ``ops`` in the archive.

    Raises
    ------
    PipelineError
        If the pattern is missing or would give several folders.
    """
    if "dirpat" not in section.tree:
        raise section.error("no dirpat says in which folder this file is")
    with blamed_on(section, "dirpat"):
        found = expand_all(pattern(section, scope, "directory_pattern", "dirpat", part), scope)
    if len(found) != 1:
        raise section.error(f"dirpat {section.tree['dirpat']} gives {len(found)} folders for one file", "dirpat")
    return found[0].parts


@dataclass(frozen=True, slots=True)
class DataPath:
    """The path in the job of files that data lines bring."""

    section: Section
    folder: Filler
    _known: dict[int, tuple[Mapping[str, str], str]] = field(default_factory=dict, compare=False, repr=False)

    def fullname(self, values: Mapping[str, str]) -> str:
        """Return the path of one file; `values` is what its line says of it.

        Raises
        ------
        PipelineError
            If the line lacks a value that the folder needs.
        """
        known = self._known.get(id(values))
        if known is not None and known[0] is values:  # a line's file is asked for by lists, inputs and several quanta
            return known[1]
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        path = self._made(values)
        self._known[id(values)] = (values, path)
        return path

    def _made(self, values: Mapping[str, str]) -> str:
        try:
            place = self.folder.fill(values)
            name = values["filename"]
        except KeyError as error:
            raise self.section.error(f"dirpat needs {error.args[0]!r}, which the line of {values} lacks") from None
        compression = values.get("compression")
        if compression and compression != "None" and not name.endswith(compression):
            name += compression
        return tidy(f"{place}/{name}" if place else name)


def tidy(path: str) -> str:
    """Return `path` without the empty and ``.`` segments that patterns leave where a value is empty."""
    if "//" not in path and "./" not in path and not path.endswith(("/", "/.")):
        return path
    root = "/" if path.startswith("/") else ""
    return root + "/".join(segment for segment in path.split("/") if segment not in {"", "."})


def data_path(section: Section, scope: Scope, keys: Iterable[str]) -> DataPath:
    """Return where the files of a section lie whose lines have `keys`; the section's own keys hide those."""
    of_line = {key: Hole(key) for key in keys}
    inside = replace(scope, search=(section.tree, of_line, *scope.search))
    return DataPath(section, Filler(folder(section, inside, "runtime")))


def split_compression(name: str) -> tuple[str, str]:
    """Split a file name into the name that tables hold and the suffix of its compression.

    Examples
    --------
    >>> split_compression("a.fits.fz"), split_compression("a.gz")
    (('a.fits', '.fz'), ('a.gz', ''))
    """
    for suffix in COMPRESSIONS:
        if name.endswith(suffix) and "." in name[: -len(suffix)]:
            return name[: -len(suffix)], suffix
    return name, ""


def _joined(place: Parts, name: Parts) -> Parts:
    return (*place, "/", *name) if place else name
