"""A job's repository has the layout, the registries and the links that the Gen2 Butler expects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from demo_survey import (
    CALIBS,
    FULL,
    OVERLAPS,
    RUN_A,
    RUN_B,
    Demo,
    Survey,
    counted,
    fill,
    links,
    make_demo,
    raw_values,
    select,
    sha256,
    tree,
)

import dbb
from dbb import Registry
from dbb.butler import CalibSpec, FileSpec, InputSpec, OutputSpec, Repository, RepoSpec, build, linker, materialize_repo
from dbb.errors import AmbiguousError, ConflictError, MissingError, NotFoundError
from dbb_cli.main import run as run_dbb

PROJECT = Path(dbb.__file__).parents[1]
RAW_COLUMNS = [
    ("id", "INTEGER"), ("field", "TEXT"), ("visit", "INT"), ("ccd", "INT"), ("pointing", "INT"), ("filter", "TEXT"),
    ("proposal", "TEXT"), ("dateObs", "TEXT"), ("taiObs", "TEXT"), ("expTime", "double"), ("pa", "double"),
    ("autoguider", "INT"), ("ccdTemp", "double"), ("config", "TEXT"), ("frameId", "TEXT"), ("expId", "TEXT"),
    ("dataType", "TEXT"),
]  # fmt: skip
VISIT_COLUMNS = ["visit", "field", "filter", "dateObs", "taiObs"]
CALIB_COLUMNS = ["id", "filter", "ccd", "calibDate", "validStart", "validEnd"]
RAW_16 = "STRIPE82L/2013-06-17/00533/HSC-R/HSC-0903334-016.fits"
CALEXP_16 = "00533/HSC-R/corr/CORR-0903334-016.fits"
ONE = ("visit=903334 ccd=16",)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture(scope="module")
def registry(demo: Demo) -> Registry:
    return Registry(demo.url)


@pytest.fixture(scope="module")
def full(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of everything; nobody changes it."""
    job = tmp_path_factory.mktemp("full") / "JOB"
    materialize_repo(registry, job, FULL)
    return job


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    return Survey(tmp_path / "survey")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "JOB"


def manifest_of(job: Path) -> dict[str, list[dict[str, object]]]:
    loaded: dict[str, list[dict[str, object]]] = json.loads((job / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def raws(**changes: object) -> RepoSpec:
    return RepoSpec("hsc", (InputSpec("raw"),), **changes)


# Layout and names


def test_a_small_job_has_exactly_the_files_of_the_layout(demo: Demo, registry: Registry, job: Path) -> None:
    spec = replace(FULL, inputs=(InputSpec("raw", id=ONE), InputSpec("calexp", id=ONE, runs=(RUN_A,))))
    report = dbb.materialize_repo(registry, job, spec)
    found = tree(job)
    written = {"manifest.json", "in/repositoryCfg.yaml", "in/registry.sqlite3", "in/CALIB/calibRegistry.sqlite3"}
    written.add("out/repositoryCfg.yaml")
    assert {path for path, what in found.items() if len(what) == 64} == written
    archive = demo.archive
    assert {path: what for path, what in found.items() if what.startswith("->")} == {
        "out/CALIB": "-> ../in/CALIB",
        f"in/{RAW_16}": f"-> {archive}/raw/HSCA90333430.fits",
        f"in/{CALEXP_16}": f"-> {archive}/MMG/hsctest/r12/Ht0/p01/corr/CORR-0903334-016-r12p01.fits",
        **{
            f"in/CALIB/{relpath}": f"-> {archive}/CALIB/{relpath}"
            for relpath in (
                "BIAS/2013-11-03/NONE/BIAS-2013-11-03-016.fits",
                "DARK/2013-11-03/NONE/DARK-2013-11-03-016.fits",
                "FLAT/2013-06-17/HSC-R/FLAT-2013-06-17-HSC-R-016.fits",
            )
        },
        "in/deepCoadd/skyMap.pickle": f"-> {archive}/skymap/skyMap-1.pickle",
    }
    assert (report.inputs, report.calibs, report.files, report.exposures) == (2, 3, 1, 1)
    assert (report.root, report.staged, report.copied, report.dry_run) == (str(job), {"symlink": 6}, 0, False)


def test_the_link_farm_says_that_it_is_a_repository_without_parents_or_policy(full: Path) -> None:
    assert (full / "in/repositoryCfg.yaml").read_text(encoding="utf-8") == (
        "!RepositoryCfg_v1\n_mapper: !!python/name:lsst.obs.hsc.hscMapper.HscMapper ''\n_mapperArgs: {}\n"
        "_parents: []\n_root: null\n"
    )


def test_outputs_get_templates_with_the_run_in_their_names(full: Path) -> None:
    run = "r20/Ht0/p01"
    warp = "warp-%(filter)s-%(tract)d-%(patch)s-%(visit)d-r20p01.fits"
    whole = "      persistable: 'ExposureF'\n      python: 'lsst.afw.image.ExposureF'\n      storage: 'FitsStorage'\n"
    whole += f"      tables: ['raw']\n      template: '{run}/coadd/{warp}'\n"
    assert (full / "out/repositoryCfg.yaml").read_text(encoding="utf-8") == (
        "!RepositoryCfg_v1\n_mapper: !!python/name:lsst.obs.hsc.hscMapper.HscMapper ''\n_mapperArgs: {}\n"
        "_parents:\n- ../in\n_policy:\n"
        f"  datasets:\n    src:\n      template: '{run}/output/SRC-%(visit)07d-%(ccd)03d-r20p01.fits'\n"
        f"  exposures:\n    calexp:\n      template: '{run}/corr/CORR-%(visit)07d-%(ccd)03d-r20p01.fits'\n"
        f"    deepCoadd_calexp:\n      template: '{run}/coadd/calexp-%(filter)s-%(tract)d-%(patch)s-r20p01.fits'\n"
        f"    deepCoadd_directWarp:\n{whole}    deepCoadd_tempExp:\n{whole}_root: null\n"
    )


def test_a_job_without_outputs_has_no_policy(registry: Registry, job: Path) -> None:
    materialize_repo(registry, job, raws())
    assert "_policy" not in (job / "out/repositoryCfg.yaml").read_text(encoding="utf-8")


def test_an_output_type_of_one_era_is_told_in_full_only_where_the_other_reads_it_too(
    registry: Registry, tmp_path: Path
) -> None:
    for era, complete in (("both", True), ("2021", False)):
        spec = raws(outputs=OutputSpec("Ht0_r20p01", ("deepCoadd_directWarp",)), era=era)
        materialize_repo(registry, tmp_path / era, spec)
        entries = {one["dataset"]: one for one in manifest_of(tmp_path / era)["outputs"]}
        assert ("storage" in entries["deepCoadd_directWarp"]) is complete
        assert ("deepCoadd_tempExp" in entries) is complete


# The registries


def test_the_exposure_registry_has_the_tables_of_the_ingest(full: Path) -> None:
    registry = full / "in/registry.sqlite3"
    columns = select(registry, "SELECT name, type FROM pragma_table_info('raw') ORDER BY cid")
    assert [(name, kind.lower()) for name, kind in columns] == [(name, kind.lower()) for name, kind in RAW_COLUMNS]
    assert [row[0] for row in select(registry, "SELECT name FROM pragma_table_info('raw_visit')")] == VISIT_COLUMNS
    assert unique_columns(registry, "raw") == ["visit", "ccd"]
    assert unique_columns(registry, "raw_visit") == ["visit"]
    assert "autoincrement" in select(registry, "SELECT sql FROM sqlite_master WHERE name = 'raw'")[0][0].lower()


def unique_columns(database: Path, table: str) -> list[str]:
    indexes = select(database, f"SELECT name FROM pragma_index_list('{table}') WHERE \"unique\"")
    assert len(indexes) == 1
    return [row[0] for row in select(database, f"SELECT name FROM pragma_index_info('{indexes[0][0]}') ORDER BY seqno")]


def test_the_exposure_registry_has_the_full_row_of_every_exposure(registry: Registry, full: Path) -> None:
    names = [name for name, _ in RAW_COLUMNS[1:]]
    rows = select(full / "in/registry.sqlite3", f"SELECT {', '.join(names)} FROM raw")
    expected = [tuple(record[name] for name in names) for record in registry.query("raw")]
    assert len(rows) == 33
    assert sorted(rows, key=str) == sorted(expected, key=str)
    known = next(dict(zip(names, row, strict=True)) for row in rows if row[1:3] == (903334, 16))
    assert known | {"pa": None, "ccdTemp": None, "config": None, "autoguider": None} == raw_values(903334, 16) | {
        "frameId": "HSCA90333430", "expId": "HSCA90333400", "proposal": known["proposal"],
        "pa": None, "ccdTemp": None, "config": None, "autoguider": None,
    }  # fmt: skip


def test_the_exposure_registry_has_one_row_per_visit(full: Path) -> None:
    rows = select(full / "in/registry.sqlite3", "SELECT visit, field, filter, dateObs, taiObs FROM raw_visit")
    assert len(rows) == len({row[0] for row in rows}) == 11
    assert (903334, "STRIPE82L", "HSC-R", "2013-06-17", "2013-06-17") in rows


def test_the_calibration_registry_has_the_tables_of_both_eras(full: Path) -> None:
    registry = full / "in/CALIB/calibRegistry.sqlite3"
    types = ["bias", "dark", "flat", "fringe", "sky", "defects"]
    tables = {row[0] for row in select(registry, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables - {"sqlite_sequence"} == {*types, *(f"{name}_visit" for name in types)}
    for name in types:
        assert [row[0] for row in select(registry, f"SELECT name FROM pragma_table_info('{name}')")] == CALIB_COLUMNS
        assert unique_columns(registry, name) == ["filter", "ccd", "calibDate"]


def test_the_calibration_registry_of_2017_has_only_its_types(registry: Registry, job: Path) -> None:
    materialize_repo(registry, job, raws(calibs=CalibSpec(CALIBS), era="2017"))
    tables = select(job / "in/CALIB/calibRegistry.sqlite3", "SELECT name FROM sqlite_master WHERE name LIKE '%_visit'")
    assert {row[0] for row in tables if "sqlite" not in row[0]} == {
        "bias_visit",
        "dark_visit",
        "flat_visit",
        "fringe_visit",
    }


def test_the_calibration_registry_has_what_the_exposures_need(demo: Demo, full: Path) -> None:
    pairs = {(ccd, band) for ccd, band in select(full / "in/registry.sqlite3", "SELECT ccd, filter FROM raw")}
    for name in ("bias", "dark", "flat"):
        found = select(
            full / "in/CALIB/calibRegistry.sqlite3",
            f"SELECT filter, ccd, calibDate, validStart, validEnd FROM {name}",
        )
        expected = {
            (row["filter"], int(row["ccd"]), row["calibDate"], row["validStart"], row["validEnd"])
            for row in demo.rows("calibs")
            if row["filetype"] == name and (name != "flat" or (int(row["ccd"]), row["filter"]) in pairs)
        }
        assert len(found) == len(set(found))
        assert set(found) == expected
    visits = select(full / "in/CALIB/calibRegistry.sqlite3", "SELECT calibDate, filter FROM flat_visit")
    assert sorted(visits) == [("2013-06-17", "HSC-R"), ("2013-11-03", "HSC-I")]


def test_exposures_of_inputs_without_registered_raw_come_from_the_inputs_themselves(survey: Survey, job: Path) -> None:
    known = {name: raw_values(1, 2)[name] for name in ("visit", "ccd", "filter", "pointing", "field", "dateObs")}
    survey.add("calexp", "c.fits", run=RUN_A, **known)
    materialize_repo(survey.registry, job, RepoSpec("hsc", (InputSpec("calexp"),)))
    columns = "visit, ccd, pointing, filter, field, dateObs, taiObs, proposal"
    assert select(job / "in/registry.sqlite3", f"SELECT {columns} FROM raw") == [
        (1, 2, 533, "HSC-R", "STRIPE82L", "2013-06-17", "2013-06-17", None)
    ]


def test_what_a_product_does_not_know_of_its_exposure_comes_from_the_registered_raw(survey: Survey, job: Path) -> None:
    survey.add_raw(1, 2)
    survey.add("src", "s.fits", run=RUN_A, visit=1, ccd=2)
    materialize_repo(survey.registry, job, RepoSpec("hsc", (InputSpec("src"),)))
    assert set(links(job / "in")) == {"00533/HSC-R/output/SRC-0000001-002.fits"}
    assert select(job / "in/registry.sqlite3", "SELECT proposal, expId FROM raw") == [("o13015", "HSCE00000001")]


def test_a_place_that_cannot_be_told_names_the_file_and_the_key(survey: Survey, job: Path) -> None:
    survey.add("src", "x/s.fits", run=RUN_A, visit=1, ccd=2)
    with pytest.raises(MissingError, match=r"x/s\.fits \(home\): no value for 'pointing'.*register the raw exposure"):
        materialize_repo(survey.registry, job, RepoSpec("hsc", (InputSpec("src"),)))
    assert not job.exists()


# How files get there


@pytest.mark.parametrize("stage", ["auto", "symlink", "relsymlink", "hardlink", "copy"])
def test_every_way_of_staging_gives_the_bytes_of_the_archive(registry: Registry, job: Path, stage: str) -> None:
    report = materialize_repo(registry, job, replace(FULL, stage=stage))
    entries = [entry for array in ("inputs", "calibs", "files") for entry in manifest_of(job)[array]]
    assert report.staged == {"symlink" if stage == "auto" else stage: len(entries)}
    for entry in entries:
        source, target = Path(str(entry["source"]).removeprefix("file://")), job / str(entry["path"])
        assert target.read_bytes() == source.read_bytes()
        assert target.is_symlink() == (stage in {"auto", "symlink", "relsymlink"})
        if target.is_symlink():
            assert target.readlink().is_absolute() == (stage != "relsymlink")
        else:
            assert (target.stat().st_ino == source.stat().st_ino) == (stage == "hardlink")
    assert report.copied == (sum(int(str(entry["filesize"])) for entry in entries) if stage == "copy" else 0)


def test_a_job_with_relative_links_moves_together_with_its_archive(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "far" / "there"
    survey = Survey(here)
    content = survey.add_raw(1, 2).read_bytes()
    materialize_repo(survey.registry, here / "jobs" / "JOB", raws(stage="relsymlink"))
    survey.registry.close()
    there.parent.mkdir()
    here.rename(there)
    with Repository(there / "jobs/JOB/out") as repository:
        found = Path(repository.get_uri("raw", visit=1, ccd=2))
    assert found.read_bytes() == content
    assert found.resolve().is_relative_to(there)


def test_relative_links_hold_where_the_job_is_reached_through_a_link(survey: Survey, tmp_path: Path) -> None:
    survey.add_raw(1, 2)
    (tmp_path / "deep/deeper").mkdir(parents=True)
    (tmp_path / "short").symlink_to("deep/deeper")
    materialize_repo(survey.registry, tmp_path / "short/JOB", raws(stage="relsymlink"))
    assert [path.is_file() for path in links(tmp_path / "deep/deeper/JOB/in").values()] == [True]


def test_a_relative_job_folder_is_below_the_current_one(
    survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey.add_raw(1, 2)
    monkeypatch.chdir(tmp_path)
    report = materialize_repo(survey.registry, "new/JOB", raws())
    assert report.root == str(tmp_path / "new/JOB")
    assert (tmp_path / "new/JOB/in/repositoryCfg.yaml").is_file()


# What is staged


@pytest.mark.parametrize(("era", "suffixes"), [("2017", {"boost"}), ("2021", {"yaml"}), ("both", {"boost", "yaml"})])
def test_a_dataset_with_another_name_in_each_era_is_linked_under_the_names_asked_for(
    survey: Survey, job: Path, era: str, suffixes: set[str]
) -> None:
    source = survey.add("processccd_metadata", "md.txt", run=RUN_A, visit=1, ccd=2, filter="HSC-R", pointing=533)
    report = materialize_repo(survey.registry, job, RepoSpec("hsc", (InputSpec("processCcd_metadata"),), era=era))
    stem = "00533/HSC-R/processCcd_metadata/0000001-002"
    assert links(job / "in") == {f"{stem}.{suffix}": source for suffix in suffixes}
    assert report.inputs == len(suffixes)


def test_a_type_renamed_between_eras_is_found_by_both_names(registry: Registry, tmp_path: Path) -> None:
    for name in ("deepCoadd_tempExp", "deepCoadd_directWarp", "deepcoadd_tempexp"):
        materialize_repo(registry, tmp_path / name, RepoSpec("hsc", (InputSpec(name),)))
    first, *others = (
        links(tmp_path / name / "in") for name in ("deepCoadd_tempExp", "deepCoadd_directWarp", "deepcoadd_tempexp")
    )
    assert first
    assert all(other == first for other in others)


def test_a_type_that_an_era_does_not_have_is_refused_there(registry: Registry, job: Path) -> None:
    with pytest.raises(NotFoundError, match="not known to the Butler of 2017"):
        materialize_repo(registry, job, RepoSpec("hsc", (InputSpec("skyCorr"),), era="2017"))


@pytest.mark.parametrize(
    ("runs", "winner"),
    [
        ((RUN_A, RUN_B), "r12p01"),
        ((RUN_B, RUN_A), "r11p95"),
        (("r11p95", "r12p01"), "r11p95"),
        (("tag:PROTO-0.1",), "r12p01"),
        (("r11p95", "tag:PROTO-0.1"), "r11p95"),
    ],
)
def test_runs_are_searched_in_order_and_the_first_wins(
    registry: Registry, job: Path, runs: tuple[str, ...], winner: str
) -> None:
    report = materialize_repo(registry, job, RepoSpec("hsc", (InputSpec("calexp", runs=runs),)))
    assert report.inputs == 33
    assert links(job / "in")[CALEXP_16].name == f"CORR-0903334-016-{winner}.fits"
    only = "00671/HSC-I/corr/CORR-0904010-004.fits"
    assert links(job / "in")[only].name == "CORR-0904010-004-r11p95.fits"


def test_two_runs_with_one_data_id_and_no_order_are_refused_with_both_names(registry: Registry, job: Path) -> None:
    with pytest.raises(AmbiguousError) as caught:
        materialize_repo(registry, job, RepoSpec("hsc", (InputSpec("calexp"),)))
    text = str(caught.value)
    assert "visit=903334 ccd=16" in text
    assert "CORR-0903334-016-r12p01.fits" in text
    assert "CORR-0903334-016-r11p95.fits" in text
    assert "--runs" in text
    assert not job.exists()


def test_coadds_with_file_safe_patches_lie_where_the_butler_looks_for_its_own(demo: Demo, full: Path) -> None:
    found = links(full / "in")
    archive = demo.archive / "MMG/hsctest/r11/Ht0/p95/coadd"
    for band in ("HSC-R", "HSC-I"):
        for patch in ("8,6", "8,7", "9,6", "9,7"):
            path = f"deepCoadd-results/{band}/0/{patch}/calexp-{band}-0-{patch}.fits"
            assert found[path] == archive / f"calexp-{band}-0-{patch.replace(',', 'x')}-r11p95.fits"
    assert found["deepCoadd/HSC-R/0/8,6/warp-HSC-R-0-8,6-903334.fits"].name == "warp-HSC-R-0-8x6-903334-r11p95.fits"
    assert not [path for path in found if "8x6" in path]


@pytest.mark.parametrize("condition", [{"where": "patch = '8x6'"}, {"where": "patch = '8,6'"}, {"id": ("patch=8x6",)}])
def test_a_patch_is_asked_for_in_either_spelling(registry: Registry, job: Path, condition: dict[str, object]) -> None:
    spec = RepoSpec("hsc", (InputSpec("deepCoadd_calexp", **condition),))
    assert materialize_repo(registry, job, spec).inputs == 2
    assert {entry["data_id"]["patch"] for entry in manifest_of(job)["inputs"]} == {"8,6"}


def test_exposures_are_chosen_by_the_patch_that_they_overlap(demo: Demo, registry: Registry, job: Path) -> None:
    where = "tract = 0 AND patch = '8,6' AND filter = 'HSC-R'"
    materialize_repo(registry, job, RepoSpec("hsc", (InputSpec("raw", where=where),), overlaps=OVERLAPS))
    found = {tuple(entry["data_id"].values()) for entry in manifest_of(job)["inputs"]}
    expected = {(int(r["visit"]), int(r["ccd"])) for r in demo.rows("overlaps") if r["patch"] == "8,6"}
    assert found == {key for key in expected if key[0] < 903986}
    assert len(found) == 9


def test_a_condition_and_data_ids_must_both_hold(registry: Registry, job: Path) -> None:
    one = InputSpec("raw", where="ccd < 20", id=("visit=903334 ccd=16^22", "visit=903336"))
    materialize_repo(registry, job, RepoSpec("hsc", (one,)))
    found = [tuple(entry["data_id"].values()) for entry in manifest_of(job)["inputs"]]
    assert found == [(903334, 16), (903336, 17)]


def test_values_of_a_condition_may_be_bound(registry: Registry, job: Path) -> None:
    spec = RepoSpec("hsc", (InputSpec("raw", where="visit = :v"),), binds={"v": 903336})
    assert materialize_repo(registry, job, spec).inputs == 2


@pytest.mark.parametrize("suffix", [".gz", ".fz"])
def test_a_compressed_input_keeps_its_suffix_behind_the_canonical_name(survey: Survey, job: Path, suffix: str) -> None:
    source = survey.add_raw(903334, 16, relpath=f"raw/any.fits{suffix}")
    calib = survey.add("bias", f"c/b.fits{suffix}", ccd=16, calibDate="2013-01-01", filter="NONE")
    row = {"relpath": f"c/b.fits{suffix}", "validStart": "2013-01-01", "validEnd": "2013-12-31"}
    survey.registry.certify_calibrations([row], version=CALIBS, filetype="bias")
    materialize_repo(survey.registry, job, raws(calibs=CalibSpec(CALIBS)))
    place = f"CALIB/BIAS/2013-01-01/NONE/BIAS-2013-01-01-016.fits{suffix}"
    assert links(job / "in") == {RAW_16 + suffix: source, place: calib}
    with Repository(job / "out") as repository:
        assert Path(repository.get_uri("raw", visit=903334, ccd=16)).resolve() == source


def test_one_file_asked_for_twice_is_staged_once(registry: Registry, job: Path) -> None:
    spec = RepoSpec("hsc", (InputSpec("raw", id=ONE), InputSpec("hsc_raw", id=("visit=903334",))))
    assert materialize_repo(registry, job, spec).inputs == 4


def test_two_entries_that_choose_different_files_for_one_place_are_refused(registry: Registry, job: Path) -> None:
    spec = RepoSpec("hsc", tuple(InputSpec("calexp", id=ONE, runs=(run,)) for run in (RUN_A, RUN_B)))
    with pytest.raises(AmbiguousError, match=r"two files want to be in/00533.*CORR-0903334-016-r11p95\.fits"):
        materialize_repo(registry, job, spec)
    assert not job.exists()


def test_a_calibration_as_an_input_is_told_where_it_belongs(registry: Registry, job: Path) -> None:
    with pytest.raises(ValueError, match="bias is a calibration: it is chosen by date, so give its version"):
        materialize_repo(registry, job, RepoSpec("hsc", (InputSpec("bias"),)))


def test_a_calibration_without_validity_is_an_input_below_calib(survey: Survey, job: Path) -> None:
    source = survey.add("bfkernel", "kernel.pkl")
    materialize_repo(survey.registry, job, RepoSpec("hsc", (InputSpec("bfKernel"),)))
    assert links(job / "in") == {"CALIB/BFKERNEL/brighter_fatter_kernel.pkl": source}


# Calibrations by validity


@pytest.fixture
def dated(survey: Survey) -> Survey:
    """Raws of two days, biases for each, and a fringe frame of another filter."""
    survey.add_raw(1, 2, dateObs="2013-06-30", taiObs="2013-06-30")
    survey.add_raw(3, 2, dateObs="2013-07-01", taiObs="2013-07-01")
    survey.add_calib("bias", 2, "2013-06-01", "2013-01-01", "2013-06-30")
    survey.add_calib("bias", 2, "2013-08-01", "2013-07-01", "2014-01-01")
    survey.add_calib("bias", 3, "2013-08-01", "2013-07-01", "2014-01-01")
    survey.add_calib("fringe", 2, "2013-08-01", "2013-01-01", "2014-01-01", filter="HSC-Y")
    return survey


def chosen(job: Path) -> set[tuple[object, ...]]:
    names = ("dataset", "calib_date", "valid_start", "valid_end")
    return {tuple(entry[name] for name in names) for entry in manifest_of(job)["calibs"]}


def test_both_ends_of_a_validity_range_belong_to_it(dated: Survey, tmp_path: Path) -> None:
    biases = {
        1: ("bias", "2013-06-01", "2013-01-01", "2013-06-30"),
        3: ("bias", "2013-08-01", "2013-07-01", "2014-01-01"),
    }
    for visit, bias in biases.items():
        spec = RepoSpec("hsc", (InputSpec("raw", where=f"visit = {visit}"),), calibs=CalibSpec(CALIBS, ("bias",)))
        materialize_repo(dated.registry, tmp_path / str(visit), spec)
        assert chosen(tmp_path / str(visit)) == {bias}
    materialize_repo(dated.registry, tmp_path / "all", raws(calibs=CalibSpec(CALIBS)))
    assert chosen(tmp_path / "all") == set(biases.values())


def test_types_that_are_not_asked_for_apply_as_far_as_the_filters_go(dated: Survey, job: Path) -> None:
    assert materialize_repo(dated.registry, job, raws(calibs=CalibSpec(CALIBS))).calibs == 2


def test_types_that_are_asked_for_must_fit_every_exposure(dated: Survey, job: Path) -> None:
    with pytest.raises(
        MissingError, match=r"no fringe of version 2014A fits exposure visit=1 ccd=2 \(HSC-R, 2013-06-30\)"
    ):
        materialize_repo(dated.registry, job, raws(calibs=CalibSpec(CALIBS, ("bias", "fringe"))))
    assert not job.exists()


def test_a_date_without_calibration_names_exposure_type_and_the_ranges_there_are(dated: Survey, job: Path) -> None:
    dated.add_raw(5, 2, dateObs="2015-01-01", taiObs="2015-01-01")
    with pytest.raises(MissingError) as caught:
        materialize_repo(dated.registry, job, raws(calibs=CalibSpec(CALIBS)))
    text = str(caught.value)
    assert "no bias of version 2014A fits exposure visit=5 ccd=2 (HSC-R, 2015-01-01)" in text
    assert "2013-01-01..2013-06-30, 2013-07-01..2014-01-01" in text


def test_a_detector_without_calibration_says_that_there_is_none(dated: Survey, job: Path) -> None:
    dated.add_raw(7, 9)
    with pytest.raises(MissingError, match=r"exposure visit=7 ccd=9 .* none at all"):
        materialize_repo(dated.registry, job, raws(calibs=CalibSpec(CALIBS)))


def test_a_filter_that_the_type_has_is_asked_of_every_detector(dated: Survey, job: Path) -> None:
    dated.add_raw(9, 3, filter="HSC-Y", dateObs="2013-08-01", taiObs="2013-08-01")
    with pytest.raises(MissingError, match="no fringe of version 2014A fits exposure visit=9 ccd=3"):
        materialize_repo(dated.registry, job, raws(calibs=CalibSpec(CALIBS)))


def test_overlapping_calibrations_cannot_be_certified(dated: Survey) -> None:
    with pytest.raises(ConflictError) as caught:
        dated.add_calib("bias", 2, "2013-07-15", "2013-06-30", "2013-06-30")
    assert "bias-NONE-2-2013-06-01.fits" in str(caught.value)
    assert "bias-NONE-2-2013-07-15.fits" in str(caught.value)


def test_calibrations_follow_the_exposures_of_any_input(dated: Survey, job: Path) -> None:
    dated.add("calexp", "c.fits", run=RUN_A, visit=1, ccd=2, filter="HSC-R", pointing=533)
    spec = RepoSpec("hsc", (InputSpec("calexp"),), calibs=CalibSpec(CALIBS))
    materialize_repo(dated.registry, job, spec)
    assert chosen(job) == {("bias", "2013-06-01", "2013-01-01", "2013-06-30")}


# Archives and fixed names


def test_the_preferred_archive_gives_the_file(survey: Survey, tmp_path: Path) -> None:
    copies = {"home": survey.add_raw(1, 2)}
    for name in ("scratch", "attic"):
        survey.add_archive(name)
        copies[name] = survey.add("hsc_raw", "raw/1-2.fits", archive=name, **raw_values(1, 2))
    for order in (("scratch", "home"), ("home", "scratch"), ("attic",), ()):
        target = tmp_path / "-".join(order or ["any"])
        materialize_repo(survey.registry, target, raws(archives=order))
        assert links(target / "in") == {
            "STRIPE82L/2013-06-17/00533/HSC-R/HSC-0000001-002.fits": copies[order[0] if order else "attic"]
        }


def test_a_file_only_elsewhere_is_taken_from_there(survey: Survey, job: Path) -> None:
    survey.add_archive("scratch")
    first = survey.add_raw(1, 2)
    second = survey.add("hsc_raw", "raw/3-4.fits", archive="scratch", **raw_values(3, 4))
    materialize_repo(survey.registry, job, raws(archives=("scratch",)))
    assert set(links(job / "in").values()) == {first, second}


def test_a_fixed_name_is_taken_by_name_or_by_relpath(registry: Registry, demo: Demo, job: Path) -> None:
    files = (
        FileSpec("skyMap-1.pickle", "deepCoadd/skyMap.pickle"),
        FileSpec("skymap/skyMap-1.pickle", "other/map.pkl"),
    )
    report = materialize_repo(registry, job, RepoSpec("hsc", files=files))
    source = demo.archive / "skymap/skyMap-1.pickle"
    assert links(job / "in") == {"deepCoadd/skyMap.pickle": source, "other/map.pkl": source}
    assert (report.files, report.inputs, report.exposures) == (2, 0, 0)
    assert set(manifest_of(job)["files"][0]) == {"source", "path", "filesize", "md5sum"}


def test_a_name_that_several_files_have_lists_them(survey: Survey, job: Path) -> None:
    wanted = survey.add("deepcoadd_skymap", "a/map.pickle", run=RUN_A)
    survey.add("deepcoadd_skymap", "b/map.pickle", run=RUN_A)
    with pytest.raises(
        AmbiguousError, match=r"several files are called map\.pickle:\n.*a/map\.pickle.*\n.*b/map\.pickle"
    ):
        materialize_repo(survey.registry, job, RepoSpec("hsc", files=(FileSpec("map.pickle", "x"),)))
    materialize_repo(survey.registry, job, RepoSpec("hsc", files=(FileSpec("a/map.pickle", "x"),)))
    assert links(job / "in") == {"x": wanted}


# The manifest


def test_the_manifest_has_the_keys_of_the_contract(full: Path) -> None:
    manifest = manifest_of(full)
    assert list(manifest)[:6] == ["schema", "dbb", "mapper", "era", "stage", "created"]
    assert set(manifest) == {
        "schema", "dbb", "mapper", "era", "stage", "created", "butler", "exposures", "inputs", "calibs", "files",
        "refcats", "outputs",
    }  # fmt: skip
    assert (manifest["schema"], manifest["dbb"], manifest["mapper"]) == (1, dbb.__version__, "hsc")
    assert (manifest["era"], manifest["stage"], manifest["refcats"]) == ("both", "auto", [])
    assert {len(manifest[name]) for name in ("exposures",)} == {33}
    common = {"dataset", "data_id", "run", "source", "path", "filesize", "md5sum"}
    for entry in manifest["inputs"]:
        assert set(entry) - {"sha256"} == common
        assert str(entry["source"]).startswith("file:///")
        assert str(entry["path"]).startswith("in/")
    for entry in manifest["calibs"]:
        assert set(entry) - {"sha256"} == common | {"calib_date", "valid_start", "valid_end"}
    for entry in manifest["outputs"]:
        assert {"dataset", "section", "template"} <= set(entry)
    assert {tuple(sorted(row)) for row in manifest["exposures"]} == {tuple(sorted(name for name, _ in RAW_COLUMNS[1:]))}


def test_a_manifest_entry_tells_dataset_data_id_run_and_checksum(demo: Demo, full: Path) -> None:
    by_path = {entry["path"]: entry for entry in manifest_of(full)["inputs"]}
    row = next(row for row in demo.rows("calexps") if row["relpath"].endswith("CORR-0903334-016-r12p01.fits"))
    assert by_path[f"in/{CALEXP_16}"] == {
        "dataset": "calexp", "data_id": {"visit": 903334, "ccd": 16}, "run": RUN_A,
        "source": f"file://{demo.archive}/{row['relpath']}", "path": f"in/{CALEXP_16}",
        "filesize": int(row["filesize"]), "md5sum": row["md5sum"],
    }  # fmt: skip
    assert by_path[f"in/{RAW_16}"]["run"] is None


WITHOUT_REGISTRY = """
import json, sys
from dbb_cli.main import run
code = run(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted(sys.modules)}))
"""


@pytest.mark.parametrize("stage", ["symlink", "copy"])
def test_a_manifest_alone_builds_the_same_repository(demo: Demo, tmp_path: Path, stage: str) -> None:
    url = demo.copy(tmp_path / "db")
    with Registry(url) as opened:
        materialize_repo(opened, tmp_path / "first/JOB", replace(FULL, stage=stage))
    expected = tree(tmp_path / "first/JOB")
    shutil.move(tmp_path / "first/JOB/manifest.json", tmp_path / "manifest.json")
    shutil.rmtree(tmp_path / "first")
    shutil.rmtree(tmp_path / "db")
    (tmp_path / "first").mkdir()
    arguments = ["materialize-repo", tmp_path / "first/JOB", "--from", tmp_path / "manifest.json"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_REGISTRY, *arguments],
        capture_output=True, text=True, check=True, env=os.environ | {"DBB_PLUGINS": "none", "DBB_REGISTRY": "nowhere"},
    )  # fmt: skip
    reply = json.loads(done.stdout)
    assert (reply["code"], tree(tmp_path / "first/JOB")) == (0, expected)
    foreign = {"sqlalchemy", "fsspec", "astropy", "numpy", "pyarrow", "yaml"}
    assert foreign & set(reply["modules"]) == set()
    assert not (tmp_path / "db").exists()


LIBRARY_ONLY = """
import sys
from pathlib import Path
from dbb.butler import materialize_manifest
materialize_manifest(Path(sys.argv[1]), Path(sys.argv[2]))
ours = {name for name in sys.modules if name.split(".")[0] not in sys.stdlib_module_names}
print(sorted({name.split(".")[0] for name in ours if not name.startswith("_")}))
"""


def test_the_library_needs_nothing_but_the_standard_one_for_a_manifest(full: Path, job: Path) -> None:
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(PROJECT)!r}]\n{LIBRARY_ONLY}"]
    done = subprocess.run([*command, job, full / "manifest.json"], capture_output=True, text=True, check=True)
    assert done.stdout == "['dbb']\n"
    assert tree(job) == tree(full)


def test_a_manifest_builds_the_same_elsewhere_and_again(full: Path, job: Path, tmp_path: Path) -> None:
    assert run_dbb(["materialize-repo", str(job), "--from", str(full / "manifest.json")]) == 0
    assert tree(job) == tree(full)
    assert run_dbb(["materialize-repo", str(tmp_path / "JOB2"), "--from", str(job / "manifest.json")]) == 0
    assert tree(tmp_path / "JOB2") == tree(full)


def test_another_way_of_staging_may_be_chosen_for_a_manifest(full: Path, job: Path) -> None:
    assert run_dbb(["materialize-repo", str(job), "--from", str(full / "manifest.json"), "--stage", "copy"]) == 0
    assert {path: what for path, what in tree(job).items() if what.startswith("->")} == {"out/CALIB": "-> ../in/CALIB"}
    assert sha256(job / "in" / RAW_16) == sha256(full / "in" / RAW_16)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_manifest_of_another_program_needs_no_part_that_only_dbb_knows(
    full: Path, job: Path, indent: int | None
) -> None:
    manifest = manifest_of(full)
    del manifest["butler"]
    foreign = dict(sorted(manifest.items(), reverse=True))
    path = job.parent / "foreign.json"
    path.write_text(json.dumps(foreign, indent=indent), encoding="utf-8")
    assert run_dbb(["materialize-repo", str(job), "--from", str(path)]) == 0
    assert without_manifest(job) == without_manifest(full)
    assert json.loads((job / "manifest.json").read_text(encoding="utf-8")) == manifest_of(full)


def without_manifest(job: Path) -> dict[str, str]:
    return {path: what for path, what in tree(job).items() if path != "manifest.json"}


# Costs, dry run, databases

COUNT_OPENS = """
import json, os, sys
archive, opened = sys.argv[1], []
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(archive + "/"):
            opened.append(path)
from dbb_cli.main import run
sys.addaudithook(note)
codes = [run(arguments) for arguments in json.loads(sys.argv[2])]
probe = os.open(archive + "/skymap/skyMap-1.pickle", os.O_RDONLY)
print(json.dumps({"codes": codes, "opened": opened}))
"""


def test_no_input_is_opened_whatever_links_are_made(demo: Demo, tmp_path: Path) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text(
        f'mapper = "hsc"\n[[inputs]]\ndataset = "raw"\n[[inputs]]\ndataset = "calexp"\nruns = ["{RUN_A}", "{RUN_B}"]\n'
        f'[[inputs]]\ndataset = "deepCoadd_calexp"\n[calibs]\nversion = "{CALIBS}"\n'
        '[[files]]\nfilename = "skyMap-1.pickle"\nas = "deepCoadd/skyMap.pickle"\n',
        encoding="utf-8",
    )
    first = ["materialize-repo", str(tmp_path / "J1"), "--spec", str(spec), "--registry", demo.url]
    again = [
        [
            "materialize-repo",
            str(tmp_path / f"J-{stage}"),
            "--from",
            str(tmp_path / "J1/manifest.json"),
            "--stage",
            stage,
        ]
        for stage in ("symlink", "relsymlink", "hardlink")
    ]
    done = subprocess.run(
        [sys.executable, "-c", COUNT_OPENS, os.path.realpath(demo.archive), json.dumps([first, *again])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    reply = json.loads(done.stdout)
    assert reply["codes"] == [0, 0, 0, 0]
    # the last one is the script's own, to show that it would notice
    assert reply["opened"] == [os.path.realpath(demo.archive / "skymap/skyMap-1.pickle")]


WATCHED_LINKER = """
import os, runpy, sys
opened = []
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(os.fsdecode(arguments[0]))
sys.addaudithook(note)
path, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(path, run_name="__main__")
print(opened, file=sys.stderr)
"""


def test_the_process_that_makes_the_links_of_a_large_job_opens_no_input_either(demo: Demo, tmp_path: Path) -> None:
    source = str(demo.archive / "skymap/skyMap-1.pickle")
    (tmp_path / "job").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_LINKER, linker.__file__, tmp_path / "job"],
        input=linker.encode(source, 57, source, "in/a/b"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert links(tmp_path / "job") == {"in/a/b": Path(source)}
    assert "in/a" in done.stderr
    assert source not in done.stderr


@pytest.mark.parametrize("stage", ["symlink", "relsymlink"])
def test_a_large_job_is_made_as_a_small_one_is(
    demo: Demo, full: Path, job: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = job.parent / "small/JOB"
    (job.parent / "large").mkdir()
    large = job.parent / "large/JOB"
    source = full / "manifest.json"
    assert run_dbb(["materialize-repo", str(small), "--from", str(source), "--stage", stage]) == 0
    monkeypatch.setattr(build, "MANY_LINKS", 20)
    assert run_dbb(["materialize-repo", str(large), "--from", str(source), "--stage", stage]) == 0
    assert tree(large) == tree(small)


def test_a_large_job_with_a_wrong_file_is_refused_as_a_small_one_is(
    survey: Survey, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MANY_LINKS", 3)
    paths = [survey.add_raw(1, ccd) for ccd in range(9)]
    paths[7].unlink()
    with pytest.raises(dbb.errors.IntegrityError, match=r"1-7\.fits is registered but cannot be found"):
        materialize_repo(survey.registry, job, raws())
    (survey.roots["home"] / "raw/1-7.fits").mkdir()
    with pytest.raises(dbb.errors.IntegrityError, match=r"1-7\.fits is no regular file"):
        materialize_repo(survey.registry, job, raws())
    assert [path.name for path in job.parent.iterdir()] == ["survey"]
    clash = raws(files=(FileSpec("1-1.fits", "STRIPE82L"),))
    paths[7].rmdir()
    paths[7].write_text("raw/1-7.fits", encoding="utf-8")
    with pytest.raises(ConflictError, match="a file and a folder would have one name there"):
        materialize_repo(survey.registry, job, clash)
    assert [path.name for path in job.parent.iterdir()] == ["survey"]


def test_the_number_of_statements_does_not_grow_with_the_inputs(registry: Registry, tmp_path: Path) -> None:
    counts = []
    registry.filetypes()
    for name, where in (("few", "visit = 903334 AND ccd = 16"), ("many", "visit > 0")):
        inputs = (InputSpec("raw", where=where), InputSpec("calexp", where=where, runs=(RUN_A, RUN_B)))
        with counted(registry) as sent:
            report = materialize_repo(registry, tmp_path / name, replace(FULL, inputs=inputs))
        counts.append((report.inputs, len(sent)))
    (few, few_sent), (many, many_sent) = counts
    assert (few, many) == (2, 66)
    assert few_sent == many_sent


def test_a_dry_run_says_the_same_and_writes_nothing(registry: Registry, tmp_path: Path) -> None:
    dry = materialize_repo(registry, tmp_path / "a/JOB", FULL, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    wet = materialize_repo(registry, tmp_path / "a/JOB", FULL)
    assert dry == replace(wet, dry_run=True)


def test_a_dry_run_finds_what_is_wrong(registry: Registry, survey: Survey, job: Path) -> None:
    with pytest.raises(MissingError, match="no hsc_raw fits where 'visit = 1'"):
        materialize_repo(registry, job, RepoSpec("hsc", (InputSpec("raw", where="visit = 1"),)), dry_run=True)
    survey.add_raw(1, 2).unlink()
    with pytest.raises(dbb.errors.IntegrityError, match="cannot be found"):
        materialize_repo(survey.registry, job, raws(), dry_run=True)
    job.mkdir()
    with pytest.raises(ConflictError, match="exists"):
        materialize_repo(registry, job, raws(), dry_run=True)


def test_progress_counts_the_files(registry: Registry, job: Path) -> None:
    seen: list[int] = []
    report = materialize_repo(registry, job, FULL, progress=seen.append)
    assert seen == list(range(1, report.inputs + report.calibs + report.files + 1))


def test_every_database_gives_the_same_repository(demo: Demo, full: Path, registry_url: str, job: Path) -> None:
    with fill(demo, registry_url) as opened:
        materialize_repo(opened, job, FULL)
    assert without_manifest(job) == without_manifest(full)
    assert manifest_of(job) | {"created": ""} == manifest_of(full) | {"created": ""}


def test_the_repository_reads_back_through_our_own_reader(full: Path) -> None:
    manifest = manifest_of(full)
    with Repository(full / "out") as repository:
        for entry in manifest["inputs"]:
            uri = repository.get_uri(str(entry["dataset"]), **entry["data_id"])
            assert Path(uri) == full / str(entry["path"])
        for row in manifest["exposures"]:
            for name in ("bias", "dark", "flat"):
                assert repository.exists(name, visit=row["visit"], ccd=row["ccd"])
