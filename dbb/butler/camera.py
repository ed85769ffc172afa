"""What a job repository takes from its camera: layout of the registries and templates of the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbb.butler.layout import Layout
from dbb.errors import UsageError
from dbb.mapper import Dataset, Mapper, eras_of
from dbb.patterns import RUN_KEYS, parse_pattern


def camera_layout(mapper: Mapper, era: str) -> Layout:
    """Return the layout of the job registries for the Butlers of `era`."""
    types = [dataset.name for dataset in mapper.calibration_types(eras_of(era))]
    return Layout(mapper.butler_class, mapper.raw_columns, mapper.visit_columns, mapper.exposure_keys, types)


def output_entries(mapper: Mapper, era: str, datasets: Sequence[str], run: dict[str, object]) -> list[dict[str, Any]]:
    """Return the manifest's ``outputs``: for each dataset type a template that carries the run's names.

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
            template = output_template(mapper, dataset, run)
            entry: dict[str, Any] = {"dataset": dataset.name, "section": dataset.section, "template": template}
            if len({one.era for one in layouts if one.name == dataset.name}) < len(eras):
                # one of the Butlers does not know this type: it must be told everything
                entry |= {"python": dataset.python, "persistable": dataset.persistable, "storage": dataset.storage}
                entry |= {"tables": list(dataset.tables)} if dataset.tables else {}
            found[dataset.name] = entry
    return list(found.values())


def output_template(mapper: Mapper, dataset: Dataset, run: dict[str, object]) -> str:
    """Return the Butler template of what a run writes, made from the archive patterns of its filetype."""
    filetype = mapper.filetypes[dataset.filetype]
    if filetype.name_pattern is None:
        raise UsageError(f"filetype {filetype.name} has no name pattern, so {dataset.name} cannot be an output")
    directory = filetype.directory or parse_pattern("")
    text = directory.text + "/" if directory.text else ""
    pattern = parse_pattern(text + filetype.name_pattern.text)
    known = {*dataset.keys, *(mapper.raw_columns if dataset.tables else ())}
    missing = [key for key in pattern.keys if key not in known and key not in RUN_KEYS]
    if missing:
        raise UsageError(f"{dataset.name}: the Butler has no value for {', '.join(missing)} in {pattern.text!r}")
    return pattern.template(filetype.types, run)
