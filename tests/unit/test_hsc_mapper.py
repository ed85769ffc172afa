"""HSC as data: every dataset type with its template, and archive names that can be read backwards."""

from __future__ import annotations

import contextlib
import csv
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.filetypes import CONVERTERS, Filetype
from dbb.mapper import ERAS, Dataset, Mapper
from dbb.patch import stored_patch
from dbb.patterns import RUN_KEYS, safe_path
from dbb_mappers.hsc import dbb_mappers

HSC: Mapper = dbb_mappers()[0]

VISIT = "%(visit)07d-%(ccd)03d"
FOLDER = "%(pointing)05d/%(filter)s"
PATCH = "%(filter)s-%(tract)d-%(patch)s"
COADD = "deepCoadd/%(filter)s/%(tract)d/%(patch)s"
RESULTS = "deepCoadd-results/%(filter)s/%(tract)d/%(patch)s"
MERGED = "deepCoadd-results/merged/%(tract)d/%(patch)s"
BY_FILTER = "%(calibDate)s/%(filter)s"

# Dataset types that both eras know by one template.
SAME = {
    "raw": f"%(field)s/%(dateObs)s/{FOLDER}/HSC-{VISIT}.fits",
    "bias": "BIAS/%(calibDate)s/NONE/BIAS-%(calibDate)s-%(ccd)03d.fits",
    "dark": "DARK/%(calibDate)s/NONE/DARK-%(calibDate)s-%(ccd)03d.fits",
    "flat": f"FLAT/{BY_FILTER}/FLAT-%(calibDate)s-%(filter)s-%(ccd)03d.fits",
    "fringe": f"FRINGE/{BY_FILTER}/FRINGE-%(calibDate)s-%(filter)s-%(ccd)03d.fits",
    "bfKernel": "BFKERNEL/brighter_fatter_kernel.pkl",
    "postISRCCD": "postISRCCD/v%(visit)07d-f%(filter)s/c%(ccd)03d.fits",
    "calexp": f"{FOLDER}/corr/CORR-{VISIT}.fits",
    "icExp": f"{FOLDER}/corr/ICEXP-{VISIT}.fits",
    "calexpBackground": f"{FOLDER}/corr/BKGD-{VISIT}.fits",
    "src": f"{FOLDER}/output/SRC-{VISIT}.fits",
    "icSrc": f"{FOLDER}/output/ICSRC-{VISIT}.fits",
    "srcMatch": f"{FOLDER}/output/SRCMATCH-{VISIT}.fits",
    "forced_src": f"{FOLDER}/tract%(tract)d/FORCEDSRC-{VISIT}.fits",
    "processCcd_config": "config/processCcd.py",
    "isr_config": "config/isr.py",
    "characterizeImage_config": "config/characterizeImage.py",
    "calibrate_config": "config/calibrate.py",
    "deep_makeCoaddTempExp_config": "config/deep_makeCoaddTempExp.py",
    "deep_assembleCoadd_config": "config/deep_assembleCoadd.py",
    "deep_safeClipAssembleCoadd_config": "config/deep_safeClipAssembleCoadd.py",
    "detectCoaddSources_config": "config/detect.py",
    "mergeCoaddDetections_config": "config/mergeDetect.py",
    "measureCoaddSources_config": "config/measureMerged.py",
    "mergeCoaddMeasurements_config": "config/mergeMeasure.py",
    "deepCoadd_forced_config": "config/forcedPhotCoadd.py",
    "packages": "config/packages.pickle",
    "src_schema": "schema/src.fits",
    "icSrc_schema": "schema/icSrc.fits",
    "forced_src_schema": "schema/forced_src_schema.fits",
    "deepCoadd_det_schema": "schema/deepCoadd_det.fits",
    "deepCoadd_mergeDet_schema": "schema/deepCoadd_mergeDet.fits",
    "deepCoadd_peak_schema": "schema/deepCoadd_peak.fits",
    "deepCoadd_meas_schema": "schema/deepCoadd_meas.fits",
    "deepCoadd_ref_schema": "schema/deepCoadd_ref.fits",
    "deepCoadd_forced_src_schema": "schema/deepCoadd_forced_src.fits",
    "deepCoadd_skyMap": "deepCoadd/skyMap.pickle",
    "deepCoadd": f"{COADD}.fits",
    "deepCoadd_calexp": f"{RESULTS}/calexp-{PATCH}.fits",
    "deepCoadd_calexp_background": f"{RESULTS}/det_bkgd-{PATCH}.fits",
    "deepCoadd_det": f"{RESULTS}/det-{PATCH}.fits",
    "deepCoadd_meas": f"{RESULTS}/meas-{PATCH}.fits",
    "deepCoadd_forced_src": f"{RESULTS}/forced_src-{PATCH}.fits",
    "deepCoadd_mergeDet": f"{MERGED}/mergeDet-%(tract)d-%(patch)s.fits",
    "deepCoadd_ref": f"{MERGED}/ref-%(tract)d-%(patch)s.fits",
    "ref_cat": "ref_cats/%(name)s/%(pixel_id)s.fits",
    "ref_cat_config": "ref_cats/%(name)s/config.py",
    "wcs": f"jointcal-results/%(tract)04d/wcs-{VISIT}.fits",
}
# Those that one era knows.
ONLY = {
    "2017": {
        "isr_metadata": f"{FOLDER}/isr_metadata/{VISIT}.boost",
        "deepCoadd_tempExp": f"{COADD}/warp-{PATCH}-%(visit)d.fits",
    },
    "2021": {
        "sky": f"SKY/{BY_FILTER}/SKY-%(calibDate)s-%(filter)s-%(ccd)03d.fits",
        "defects": "defects/%(calibDate)s/defects-%(calibDate)s-%(ccd)03d.fits",
        "yBackground": "STRAY_LIGHT/ybackground-%(ccd)03d.fits",
        "skyCorr": f"{FOLDER}/corr/skyCorr-{VISIT}.fits",
        "deepCoadd_directWarp": f"{COADD}/warp-{PATCH}-%(visit)d.fits",
        "deepCoadd_psfMatchedWarp": f"{COADD}/psfMatchedWarp-{PATCH}-%(visit)d.fits",
        "deepCoadd_nImage": f"{COADD}_nImage.fits",
        "jointcal_wcs": f"jointcal-results/%(filter)s/%(tract)04d/jointcal_wcs-{VISIT}.fits",
        "jointcal_photoCalib": f"jointcal-results/%(filter)s/%(tract)04d/jointcal_photoCalib-{VISIT}.fits",
    },
}
# Stems of what tasks tell: .boost in 2017, .yaml in 2021.
METADATA = {
    "processCcd_metadata": f"{FOLDER}/processCcd_metadata/{VISIT}",
    "characterizeImage_metadata": f"{FOLDER}/characterizeImage_metadata/{VISIT}",
    "calibrate_metadata": f"{FOLDER}/calibrate_metadata/{VISIT}",
    "deep_makeCoaddTempExp_metadata": "deep_makeCoaddTempExp_metadata/%(filter)s/%(tract)d/%(patch)s_metadata",
    "deep_assembleCoadd_metadata": "deep_assembleCoadd_metadata/%(filter)s/%(tract)d/%(patch)s",
    "detectCoaddSources_metadata": f"{RESULTS}/detectMD-{PATCH}",
    "mergeCoaddDetections_metadata": f"{MERGED}/mergeDetMD-%(tract)d-%(patch)s",
    "measureCoaddSources_metadata": f"{RESULTS}/measMD-{PATCH}",
    "mergeCoaddMeasurements_metadata": f"{MERGED}/mergeMeasMD-%(tract)d-%(patch)s",
    "deepCoadd_forced_metadata": "deepCoadd_forcedPhotCoadd_metadata/%(filter)s/%(tract)d/%(patch)s",
}
SUFFIX = {"2017": ("boost", "BoostStorage"), "2021": ("yaml", "YamlStorage")}
EXPECTED = [
    (era, name, template)
    for era in ERAS
    for name, template in [
        *SAME.items(),
        *ONLY[era].items(),
        *((name, f"{stem}.{SUFFIX[era][0]}") for name, stem in METADATA.items()),
    ]
]
CALIBRATIONS = {"bias", "dark", "flat", "fringe", "sky", "defects"}


def dataset(name: str, era: str) -> Dataset:
    (found,) = (dataset for dataset in HSC.datasets if (dataset.name, dataset.era) == (name, era))
    return found


@pytest.mark.parametrize(("era", "name", "template"), EXPECTED)
def test_each_dataset_type_has_the_template_of_its_era(era: str, name: str, template: str) -> None:
    assert dataset(name, era).template == template


@pytest.mark.parametrize("era", ERAS)
def test_what_one_era_lacks_is_lacking(era: str) -> None:
    other = ONLY["2021" if era == "2017" else "2017"]
    assert not other.keys() & {dataset.name for dataset in HSC.datasets if dataset.era == era}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", sorted(METADATA))
def test_task_metadata_are_stored_as_the_era_does(name: str, era: str) -> None:
    assert dataset(name, era).storage == SUFFIX[era][1]


def test_every_dataset_type_says_how_it_is_stored() -> None:
    silent = [d.name for d in HSC.datasets if not (d.python and d.persistable and d.storage)]
    assert set(silent) == {"yBackground"}  # which the Butler's policy leaves open too


def test_every_dataset_type_has_a_filetype_and_every_filetype_a_dataset_type() -> None:
    named = {dataset.name for dataset in HSC.datasets}
    assert {dataset.filetype for dataset in HSC.datasets} == HSC.filetypes.keys()
    assert {filetype.dataset for filetype in HSC.filetypes.values()} <= named


def test_filetypes_are_dataset_types_in_lower_case_except_the_raw() -> None:
    assert HSC.raw_filetype == "hsc_raw"
    named = {filetype.name: filetype.dataset for filetype in HSC.filetypes.values() if filetype.name != "hsc_raw"}
    assert {name: (dataset or "").lower() for name, dataset in named.items()} == {name: name for name in named}


def test_both_names_of_a_warp_are_one_filetype() -> None:
    names = ("deepCoadd_tempExp", "deepCoadd_directWarp", "deepcoadd_tempexp")
    assert {HSC.filetype_name(name) for name in names} == {"deepcoadd_tempexp"}
    assert [layout.name for layout in HSC.layouts("deepcoadd_tempexp", ERAS)] == list(names[:2])


def test_calibrations_with_validity_ranges_are_those_of_the_calibration_registry() -> None:
    assert {d.name for d in HSC.calibration_types(ERAS)} == CALIBRATIONS
    assert {d.name for d in HSC.calibration_types(["2017"])} == CALIBRATIONS - {"sky", "defects"}


def test_the_registry_tables_are_those_of_the_gen2_ingest() -> None:
    assert " ".join(f"{name} {kind}," for name, kind in HSC.raw_columns.items()) == (
        "field text, visit int, ccd int, pointing int, filter text, proposal text, dateObs text, taiObs text,"
        " expTime double, pa double, autoguider int, ccdTemp double, config text, frameId text, expId text,"
        " dataType text,"
    )
    assert HSC.visit_columns == ("visit", "field", "filter", "dateObs", "taiObs")
    assert HSC.exposure_keys == ("visit", "ccd")
    assert HSC.date_column == "taiObs"


def test_the_raw_filetype_has_the_columns_of_the_raw_table() -> None:
    kinds = {"str": "text", "date": "text", "int": "int", "float": "double"}
    columns = HSC.filetypes["hsc_raw"].columns
    assert {column.name: kinds[column.type] for column in columns} == HSC.raw_columns


def test_the_mapper_class_has_the_spelling_that_repositories_share() -> None:
    assert HSC.butler_class == "lsst.obs.hsc.hscMapper.HscMapper"


def test_synonyms_name_columns_and_shadow_none() -> None:
    columns = {column.name for filetype in HSC.filetypes.values() for column in filetype.columns}
    assert set(HSC.synonyms.values()) <= columns
    assert not HSC.synonyms.keys() & {column.lower() for column in columns}
    assert all(synonym == synonym.lower() for synonym in HSC.synonyms)


@pytest.mark.parametrize("filetype", HSC.filetypes.values(), ids=HSC.filetypes)
def test_the_data_id_satisfies_every_template_together_with_the_exposure(filetype: Filetype) -> None:
    for layout in (found for found in HSC.datasets if found.filetype == filetype.name):
        exposure = set(HSC.raw_columns) if "visit" in filetype.keys else set()
        assert set(layout.keys) <= set(filetype.keys) | exposure


@pytest.mark.parametrize("filetype", HSC.filetypes.values(), ids=HSC.filetypes)
def test_pattern_keys_are_columns_or_name_the_run(filetype: Filetype) -> None:
    assert filetype.directory is not None
    assert filetype.name_pattern is not None
    keys = {*filetype.directory.keys, *filetype.name_pattern.keys}
    assert keys <= {*filetype.types, *RUN_KEYS}
    assert not keys & set(RUN_KEYS) or keys >= set(RUN_KEYS)
    assert keys >= set(filetype.keys) or filetype.name == "hsc_raw"  # whose frames have a name of their own


@pytest.mark.parametrize("filetype", HSC.filetypes.values(), ids=HSC.filetypes)
def test_the_butler_can_fill_the_names_of_outputs(filetype: Filetype) -> None:
    assert filetype.name_pattern is not None
    known = {*RUN_KEYS, *(HSC.raw_columns if "visit" in filetype.keys else ()), *filetype.keys}
    assert set(filetype.name_pattern.keys) <= known


def test_only_the_keys_are_a_must() -> None:
    for filetype in HSC.filetypes.values():
        assert {column.name for column in filetype.columns if column.required} == set(filetype.keys)


def test_filetypes_that_share_a_table_agree_on_its_columns_and_keys() -> None:
    shapes: dict[str, set[object]] = {}
    for filetype in HSC.filetypes.values():
        if filetype.table:
            shapes.setdefault(filetype.table, set()).add((filetype.columns, filetype.keys))
    assert [table for table, shape in shapes.items() if len(shape) > 1] == []


def test_no_two_filetypes_have_one_pattern() -> None:
    patterns = Counter(path_pattern(filetype) for filetype in HSC.filetypes.values())
    assert [pattern for pattern, count in patterns.items() if count > 1] == []


DATES = st.dates().map(lambda date: date.isoformat())
WORDS = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True)
PATCHES = st.builds("{},{}".format, st.integers(0, 999), st.integers(0, 999)).map(stored_patch)
OF_TYPE = {"int": st.integers(0, 10**9), "str": WORDS, "date": DATES, "patch": PATCHES, "float": st.floats(0, 1e6)}
OF_KEY = {
    "filter": st.sampled_from(sorted(HSC.bands)),
    "calibDate": st.one_of(DATES, DATES.map(lambda date: f"{date}T00:00:00")),
    "reqnum": OF_TYPE["int"],
    "attnum": st.integers(0, 200),
    "unitname": WORDS,
}


def path_pattern(filetype: Filetype) -> str:
    assert filetype.directory is not None
    assert filetype.name_pattern is not None
    return f"{filetype.directory.text}/{filetype.name_pattern.text}"


def path_of(filetype: Filetype, values: dict[str, object]) -> tuple[str, str]:
    assert filetype.directory is not None
    assert filetype.name_pattern is not None
    return filetype.directory.expand(values), filetype.name_pattern.expand(values)


def read_back(filetype: Filetype, folder: str, name: str) -> dict[str, object] | None:
    assert filetype.directory is not None
    assert filetype.name_pattern is not None
    types = filetype.types | {"reqnum": "int", "attnum": "int"}
    from_folder, from_name = filetype.directory.invert(folder, types), filetype.name_pattern.invert(name, types)
    return None if from_folder is None or from_name is None else from_folder | from_name


@st.composite
def filled(draw: st.DrawFn) -> tuple[Filetype, dict[str, Any]]:
    filetype = draw(st.sampled_from(list(HSC.filetypes.values())))
    assert filetype.directory is not None
    assert filetype.name_pattern is not None
    keys = {*filetype.directory.keys, *filetype.name_pattern.keys}
    types = filetype.types
    return filetype, {key: draw(OF_KEY[key] if key in OF_KEY else OF_TYPE[types[key]]) for key in sorted(keys)}


@given(filled())
def test_a_name_in_the_archive_gives_its_values_back(case: tuple[Filetype, dict[str, Any]]) -> None:
    filetype, values = case
    assert read_back(filetype, *path_of(filetype, values)) == values


@given(filled())
def test_a_path_in_the_archive_tells_its_filetype(case: tuple[Filetype, dict[str, Any]]) -> None:
    filetype, values = case
    folder, name = path_of(filetype, values)
    fitting = [other.name for other in HSC.filetypes.values() if read_back(other, folder, name) is not None]
    assert fitting == [filetype.name]


@given(filled())
def test_a_path_in_the_archive_is_safe(case: tuple[Filetype, dict[str, Any]]) -> None:
    safe_path("/".join(path_of(*case)))


def test_a_coadd_has_the_place_that_operators_know() -> None:
    run: dict[str, object] = {"unitname": "Ht0", "reqnum": 11, "attnum": 95}
    coadd = path_of(HSC.filetypes["deepcoadd_calexp"], run | {"filter": "HSC-I", "tract": 0, "patch": "8x6"})
    assert "/".join(coadd) == "r11/Ht0/p95/coadd/calexp-HSC-I-0-8x6-r11p95.fits"


@pytest.mark.parametrize("name", sorted(CALIBRATIONS - {"fringe"}))
def test_the_real_calibration_files_are_named_as_their_filetype_says(shared: Path, name: str) -> None:
    folder, filetype = shared / "data/ci_hsc", HSC.filetypes[name]
    with (folder / "inventory.csv").open(encoding="ascii") as lines:
        paths = [row["path"] for row in csv.DictReader(lines)]
    real = {path for path in paths if path.startswith((f"CALIB/{name}/", f"CALIB/{name.upper()}/"))}
    database = f"file:{folder / 'calibRegistry.sqlite3'}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(database, uri=True)) as registry:
        registry.row_factory = sqlite3.Row
        rows = [dict(row) for row in registry.execute(f"SELECT ccd, calibDate, filter FROM {name}")]
    ours = {"/".join(path_of(filetype, row)): {key: row[key] for key in filetype.keys} for row in rows}
    assert real
    assert real <= ours.keys()
    assert all(read_back(filetype, *path.rsplit("/", 1)) == data_id for path, data_id in ours.items())


def test_converters_know_every_column_type() -> None:
    assert {column.type for filetype in HSC.filetypes.values() for column in filetype.columns} <= CONVERTERS.keys()
