"""What a camera is: Butler dataset types and templates of both eras, registry columns, keys, synonyms, header rules.

A mapper is one TOML file, or a folder with the same as ``mapper.toml`` and ``filetypes.toml`` (see `dbb.filetypes`),
plus at most two functions. Besides filetypes and header rules (see `dbb.headers`) it holds::

    base = "../common.toml"               # a file of the same form, whose entries hold unless there is one's own
    butler_class = "lsst.obs.camera.CameraMapper"
    raw = "raw"                           # the filetype of raw exposures
    [synonyms]
    detector = "ccd"
    [filters]
    R2 = "r"                              # physical filter = band
    [registry]                            # tables of the job's registry.sqlite3
    exposure = ["visit", "ccd"]           # the keys of one row: the visit's, the detector's
    date = "taiObs"                       # what calibrations are chosen by
    raw = { visit = "int", ccd = "int" }  # columns and their SQLite types
    visit = ["visit", "field"]            # columns of raw_visit, the first is its key
    calib_root = "."                      # where the class looks for calibrations: in "CALIB" (default), or here
    [registry.calibration]                # columns of calibRegistry.sqlite3; these are the defaults
    filter = "filter"
    date = "calibDate"
    no_filter = "NONE"                    # the filter of calibrations that have none
    [registry.detectors]                  # only where files hold several detectors
    column = "ccds"                       # of the filetype: a text of detector:HDU pairs, from source = "each:KEY"
    detector = ["ccd", "ccdnum"]          # columns of raw that are the detector
    hdu = "hdu"                           # the column of raw that is the HDU
    known = [1, 2, 3]                     # those that count; default: all
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
    only_read = true                      # no run writes it: `dbb policy check` wants no run in its archive name
    same_place = "icExp"                  # by the Butler's own policy both share a template: the check accepts it
    [datasets.calexp.era.2021]            # what differs there
    template = "..."
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from dbb.camerafile import check_camera
from dbb.errors import NotFoundError, UsageError
from dbb.filetypes import Filetype, read_filetypes
from dbb.headers import HeaderRule, read_rules
from dbb.keys import CameraKeys

ERAS = ("2017", "2021")
SECTIONS = ("exposures", "calibrations", "datasets")
_TEMPLATE_KEY = re.compile(r"%\(([A-Za-z_][A-Za-z0-9_]*)\)[0-9]*[ds]")

_T = TypeVar("_T")
_KINDS: Mapping[type, str] = {str: "string", list: "array", dict: "table"}

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


@dataclass(frozen=True, slots=True)
class Detectors:
    """How files of several detectors say which they hold; see ``registry.detectors``."""

    column: str
    detector: tuple[str, ...]
    hdu: str
    known: frozenset[object] | None


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
    path
        The TOML file, or the folder of ``mapper.toml`` and ``filetypes.toml``.
    translate
        Header of a raw to its metadata (all columns whose source is ``mapper``), where no rule of the file says it;
        raises HeaderError.
    derive
        Metadata to further columns that follow from it, e.g. taiObs from dateObs.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        translate: Callable[[Header], dict[str, object]] | None = None,
        derive: Callable[[Mapping[str, object]], dict[str, object]] | None = None,
    ) -> None:
        self.name, self.path = name, path
        self.translate = translate
        self.derive = derive or (lambda known: {})

    def __repr__(self) -> str:
        return f"Mapper({self.name!r})"

    @property
    def file(self) -> Path:
        """The file that says what the Butler knows."""
        return self.path if self.path.suffix == ".toml" else self.path / "mapper.toml"

    @cached_property
    def _own(self) -> dict[str, Any]:
        found = self._load(self.file)
        return found if self.path == self.file else found | self._load(self.path / "filetypes.toml")

    @cached_property
    def _data(self) -> dict[str, Any]:
        """The camera's own entries, with those of its base that it has not."""
        merged = dict(self._own)
        if self._base is not None:
            given = self._load(self._base)
            if "base" in given:
                raise UsageError(f"mapper {self.name}: {self._base} has a base itself: only one is taken")
            for name, table in given.items():
                merged[name] = {**table, **merged[name]} if name in merged else table
        return merged

    @property
    def _base(self) -> Path | None:
        return self.file.parent / str(self._own["base"]) if "base" in self._own else None

    def origin(self, table: str) -> str:
        """Return which file holds a table of `entries`, and the table: ``camera/mapper.toml [datasets.raw]``."""
        section, name = table.split(".")[:2]
        file = self.file if self._base is None or name in self._own.get(section, {}) else self._base.resolve()
        return f"{file.parent.name}/{file.name} [{table}]"

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"mapper {self.name}: {path} cannot be read: {error}") from error
        check_camera(found, f"mapper {self.name}: {path}", ERAS)
        return found

    def _get(self, kind: type[_T], *keys: str) -> _T:
        """Return an entry that must be there, and of a kind."""
        value: Any = self._data
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, kind):
            raise UsageError(f"mapper {self.name}: {self.file} needs {'.'.join(keys)}, a TOML {_KINDS[kind]}")
        return value

    @cached_property
    def filetypes(self) -> dict[str, Filetype]:
        """All filetypes of the camera by name."""
        given = {name: self._data.get(name, {}) for name in ("sets", "filetypes")}
        return {name: replace(one, mapper=self.name) for name, one in read_filetypes(given, self.path).items()}

    @cached_property
    def header_rules(self) -> dict[str, HeaderRule]:
        """What the columns with the source ``mapper`` follow from, where data say it."""
        try:
            return read_rules(self._data.get("headers", {}))
        except UsageError as error:
            raise UsageError(f"mapper {self.name}: {self.file}: {error}") from error

    @property
    def butler_class(self) -> str:
        """The Python class that repositoryCfg.yaml names."""
        return self._get(str, "butler_class")

    @property
    def raw_filetype(self) -> str:
        """The filetype of raw exposures."""
        return self._get(str, "raw")

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
        return dict(self._get(dict, "registry", "raw"))

    @property
    def visit_columns(self) -> tuple[str, ...]:
        """Columns of the job registry's table raw_visit; the first is its key."""
        return tuple(self._get(list, "registry", "visit"))

    @property
    def exposure_keys(self) -> tuple[str, ...]:
        """The keys of one row of the table raw: the visit's, then the detector's."""
        keys = tuple(self._get(list, "registry", "exposure"))
        if len(keys) != 2:
            raise UsageError(f"mapper {self.name}: registry.exposure must be two keys, the visit's and the detector's")
        return keys

    @cached_property
    def keys(self) -> CameraKeys:
        """What the keys of exposures and calibrations are called."""
        given, standard = self._get(dict, "registry").get("calibration", {}), CameraKeys()
        visit, detector = self.exposure_keys
        return CameraKeys(
            visit,
            detector,
            str(given.get("filter", standard.filter)),
            str(given.get("date", standard.calib_date)),
            str(given.get("no_filter", standard.no_filter)),
        )

    @property
    def date_column(self) -> str:
        """The column of raw that calibrations are chosen by."""
        return self._get(str, "registry", "date")

    @property
    def calib_root(self) -> str:
        """Where below a repository the Butler class looks for calibrations: ``CALIB`` or ``.``."""
        return str(self._get(dict, "registry").get("calib_root", "CALIB"))

    @cached_property
    def detectors(self) -> Detectors | None:
        """How a file of several detectors says which; None where each has a file of its own."""
        if "detectors" not in self._get(dict, "registry"):
            return None
        at = ("registry", "detectors")
        known = self._get(dict, *at).get("known")
        return Detectors(
            self._get(str, *at, "column"),
            tuple(self._get(list, *at, "detector")),
            self._get(str, *at, "hdu"),
            None if known is None else frozenset(known),
        )

    @cached_property
    def datasets(self) -> tuple[Dataset, ...]:
        """Every dataset type in every era that knows it."""
        return tuple(
            self._dataset(name, era)
            for name, entry in self._get(dict, "datasets").items()
            for era in entry.get("eras", ERAS)
        )

    def entries(self, name: str, era: str) -> dict[str, Mapping[str, Any]]:
        """Return what `file` says of a dataset type, by the name of its table; the later ones win."""
        entry = self._data["datasets"][name]
        of_era = entry.get("era", {}).get(era, {})
        kind = of_era.get("kind", entry.get("kind"))
        of_kind = {} if kind is None else {f"kinds.{kind}": self._data.get("kinds", {}).get(kind, {})}
        return {**of_kind, f"datasets.{name}": entry, f"datasets.{name}.era.{era}": of_era}

    def _dataset(self, name: str, era: str) -> Dataset:
        merged: dict[str, Any] = {}
        for table in self.entries(name, era).values():
            merged |= table
        if merged.get("section") not in SECTIONS:
            raise UsageError(f"mapper {self.name}: dataset {name} needs a section out of {', '.join(SECTIONS)}")
        if "template" not in merged:
            raise UsageError(f"mapper {self.name}: dataset {name} of {era} needs a template")
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
