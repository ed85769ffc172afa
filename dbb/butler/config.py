"""What makes a folder a Gen2 repository: ``repositoryCfg.yaml``, or the older ``_mapper`` file and ``_parent`` link.

Writing needs the standard library only, because jobs write their repository on machines that have nothing else.
Reading never imports or makes what a YAML tag names: a mapper class is only a text here.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbb.errors import MissingError, UsageError

CONFIG_NAME = "repositoryCfg.yaml"
_CLASS = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.ASCII)
_PRINTABLE = re.compile(r"[ -~]*")
_PLAIN_KEY = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)\Z)[A-Za-z_]\w*", re.ASCII | re.IGNORECASE)
_PLAIN_PATH = re.compile(r"(?:\.\./|/)[\w./-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """What a repository says of itself.

    Parameters
    ----------
    mapper_class
        Dotted name of the mapper's Python class.
    parents
        Paths of the parents as written, relative to the real path of the repository, in the order of search.
    policy
        Overrides of the mapper's policy: section, dataset type, entry.
    mapper_args
        Arguments of the mapper, of which only ``calibRoot`` matters to a reader.
    """

    mapper_class: str
    parents: tuple[str, ...]
    policy: Mapping[str, object]
    mapper_args: Mapping[str, object]

    def override(self, section: str, dataset: str) -> Mapping[str, object]:
        """Return what the policy says of a dataset type; empty if nothing."""
        datasets = self.policy.get(section)
        entry = datasets.get(dataset) if isinstance(datasets, Mapping) else None
        return entry if isinstance(entry, Mapping) else {}


def read_config(repo: Path) -> RepositoryConfig:
    """Read what the folder `repo` says of itself; ``repositoryCfg.yaml`` wins over ``_mapper``, as for the Butler.

    Raises
    ------
    MissingError
        If the folder is absent or has neither file.
    UsageError
        If the Butler would not read the file, or it holds a tag for anything but a mapper's name or a policy.
    """
    path = repo / CONFIG_NAME
    if not os.path.lexists(path):
        return _read_old_style(repo)
    try:
        if not path.is_file():
            raise ValueError("it is no regular file")
        return _parse(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no usable configuration of a Gen2 repository: {error}") from error


def _read_old_style(repo: Path) -> RepositoryConfig:
    place = repo
    for _ in range(32):  # a link may lead back to where it stands
        if (place / "_mapper").is_file() or not (place / "_parent").is_dir():
            break
        place = place / "_parent"
    try:
        if not (place / "_mapper").is_file():
            raise ValueError("it is no regular file")  # a pipe would keep its reader waiting
        text = (place / "_mapper").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        found = "has neither repositoryCfg.yaml nor a readable _mapper" if repo.is_dir() else "is not a folder"
        raise MissingError(f"{repo} is no Gen2 repository: it {found}") from error
    link = repo / "_parent"
    parents = (str(link.readlink()),) if link.is_symlink() else ("_parent",) if link.is_dir() else ()
    return RepositoryConfig(_class_name(text.split("\n", 1)[0].strip()), parents, {}, {})


def _class_name(value: object) -> str:
    if not isinstance(value, str) or _CLASS.fullmatch(value) is None:
        raise UsageError(f"the mapper {value!r} is no dotted name of a Python class")
    return value


def _parse(data: bytes) -> RepositoryConfig:
    import yaml  # comes with astropy; only readers need it

    loader = _loader_class()(data)
    try:
        record = loader.get_single_data()
    except yaml.YAMLError as error:
        raise UsageError(str(error)) from error
    finally:
        loader.dispose()
    if not isinstance(record, _Record):
        raise UsageError("it does not begin with !RepositoryCfg_v1")
    if record.get("_root") is not None:
        raise UsageError(f"_root is {record['_root']!r}; the Butler reads only repositories where it is null")
    policy, arguments = record.get("_policy") or {}, record.get("_mapperArgs") or {}
    if not isinstance(policy, Mapping) or not isinstance(arguments, Mapping):
        raise UsageError("_policy and _mapperArgs must be mappings")
    return RepositoryConfig(_class_name(record.get("_mapper")), _parents(record.get("_parents")), policy, arguments)


def _parents(value: object) -> tuple[str, ...]:
    # The Butler of 2021 writes an old-style parent as a whole configuration; its root says where it is.
    entries = [] if value is None else value if isinstance(value, list) else [value]
    found = tuple(entry.get("_root") if isinstance(entry, _Record) else entry for entry in entries)
    if not all(isinstance(entry, str) and entry for entry in found):
        raise UsageError(f"_parents is {value!r}; it must be a list of paths")
    return tuple(str(entry) for entry in found)


class _Record(dict[str, Any]):
    """A mapping that had the tag of a repository's configuration."""


@functools.cache
def _loader_class() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows three tags; none of them imports or makes anything."""

    def record(loader: Loader, node: yaml.Node) -> _Record:
        return _Record(_mapping(loader, node))

    def policy(loader: Loader, node: yaml.Node) -> object:
        return _mapping(loader, node).get("data") or {}

    def name(loader: Loader, suffix: str, node: yaml.Node) -> str:
        return suffix

    def refuse(loader: Loader, suffix: str, node: yaml.Node) -> None:
        raise yaml.constructor.ConstructorError(
            problem=f"the tag !!python/{suffix} is refused: nothing is imported or made for a repository",
            problem_mark=node.start_mark,
        )

    def _mapping(loader: Loader, node: yaml.Node) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(problem=f"{node.tag} needs a mapping", problem_mark=node.start_mark)
        return loader.construct_mapping(node, deep=True)

    python = "tag:yaml.org,2002:python/"
    Loader.add_constructor("!RepositoryCfg_v1", record)
    Loader.add_constructor(f"{python}object:lsst.daf.persistence.policy.Policy", policy)
    Loader.add_multi_constructor(f"{python}name:", name)
    Loader.add_multi_constructor(python, refuse)
    return Loader


def format_config(
    mapper_class: str, parents: Sequence[str], policy: Mapping[str, Mapping[str, Mapping[str, object]]]
) -> str:
    """Return the text of a ``repositoryCfg.yaml`` that the Butlers of both eras accept.

    Parameters
    ----------
    mapper_class
        Dotted name of the mapper's Python class.
    parents
        Paths relative to the repository, or absolute, in the order of search.
    policy
        Overrides: section, dataset type, entry with texts, numbers, truth values, None or lists of them.

    Raises
    ------
    UsageError
        If the mapper is no dotted name or the policy holds another kind of value.

    Notes
    -----
    The text is ASCII and depends on the arguments only, not on the order of mappings.
    """
    lines = ["!RepositoryCfg_v1", f"_mapper: !!python/name:{_class_name(mapper_class)} ''", "_mapperArgs: {}"]
    lines += ["_parents:", *(f"- {_path(parent)}" for parent in parents)] if parents else ["_parents: []"]
    overrides = {section: datasets for section, datasets in policy.items() if datasets}
    lines += ["_policy:", *policy_lines(overrides)] if overrides else []
    return "\n".join([*lines, "_root: null", ""])


def policy_lines(
    policy: Mapping[str, object], comments: Mapping[tuple[str, ...], str] | None = None, inside: tuple[str, ...] = ()
) -> Iterator[str]:
    """Give the lines of a policy in YAML, indented so that they fit below ``_policy:``.

    Parameters
    ----------
    policy
        Mappings of texts, numbers, truth values, None or lists of them, to any depth.
    comments
        What to write behind a value, by the keys that lead to it.
    inside
        The keys that lead to `policy`.

    Raises
    ------
    UsageError
        If the policy holds another kind of value.

    Notes
    -----
    The lines are ASCII and do not depend on the order of mappings.
    """
    for name, value in sorted(policy.items()):
        path = (*inside, name)
        head = "  " * len(path) + _key(name)
        if isinstance(value, Mapping) and value:
            yield f"{head}:"
            yield from policy_lines(value, comments, path)
        else:
            comment = (comments or {}).get(path, "")
            text = "{}" if isinstance(value, Mapping) else _value(value)
            yield f"{head}: {text}" + (f"  # {''.join(map(_escaped, comment))}" if comment else "")


def _key(text: str) -> str:
    return text if _PLAIN_KEY.fullmatch(text) else _quoted(text)


def _path(text: str) -> str:
    return text if _PLAIN_PATH.fullmatch(text) else _quoted(text)


def _value(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    raise UsageError(f"a repository's policy cannot hold {value!r}")


def _quoted(text: str) -> str:
    if _PRINTABLE.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\U{ord(character):08x}"
