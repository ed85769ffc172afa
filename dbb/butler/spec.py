"""What a job repository shall hold: read from ``job.toml`` or built by a program."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from dbb.butler.linker import MOST_FOLDERS
from dbb.errors import NotFoundError, UsageError, known_names
from dbb.mapper import eras_of
from dbb.patterns import safe_path
from dbb.refcats.shards import check_name
from dbb.storage import STAGE_MODES

_MARGIN, _WIDEST = 0.05, 10
"""Degrees: how far beyond a job's region the shards of a catalogue reach if nothing is said, and at most."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Datasets of one type that the job reads.

    Parameters
    ----------
    dataset
        Butler dataset type or filetype.
    where, id
        An expression; Gen2 data ids, any of which may fit. Both given: both must hold.
    runs
        Runs and ``tag:NAME`` in order; the first that has a data id wins.
    files
        Numbers of registered files, where a program has chosen them already.
    """

    dataset: str
    where: str | None = None
    id: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    files: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CalibSpec:
    """Calibrations: a certified version, and types (None: those that the version has, as far as they apply)."""

    version: str
    types: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RefcatSpec:
    """A reference catalogue.

    Parameters
    ----------
    name
        As registered.
    whole
        Every file of it, instead of the shards that the inputs' region on the sky needs.
    margin
        How far the shards reach beyond that region, in degrees.
    """

    name: str
    whole: bool = False
    margin: float = _MARGIN

    def __post_init__(self) -> None:
        check_name(self.name)
        if not (isfinite(self.margin) and 0 <= self.margin <= _WIDEST):
            raise UsageError(f"margin {self.margin} of {self.name}: give 0 to {_WIDEST} degrees, or whole = true")


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A registered file (its name, or its path in an archive) that must lie at a fixed place below ``in/``."""

    filename: str
    as_path: str


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What the job writes: the run that its names carry, and dataset types."""

    run: str
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepoSpec:
    """Everything about a job repository.

    Parameters
    ----------
    mapper
        The camera.
    inputs, calibs, refcats, files, outputs
        See the classes.
    stage
        ``auto`` links what is local and copies what is not; or symlink, relsymlink, hardlink, copy.
    era
        ``2017``, ``2021`` or ``both``: which Gen2 stacks read it.
    archives
        Which archive's copy of a file is preferred.
    overlaps
        The overlap version that ``tract`` and ``patch`` of exposures refer to.
    """

    mapper: str
    inputs: tuple[InputSpec, ...] = ()
    calibs: CalibSpec | None = None
    files: tuple[FileSpec, ...] = ()
    outputs: OutputSpec | None = None
    stage: str = "auto"
    era: str = "both"
    archives: tuple[str, ...] = ()
    overlaps: str | None = None
    binds: Mapping[str, object] = field(default_factory=dict)
    refcats: tuple[RefcatSpec, ...] = ()

    def __post_init__(self) -> None:
        if self.stage not in STAGE_MODES:
            raise UsageError(f"stage {self.stage!r} is none of {', '.join(STAGE_MODES)}")
        eras_of(self.era)
        for file in self.files:
            if safe_path(file.as_path, "fixed name").count("/") >= MOST_FOLDERS:
                raise UsageError(f"fixed name {file.as_path[:60]}… lies more than {MOST_FOLDERS} folders deep")
        names = [refcat.name for refcat in self.refcats]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"reference catalogue {twice!r} is asked for twice")


_TOP = {"mapper", "stage", "era", "archives", "overlaps", "inputs", "calibs", "files", "refcats", "outputs"}


def read_spec(path: Path) -> RepoSpec:
    """Read a job file.

    Raises
    ------
    NotFoundError
        If there is no such file.
    UsageError
        If it is no TOML, holds an unknown key, or an entry has the wrong form.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError("job file", str(path), hint="There is no such file") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"job file {path} cannot be read: {error}") from error
    try:
        return _spec(data)
    except UsageError as error:
        error.args = (f"job file {path}: {error.args[0]}",)
        raise


def _spec(data: Mapping[str, Any]) -> RepoSpec:
    _only(data, _TOP, "the job file")
    calibs, outputs = data.get("calibs"), data.get("outputs")
    return RepoSpec(
        mapper=_text(data, "mapper", "the job file"),
        inputs=tuple(_input(entry) for entry in _tables(data, "inputs")),
        calibs=None if calibs is None else _calibs(calibs),
        files=tuple(_file(entry) for entry in _tables(data, "files")),
        outputs=None if outputs is None else _outputs(outputs),
        stage=_text(data, "stage", "the job file") if "stage" in data else "auto",
        era=_text(data, "era", "the job file") if "era" in data else "both",
        archives=_texts(data, "archives"),
        overlaps=_text(data, "overlaps", "the job file") if "overlaps" in data else None,
        refcats=tuple(_refcat(entry) for entry in _tables(data, "refcats")),
    )


def _input(entry: Mapping[str, Any]) -> InputSpec:
    _only(entry, {"dataset", "where", "id", "runs"}, "[[inputs]]")
    where = _text(entry, "where", "[[inputs]]") if "where" in entry else None
    return InputSpec(_text(entry, "dataset", "[[inputs]]"), where, _texts(entry, "id"), _texts(entry, "runs"))


def _calibs(entry: Mapping[str, Any]) -> CalibSpec:
    _only(entry, {"version", "types"}, "[calibs]")
    types = _texts(entry, "types") if "types" in entry else None
    return CalibSpec(_text(entry, "version", "[calibs]"), types)


def _outputs(entry: Mapping[str, Any]) -> OutputSpec:
    _only(entry, {"run", "datasets"}, "[outputs]")
    return OutputSpec(_text(entry, "run", "[outputs]"), _texts(entry, "datasets"))


def _refcat(entry: Mapping[str, Any]) -> RefcatSpec:
    _only(entry, {"name", "whole", "margin"}, "[[refcats]]")
    whole, margin = entry.get("whole", False), entry.get("margin", _MARGIN)
    if not isinstance(whole, bool):
        raise UsageError("[[refcats]]: whole is true or false")
    if isinstance(margin, bool) or not isinstance(margin, int | float):
        raise UsageError("[[refcats]]: margin is a number of degrees")
    return RefcatSpec(_text(entry, "name", "[[refcats]]"), whole, float(margin))


def _file(entry: Mapping[str, Any]) -> FileSpec:
    _only(entry, {"filename", "as"}, "[[files]]")
    return FileSpec(_text(entry, "filename", "[[files]]"), _text(entry, "as", "[[files]]"))


def _only(entry: Any, known: set[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where} must be a table")
    for key in entry:
        if key not in known:
            raise UsageError(f"unknown key {key!r}{known_names(key, sorted(known))}. It stands in {where}")


def _tables(data: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UsageError(f"write [[{key}]], not [{key}]")
    return value


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where} needs a text for {key!r}")
    return value


def _texts(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise UsageError(f"{key!r} must be a text or a list of texts")
    return tuple(values)
