"""What a job repository takes from its camera: layout of the registries and templates of the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dbb.butler.layout import Layout
from dbb.errors import UsageError
from dbb.filetypes import Filetype
from dbb.mapper import Dataset, Mapper, eras_of
from dbb.patterns import RUN_KEYS, Pattern, parse_pattern

COLUMN_TYPES = {"int": "int", "text": "str", "double": "float"}
"""The column type of each SQLite type that the registry of a job may have."""


def camera_layout(mapper: Mapper, era: str) -> Layout:
    """Return the layout of the job registries for the Butlers of `era`.

    Raises
    ------
    UsageError
        If the camera's file lacks something, or names what no registry can have.
    """
    types = [dataset.name for dataset in mapper.calibration_types(eras_of(era))]
    columns = mapper.raw_columns, mapper.visit_columns, mapper.exposure_keys
    given = mapper.butler_class, *columns, types, mapper.keys, mapper.calib_root
    try:
        return Layout(*given)
    except UsageError as error:
        raise UsageError(f"mapper {mapper.name}: {mapper.file}: {error}") from error


def output_entries(
    mapper: Mapper,
    era: str,
    datasets: Sequence[str],
    run: dict[str, object],
    patterns: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return the manifest's ``outputs``: for each dataset type a template that carries the run's names.

    `patterns` are names below the repository, as ``${key:N}``, that count instead of the filetypes' own.

    Raises
    ------
    NotFoundError
        If the camera knows no such dataset type.
    UsageError
        If its filetype says no archive name, or one that the Butler cannot fill.
    """
    eras = eras_of(era)
    found: dict[str, dict[str, Any]] = {}
    for name in datasets:
        layouts = mapper.layouts(name, eras)
        for dataset in layouts:
            template = output_template(mapper, dataset, run, (patterns or {}).get(name))
            entry: dict[str, Any] = {"dataset": dataset.name, "section": dataset.section, "template": template}
            if len({one.era for one in layouts if one.name == dataset.name}) < len(eras):
                # one of the Butlers does not know this type: it must be told everything
                entry |= {"python": dataset.python, "persistable": dataset.persistable, "storage": dataset.storage}
                entry |= {"tables": list(dataset.tables)} if dataset.tables else {}
            found[dataset.name] = entry
    return list(found.values())


def output_template(mapper: Mapper, dataset: Dataset, run: dict[str, object], given: str | None = None) -> str:
    """Return the Butler template of what a run writes: from `given`, or the archive patterns of its filetype."""
    filetype = mapper.filetypes[dataset.filetype]
    pattern = archive_pattern(filetype) if given is None else parse_pattern(given)
    known = butler_types(mapper, dataset)
    if pattern is None:
        raise UsageError(f"filetype {filetype.name} has no name pattern, so {dataset.name} cannot be an output")
    missing = [key for key in pattern.keys if key not in {*known, *dataset.keys, *RUN_KEYS}]
    if missing:
        raise UsageError(f"{dataset.name}: the Butler has no value for {', '.join(missing)} in {pattern.text!r}")
    return pattern.template(known | filetype.types, run)


def archive_pattern(filetype: Filetype) -> Pattern | None:
    """Return the pattern of a whole path in the archive, or None if the filetype does not say how files are called."""
    if filetype.name_pattern is None:
        return None
    directory = filetype.directory.text if filetype.directory else ""
    return parse_pattern(f"{directory}/{filetype.name_pattern.text}" if directory else filetype.name_pattern.text)


def butler_types(mapper: Mapper, dataset: Dataset) -> dict[str, str]:
    """Return what the Butler knows of a dataset once it has the data id: key to column type (see `dbb.filetypes`).

    These are the keys of the filetype and, if the dataset type has tables, what its registry adds: that of exposures
    the columns of ``raw`` or, where only the visit is given, of ``raw_visit``; that of calibrations its own columns.
    """
    filetype = mapper.filetypes[dataset.filetype]
    given, columns = set(filetype.keys), tuple[str, ...]()
    if mapper.detectors is not None and mapper.detectors.column in filetype.types:
        given |= set(mapper.detectors.detector)  # the file has several; a data id names one
    if dataset.is_validity_ranged:
        columns = (mapper.keys.filter, mapper.keys.detector, mapper.keys.calib_date)
    elif dataset.tables and set(mapper.exposure_keys) <= given:
        columns = tuple(mapper.raw_columns)
    elif dataset.tables and mapper.visit_columns[0] in given:
        columns = mapper.visit_columns
    of_registry = {name: COLUMN_TYPES[mapper.raw_columns.get(name, "text")] for name in columns}
    return of_registry | {key: filetype.types[key] for key in filetype.keys}
