"""The Butler policy of a camera, merged with the overrides of a repository, and where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbb.butler.chain import is_same_class
from dbb.butler.config import CONFIG_NAME, policy_lines, read_config
from dbb.errors import UsageError
from dbb.mapper import ERAS, Mapper

_FIELDS = ("template", "python", "persistable", "storage", "tables")


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """One value of a policy.

    Parameters
    ----------
    path
        The keys that lead to it, as a rule section, dataset type and field.
    value
        A text, number, truth value, None, or a list of them.
    origin
        The file and the table in it that has the value.
    """

    path: tuple[str, ...]
    value: object
    origin: str

    def as_row(self) -> dict[str, str]:
        """Return the value as a row of texts; what is no text is in JSON."""
        section, dataset, *rest = (*self.path, "", "")[: max(len(self.path), 2)]
        text = self.value if isinstance(self.value, str) else json.dumps(self.value, default=str)
        return {"section": section, "dataset": dataset, "key": ".".join(rest), "value": text, "origin": self.origin}


def merged_policy(mapper: Mapper, era: str, repo: Path | None = None) -> list[PolicyValue]:
    """Return the policy by which the Butler of an era reads and writes, sorted by path.

    Parameters
    ----------
    mapper
        The camera.
    era
        ``2017`` or ``2021``.
    repo
        A repository of this camera. What its own configuration overrides is merged in key by key, as the Butler does;
        its parents' overrides hold for the parents only.

    Raises
    ------
    MissingError
        If `repo` is no repository.
    UsageError
        If `era` is none, the repository's configuration is unusable or of another camera.
    """
    if era not in ERAS:
        raise UsageError(f"era {era!r} is none of {', '.join(ERAS)}")
    found = {value.path: value for value in _of_camera(mapper, era)}
    if repo is not None:
        found |= {value.path: value for value in _of_repository(mapper, repo)}
    return [found[path] for path in sorted(found)]


def policy_tree(values: Sequence[PolicyValue]) -> dict[str, Any]:
    """Return a policy as nested mappings.

    Raises
    ------
    UsageError
        If one value stands where another has a mapping.
    """
    tree: dict[str, Any] = {}
    for one in values:
        node = tree
        for depth, key in enumerate(one.path[:-1], 1):
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                origin = next(other.origin for other in values if other.path == one.path[:depth])
                where = ".".join(one.path[:depth])
                raise UsageError(
                    f"{origin}: {where} is {node!r} and cannot be merged with {'.'.join(one.path)} of {one.origin}"
                )
        node[one.path[-1]] = one.value
    return tree


def policy_yaml(mapper: Mapper, era: str, values: Sequence[PolicyValue]) -> str:
    """Return a policy as YAML with the origin of each value behind it as a comment.

    It is a policy file by itself, and its indentation lets it stand below ``_policy:`` in a ``repositoryCfg.yaml``.

    Raises
    ------
    UsageError
        If a value is of a kind that no policy that we write may hold, or stands where another has a mapping.
    """
    head = f"  # Policy of camera {mapper.name} for the Butler of {era}; may stand below _policy: in {CONFIG_NAME}."
    lines = policy_lines(policy_tree(values), {one.path: one.origin for one in values})
    return "\n".join([head, *lines, ""])


def _of_camera(mapper: Mapper, era: str) -> Iterator[PolicyValue]:
    for dataset in mapper.datasets:
        if dataset.era != era:
            continue
        entries = mapper.entries(dataset.name, era)
        for field in _FIELDS:
            value = getattr(dataset, field)
            if value:
                table = next(name for name, entry in reversed(entries.items()) if field in entry)
                origin = mapper.origin(table)
                path = (dataset.section, dataset.name, field)
                yield PolicyValue(path, list(value) if field == "tables" else value, origin)


def _of_repository(mapper: Mapper, repo: Path) -> Iterator[PolicyValue]:
    config = read_config(repo)
    if not is_same_class(config.mapper_class, mapper.butler_class):
        raise UsageError(f"{repo} is a repository of {config.mapper_class}, which is not the mapper {mapper.name}")
    yield from _leaves(config.policy, f"{repo / CONFIG_NAME} [_policy]", ())


def _leaves(policy: Mapping[Any, object], origin: str, inside: tuple[str, ...]) -> Iterator[PolicyValue]:
    for name, value in policy.items():
        if not isinstance(name, str):
            raise UsageError(f"{origin}: the key {name!r} of {'.'.join(inside) or 'the policy'} is no text")
        path = (*inside, name)
        if isinstance(value, Mapping):
            yield from _leaves(value, origin, path)
        else:
            yield PolicyValue(path, value, origin)
