"""What in a camera's policy cannot work: archive names against Butler templates, keys without a value, collisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from dbb.butler.camera import COLUMN_TYPES, archive_pattern, butler_types, camera_layout, output_template
from dbb.butler.clashes import Field, Piece, common_path, pattern_pieces, template_parts, template_pieces
from dbb.butler.policy import merged_policy, policy_tree
from dbb.errors import UsageError
from dbb.filetypes import Filetype
from dbb.mapper import SECTIONS, Dataset, Mapper, eras_of
from dbb.patterns import RUN_KEYS, Pattern, Variable, is_safe_path

_RUN: dict[str, object] = {"unitname": "Ht0", "reqnum": 20, "attnum": 1}
_FILENAME = "filename"  # a pattern with this key takes files as they are called
_TYPES = {"unitname": "str", "reqnum": "int", "attnum": "int", _FILENAME: "str"}
_NUMBERS = {"int", "float"}
_SAMPLES: Mapping[str, tuple[object, ...]] = {
    "int": (7, 12, 123456789),
    "float": (0.5, 30.0, 1234.25),
    "str": ("a", "B7", "c_3"),
    "date": ("2013-06-17", "2014-01-01", "2020-12-31"),
    "patch": ("8x6", "0x11", "12x3"),
    "bool": (True, False, True),
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that cannot work.

    Parameters
    ----------
    mapper
        The camera.
    kind
        A word for programs; docs/policy.md lists them.
    dataset, filetype
        What it is about; empty where it is about no dataset type or filetype.
    problem
        What is wrong, for people.
    era
        The eras that have it, empty if it does not depend on them.
    """

    mapper: str
    kind: str
    dataset: str
    filetype: str
    problem: str
    era: str = ""

    def as_row(self) -> dict[str, str]:
        """Return the problem as a row."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Name:
    """What names paths below the `roots`; those of one `family` may share a path."""

    text: str
    pieces: tuple[Piece, ...]
    roots: frozenset[str]
    dataset: str
    filetype: str
    family: str
    era: str = ""


def check_policy(mapper: Mapper, era: str = "both", repo: Path | None = None) -> list[Problem]:
    """Return what cannot work in the policy of a camera or, with `repo`, in that of a repository of it.

    Parameters
    ----------
    mapper
        The camera.
    era
        ``2017``, ``2021`` or ``both``.
    repo
        A repository whose overrides are merged in.

    Raises
    ------
    MissingError
        If `repo` is no repository.
    UsageError
        If the camera's files or the repository's configuration cannot be read at all.

    Notes
    -----
    Whether two templates or patterns can name one path is decided by all that they can give, for each pair; whether a
    pattern can be read backwards, by samples. Nothing but the camera's files and the configuration is opened.
    """
    camera_layout(mapper, era)  # refuses tables and columns that no registry can have
    found, names = [*_of_camera(mapper), *_of_filetypes(mapper)], list(_archive_names(mapper))
    for one in eras_of(era):
        for dataset in mapper.datasets:
            found += _of_entries(mapper, dataset) if dataset.era == one else ()
        datasets, problems = _merged(mapper, one, repo)
        found += problems
        for dataset in datasets:
            problems = list(_of_dataset(mapper, dataset))
            found += problems
            if all(problem.kind != "template" for problem in problems):
                names.append(_place_name(mapper, dataset))
    return _by_era([*found, *_collisions(mapper, names)])


def _by_era(problems: Iterable[Problem]) -> list[Problem]:
    """Make one of problems that differ by era only."""
    eras: dict[Problem, set[str]] = {}
    for problem in problems:
        eras.setdefault(replace(problem, era=""), set()).update(problem.era.split())
    return sorted(replace(problem, era=" ".join(sorted(found))) for problem, found in eras.items())


def _of_camera(mapper: Mapper) -> Iterator[Problem]:
    about = Problem(mapper.name, "unknown", "", "", "")
    if mapper.raw_filetype not in mapper.filetypes:
        yield replace(about, problem=f"raw names {mapper.raw_filetype}, which is no filetype")
    if mapper.date_column not in mapper.raw_columns:
        yield replace(about, problem=f"registry.date names {mapper.date_column}, which is no column of registry.raw")


def _of_filetypes(mapper: Mapper) -> Iterator[Problem]:
    known = {dataset.name for dataset in mapper.datasets}
    for filetype in mapper.filetypes.values():
        about = Problem(mapper.name, "", filetype.dataset or "", filetype.name, "")
        if filetype.dataset is not None and filetype.dataset not in known:
            yield replace(about, kind="unknown", problem=f"the camera has no dataset type {filetype.dataset}")
        for column in filetype.columns:
            registry = mapper.raw_columns.get(column.name)
            if registry and (COLUMN_TYPES[registry] in _NUMBERS) != (column.type in _NUMBERS):
                text = f"column {column.name} is {column.type}, but {registry} in the registry of exposures"
                yield replace(about, kind="type", problem=text)
        pattern = archive_pattern(filetype)
        if pattern is not None:
            yield from _of_pattern(mapper, filetype, pattern, about)


def _of_pattern(mapper: Mapper, filetype: Filetype, pattern: Pattern, about: Problem) -> Iterator[Problem]:
    types, text = filetype.types | _TYPES, pattern.text
    unknown = [key for key in pattern.keys if key not in types]
    if unknown:
        yield replace(about, kind="no-value", problem=f"{', '.join(unknown)} in {text!r} is no column of the filetype")
        return
    for part in pattern.parts:
        if isinstance(part, Variable) and part.width and types[part.key] != "int":
            reason = f"{part.key} is {types[part.key]}, so that '7' and '07' would have one name"
            yield replace(about, kind="padding", problem=f"{text!r} pads {part.key}, but {reason}")
    sample = pattern.expand({key: _SAMPLES[types[key]][0] for key in pattern.keys})
    if is_safe_path(sample) is None:
        reason = "without '..', empty parts and any of [ ] * ? \\"
        yield replace(about, kind="template", problem=f"{text!r} must give a relative path {reason}")
    yield from _lost_keys(mapper, filetype, pattern.keys, text, about)
    lacking = [key for key in RUN_KEYS if key not in pattern.keys]
    if lacking and (len(lacking) < len(RUN_KEYS) or _is_output(mapper, filetype, pattern)):
        reason = f"lacks {', '.join(lacking)}: two runs would write one name"
        yield replace(about, kind="run", problem=f"{text!r} {reason}")
    for one in (filetype.directory, filetype.name_pattern):
        wrong = _not_inverted(mapper, one, types) if one is not None else ""
        if wrong:
            yield replace(about, kind="ambiguous", problem=wrong)


def _lost_keys(
    mapper: Mapper, filetype: Filetype, keys: tuple[str, ...], text: str, about: Problem
) -> Iterator[Problem]:
    # Raws come with names of their own, by which the camera tells them apart.
    if _FILENAME in keys or (filetype.name == mapper.raw_filetype and keys):
        return
    lost = [key for key in filetype.keys if key not in keys]
    if lost:
        reason = f"lacks {', '.join(lost)} of the data id: two files would have one name"
        yield replace(about, kind="lost-key", problem=f"{text!r} {reason}")


def _is_output(mapper: Mapper, filetype: Filetype, pattern: Pattern) -> bool:
    """Return whether runs write such files, as they do not raws, calibrations and what is marked as only read."""
    own = [dataset for dataset in mapper.datasets if dataset.filetype == filetype.name]
    if filetype.name == mapper.raw_filetype or _FILENAME in pattern.keys:
        return False
    return bool(own) and not any(dataset.is_calibration or _said(mapper, dataset, "only_read") for dataset in own)


def _said(mapper: Mapper, dataset: Dataset, field: str) -> Any:
    """Return what ``mapper.toml`` says in a field that only this check reads."""
    found = [table[field] for table in mapper.entries(dataset.name, dataset.era).values() if field in table]
    return found[-1] if found else None


def _not_inverted(mapper: Mapper, pattern: Pattern, types: Mapping[str, str]) -> str:
    """Return an example of a text that is not read back as it was made, or an empty text."""
    for turn in range(3):
        values = {}
        for at, key in enumerate(pattern.keys):
            bands = tuple(mapper.bands) if key == mapper.keys.filter else ()
            samples = bands or _SAMPLES[types[key]]
            values[key] = samples[(turn + at) % len(samples)]
        text = pattern.expand(values)
        back = pattern.invert(text, types)
        if back is None or any(str(back[key]) != str(values[key]) for key in values):
            return f"{pattern.text!r} cannot be read backwards: {_shown(values)} gives {text!r}, read as {_shown(back)}"
    return ""


def _shown(values: Mapping[str, object] | None) -> str:
    return "nothing" if values is None else " ".join(f"{key}={value}" for key, value in values.items())


def _of_entries(mapper: Mapper, dataset: Dataset) -> Iterator[Problem]:
    about = Problem(mapper.name, "unknown", dataset.name, dataset.filetype, "", dataset.era)
    for table, entry in mapper.entries(dataset.name, dataset.era).items():
        if table.startswith("kinds.") and not entry:
            yield replace(about, problem=f"{mapper.file.name} has no table [{table}]")
    sibling = _said(mapper, dataset, "same_place")
    if sibling is not None and sibling not in {other.name for other in mapper.datasets}:
        yield replace(about, problem=f"same_place names {sibling}, which is no dataset type")


def _merged(mapper: Mapper, era: str, repo: Path | None) -> tuple[list[Dataset], list[Problem]]:
    """Return the dataset types that a Butler knows by the merged policy, and what keeps it from knowing others."""
    tree = policy_tree(merged_policy(mapper, era, repo))
    own = {dataset.name: dataset for dataset in mapper.datasets if dataset.era == era}
    named = {dataset.name: dataset.filetype for dataset in mapper.datasets}
    found, problems = [], []
    for section, name, entry in _policy_entries(tree):
        about = Problem(mapper.name, "override", name, named.get(name, ""), "", era)
        template, tables = (entry.get(field) for field in ("template", "tables")) if entry else (None, ())
        tables = [tables] if isinstance(tables, str) else tables or []
        lacking = [field for field in ("template", "python", "persistable", "storage") if not (entry or {}).get(field)]
        if name in own and own[name].section != section:
            text = f"{name} is in section {own[name].section}, not {section}: 2017 ignores this entry, 2021 refuses it"
            problems.append(replace(about, problem=text))
        elif name not in own and lacking:
            text = f"the Butler has no {name} of its own, and the entry lacks {', '.join(lacking)}"
            problems.append(replace(about, problem=text))
        elif not isinstance(template, str) or not isinstance(tables, list):
            problems.append(replace(about, problem=f"{name} needs a text as template and a list as tables"))
        else:
            known = own.get(name) or Dataset(name, era, section, "", (), named.get(name, ""), "", "", "")
            found.append(replace(known, template=template, tables=tuple(map(str, tables))))
    return found, problems


def _policy_entries(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for section in SECTIONS:
        datasets = tree.get(section)
        for name, entry in datasets.items() if isinstance(datasets, dict) else ():
            yield section, name, entry if isinstance(entry, dict) else {}


def _of_dataset(mapper: Mapper, dataset: Dataset) -> Iterator[Problem]:
    about = Problem(mapper.name, "", dataset.name, dataset.filetype, "", dataset.era)
    filetype = mapper.filetypes.get(dataset.filetype)
    if filetype is None and dataset.filetype:
        yield replace(about, kind="unknown", problem=f"its filetype {dataset.filetype} is not defined")
    try:
        fields = [part for part in template_parts(dataset.template) if isinstance(part, Field)]
    except UsageError as error:
        yield replace(about, kind="template", problem=f"{dataset.template!r}: {error}")
        return
    values = {field.key: 7 if field.conversion == "d" else "a" for field in fields}
    # what a bracket begins is no part of the path: the Butler reads it as the number of an HDU
    if is_safe_path((dataset.template % values).partition("[")[0]) is None:
        text = f"{dataset.template!r} must give a relative path without '..', empty parts and any of [ ] * ? \\"
        yield replace(about, kind="template", problem=text)
    if filetype is not None:
        yield from _of_fields(mapper, dataset, filetype, about)
        yield from _of_output(mapper, dataset, filetype, about)


def _of_fields(mapper: Mapper, dataset: Dataset, filetype: Filetype, about: Problem) -> Iterator[Problem]:
    known, text, parts = butler_types(mapper, dataset), dataset.template, template_parts(dataset.template)
    fields = [part for part in parts if isinstance(part, Field)]
    for key in dict.fromkeys(field.key for field in fields):
        if key not in known:
            reason = "no key of its data id" if key in filetype.types else "no column of its filetype"
            tables = f"the registry has no {key} for it" if dataset.tables else "it has no tables to ask"
            yield replace(about, kind="no-value", problem=f"{key} in {text!r} is {reason}, and {tables}")
    types = known | filetype.types
    for field in fields:
        kind = types.setdefault(field.key, "int" if field.conversion == "d" else "str")
        if field.conversion == "d" and kind != "int":
            yield replace(about, kind="type", problem=f"{text!r} writes {field.key} as a number, but it is {kind}")
    yield from _lost_keys(mapper, filetype, tuple(field.key for field in fields), text, about)
    pattern = Pattern(text, tuple(part if isinstance(part, str) else Variable(part.key, part.width) for part in parts))
    wrong = _not_inverted(mapper, pattern, types)
    if wrong:
        yield replace(about, kind="ambiguous", problem=wrong)


def _of_output(mapper: Mapper, dataset: Dataset, filetype: Filetype, about: Problem) -> Iterator[Problem]:
    """Make the template that a job gives to an output, the way that jobs do."""
    pattern = archive_pattern(filetype)
    if pattern is None or not set(pattern.keys) <= filetype.types.keys() | set(RUN_KEYS):
        return  # it cannot be an output, or is reported as a pattern
    if not dataset.is_calibration and not _is_output(mapper, filetype, pattern):
        return
    try:
        output_template(mapper, dataset, _RUN)
    except UsageError as error:
        yield replace(about, kind="no-value", problem=str(error))


def _archive_names(mapper: Mapper) -> Iterator[_Name]:
    for filetype in mapper.filetypes.values():
        pattern = archive_pattern(filetype)
        if pattern is not None:
            # with the run in it, it is the name of an output in a job's repository too
            roots = frozenset({"archive", "job"} if set(RUN_KEYS) <= set(pattern.keys) else {"archive"})
            pieces = pattern_pieces(pattern, filetype.types | _TYPES)
            yield _Name(pattern.text, pieces, roots, filetype.dataset or "", filetype.name, "")


def _place_name(mapper: Mapper, dataset: Dataset) -> _Name:
    filetype = mapper.filetypes.get(dataset.filetype)
    known = any(one.name == dataset.name and one.era == dataset.era for one in mapper.datasets)
    family = (_said(mapper, dataset, "same_place") if known else None) or dataset.name
    root = "calibrations" if dataset.is_calibration and mapper.calib_root != "." else "job"
    pieces = template_pieces(dataset.template, filetype.types if filetype else {})
    return _Name(dataset.template, pieces, frozenset({root}), dataset.name, dataset.filetype, family, dataset.era)


def _collisions(mapper: Mapper, names: Iterable[_Name]) -> Iterator[Problem]:
    for one, other in combinations(names, 2):
        path = common_path(one.pieces, other.pieces) if one.roots & other.roots and not _may_meet(one, other) else None
        if path is not None:
            first, second = sorted((one, other), key=lambda name: (name.dataset, name.filetype, name.text))
            text = f"{first.text!r} and {second.text!r} of {second.dataset or second.filetype} can both be {path!r}"
            eras = " ".join(sorted({first.era, second.era} - {""}))
            yield Problem(mapper.name, "collision", first.dataset, first.filetype, text, eras)


def _may_meet(one: _Name, other: _Name) -> bool:
    """Return whether two names stand for the same files, or a run's name replaces the other."""
    if one.text == other.text and one.family and one.family == other.family:
        return True
    is_same_type = bool(one.filetype) and one.filetype == other.filetype
    return is_same_type and (one.text == other.text or one.roots != other.roots)
