"""What a camera is: Butler dataset types and templates of both eras, registry columns, keys, synonyms, header rules.

A mapper is a folder with ``mapper.toml`` and ``filetypes.toml`` plus at most two functions. ``mapper.toml`` holds::

    butler_class = "lsst.obs.hsc.hscMapper.HscMapper"
    raw = "hsc_raw"                       # the filetype of raw exposures
    [synonyms]
    detector = "ccd"
    [filters]
    HSC-R = "r"                           # physical filter = band
    [registry]                            # tables of the job's registry.sqlite3
    exposure = ["visit", "ccd"]           # the keys of one row
    date = "taiObs"                       # what calibrations are chosen by
    raw = { visit = "int", ccd = "int" }  # columns and their SQLite types
    visit = ["visit", "field"]            # columns of raw_visit, the first is its key
    [kinds.exposure]                      # what the Butler must know of a new dataset type
    python = "lsst.afw.image.ExposureF"
    persistable = "ExposureF"
    storage = "FitsStorage"
    [datasets.calexp]
    section = "exposures"                 # where the Butler's policy has it
    kind = "exposure"                     # python, persistable and storage may also be given here
    template = "..."
    tables = ["raw"]
    filetype = "calexp"                   # default: the dataset type in lower case
    eras = ["2017", "2021"]               # default: both
    [datasets.calexp.era.2021]            # what differs there
    template = "..."
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dbb.errors import NotFoundError, UsageError
from dbb.filetypes import Filetype, load_filetypes

ERAS = ("2017", "2021")
_SECTIONS = ("exposures", "calibrations", "datasets")
_TEMPLATE_KEY = re.compile(r"%\(([A-Za-z_][A-Za-z0-9_]*)\)[0-9]*[ds]")

Header = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A Butler dataset type as one era knows it."""

    name: str
    era: str
    section: str
    template: str
    tables: tuple[str, ...]
    filetype: str
    python: str
    persistable: str
    storage: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the template in order of first use."""
        return tuple(dict.fromkeys(_TEMPLATE_KEY.findall(self.template)))

    @property
    def is_calibration(self) -> bool:
        """Whether its files lie under the calibration root."""
        return self.section == "calibrations"

    @property
    def is_validity_ranged(self) -> bool:
        """Whether the calibration registry has a table of it."""
        return self.is_calibration and bool(self.tables)


def eras_of(era: str) -> tuple[str, ...]:
    """Return the eras that ``2017``, ``2021`` or ``both`` stands for.

    Raises
    ------
    UsageError
        If `era` is none of them.
    """
    if era == "both":
        return ERAS
    if era not in ERAS:
        raise UsageError(f"era {era!r} is none of {', '.join(ERAS)}, both")
    return (era,)


class Mapper:
    """One camera; its files are read when first asked for, so that naming a mapper costs nothing.

    Parameters
    ----------
    name
        As given to ``--mapper``.
    folder
        Holds ``mapper.toml`` and ``filetypes.toml``.
    translate
        Header of a raw to its metadata (all columns whose source is ``mapper``); raises HeaderError.
    derive
        Metadata to further columns that follow from it, e.g. taiObs from dateObs.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        translate: Callable[[Header], dict[str, object]] | None = None,
        derive: Callable[[Mapping[str, object]], dict[str, object]] | None = None,
    ) -> None:
        self.name, self.folder = name, folder
        self.translate = translate
        self.derive = derive or (lambda known: {})

    def __repr__(self) -> str:
        return f"Mapper({self.name!r})"

    @cached_property
    def _data(self) -> dict[str, Any]:
        path = self.folder / "mapper.toml"
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"mapper {self.name}: {path} cannot be read: {error}") from error

    @cached_property
    def filetypes(self) -> dict[str, Filetype]:
        """All filetypes of the camera by name."""
        return load_filetypes(self.folder / "filetypes.toml")

    @property
    def butler_class(self) -> str:
        """The Python class that repositoryCfg.yaml names."""
        return str(self._data["butler_class"])

    @property
    def raw_filetype(self) -> str:
        """The filetype of raw exposures."""
        return str(self._data["raw"])

    @property
    def synonyms(self) -> dict[str, str]:
        """Other names of keys, e.g. detector for ccd."""
        return dict(self._data.get("synonyms", {}))

    @property
    def bands(self) -> dict[str, str]:
        """Band of each physical filter."""
        return dict(self._data.get("filters", {}))

    @property
    def raw_columns(self) -> dict[str, str]:
        """Columns of the job registry's table raw, with their SQLite types."""
        return dict(self._data["registry"]["raw"])

    @property
    def visit_columns(self) -> tuple[str, ...]:
        """Columns of the job registry's table raw_visit; the first is its key."""
        return tuple(self._data["registry"]["visit"])

    @property
    def exposure_keys(self) -> tuple[str, ...]:
        """The keys of one row of the table raw."""
        return tuple(self._data["registry"]["exposure"])

    @property
    def date_column(self) -> str:
        """The column of raw that calibrations are chosen by."""
        return str(self._data["registry"]["date"])

    @cached_property
    def datasets(self) -> tuple[Dataset, ...]:
        """Every dataset type in every era that knows it."""
        return tuple(
            self._dataset(name, entry, era)
            for name, entry in self._data["datasets"].items()
            for era in entry.get("eras", ERAS)
        )

    def _dataset(self, name: str, entry: Mapping[str, Any], era: str) -> Dataset:
        merged = {**entry, **entry.get("era", {}).get(era, {})}
        merged = {**self._data.get("kinds", {}).get(merged.get("kind"), {}), **merged}
        if merged.get("section") not in _SECTIONS:
            raise UsageError(f"mapper {self.name}: dataset {name} needs a section out of {', '.join(_SECTIONS)}")
        return Dataset(
            name=name,
            era=era,
            section=str(merged["section"]),
            template=str(merged["template"]),
            tables=tuple(merged.get("tables", ())),
            filetype=str(merged.get("filetype", name.lower())),
            python=str(merged.get("python", "")),
            persistable=str(merged.get("persistable", "")),
            storage=str(merged.get("storage", "")),
        )

    @cached_property
    def _by_dataset(self) -> dict[str, str]:
        """Lower-case dataset type to filetype."""
        return {dataset.name.lower(): dataset.filetype for dataset in self.datasets}

    def filetype_name(self, name: str) -> str:
        """Return the filetype that `name`, a filetype or Butler dataset type, stands for.

        Raises
        ------
        NotFoundError
            If the camera knows no such name.
        """
        wanted = name.lower()
        if wanted in self._by_dataset:
            return self._by_dataset[wanted]
        if wanted in self.filetypes:
            return wanted
        raise NotFoundError("dataset type", name, {*self.filetypes, *(dataset.name for dataset in self.datasets)})

    def layouts(self, name: str, eras: Sequence[str]) -> tuple[Dataset, ...]:
        """Return what the Butlers of `eras` call the dataset `name`, a filetype or dataset type.

        Raises
        ------
        NotFoundError
            If the camera has no such dataset type, or none in these eras.
        """
        filetype = self.filetype_name(name)
        found = tuple(dataset for dataset in self.datasets if dataset.filetype == filetype and dataset.era in eras)
        if not found:
            known = {dataset.name for dataset in self.datasets if dataset.era in eras}
            raise NotFoundError("dataset type", name, known, f"It is not known to the Butler of {' and '.join(eras)}")
        return found

    def calibration_types(self, eras: Iterable[str]) -> tuple[Dataset, ...]:
        """Return the calibrations with validity ranges that the Butlers of `eras` know, each once."""
        wanted = set(eras)
        found = {d.name: d for d in self.datasets if d.is_validity_ranged and d.era in wanted}
        return tuple(found.values())
