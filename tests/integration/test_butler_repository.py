"""`Repository` finds in a Gen2 repository what the Butler finds, and refuses what could do harm."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.butler import Repository
from dbb.butler.chain import is_same_class
from dbb.butler.config import format_config, read_config
from dbb.errors import (
    AmbiguousError,
    ConflictError,
    IntegrityError,
    MissingError,
    NotFoundError,
    UnsafePathError,
    UsageError,
)
from dbb.mapper import Mapper
from dbb.plugins import plugins

HSC = "lsst.obs.hsc.hscMapper.HscMapper"
MINIMAL = """\
!RepositoryCfg_v1
_mapper: !!python/name:lsst.obs.hsc.hscMapper.HscMapper ''
_mapperArgs: {}
_parents:
- ../in
_policy:
  datasets:
    src:
      template: 'MMG/r20/p01/output/SRC-%(visit)07d-%(ccd)03d-r20p01.fits'
  exposures:
    calexp:
      template: 'MMG/r20/p01/corr/CORR-%(visit)07d-%(ccd)03d-r20p01.fits'
_root: null
"""
OVERRIDES = {
    "exposures": {"calexp": {"template": "MMG/r20/p01/corr/CORR-%(visit)07d-%(ccd)03d-r20p01.fits"}},
    "datasets": {"src": {"template": "MMG/r20/p01/output/SRC-%(visit)07d-%(ccd)03d-r20p01.fits"}},
}
EXPOSURES = [  # field, visit, ccd, pointing, filter, dateObs
    ("STRIPE82L", 903334, 16, 671, "HSC-R", "2013-06-17"),
    ("STRIPE82L", 903334, 22, 671, "HSC-R", "2013-06-17"),
    ("STRIPE82L", 903336, 17, 671, "HSC-R", "2013-06-17"),
    ("STRIPE82L", 904010, 4, 671, "HSC-I", "2013-11-02"),
]
CALIBRATIONS = {  # filter, ccd, calibDate, validStart, validEnd
    "bias": [
        ("NONE", 16, "2013-06-01", "2013-01-01", "2013-08-31"),
        ("NONE", 16, "2013-11-01", "2013-09-01", "2014-12-31"),
        ("NONE", 4, "2013-06-01", "2013-01-01", "2013-12-31"),
        ("NONE", 4, "2013-11-01", "2013-06-01", "2014-12-31"),
    ],
    "flat": [
        ("HSC-R", 16, "2013-06-02", "1970-01-01", "2037-12-31"),
        ("HSC-I", 16, "2013-06-03", "1970-01-01", "2037-12-31"),
    ],
    "dark": [("NONE", 16, "2014-07-01", "2014-01-01", "2037-12-31")],
}
RAW = "STRIPE82L/2013-06-17/00671/HSC-R/HSC-0903334-016.fits"
CALEXP = "00671/HSC-R/corr/CORR-0903334-016.fits"
PATCH = "deepCoadd-results/HSC-R/0/8,6/calexp-HSC-R-0-8,6.fits"


def write(path: Path, text: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text is not None else str(path), encoding="utf-8")
    return path


def make_repo(
    root: Path, *parents: str, policy: Mapping[str, Mapping[str, Mapping[str, object]]] | None = None, mapper: str = HSC
) -> Path:
    write(root / "repositoryCfg.yaml", format_config(mapper, parents, policy or {}))
    return root


def make_registry(root: Path, exposures: list[tuple[str, int, int, int, str, str]] | None = None) -> None:
    rows = EXPOSURES if exposures is None else exposures
    with closing(sqlite3.connect(root / "registry.sqlite3")) as registry, registry:
        registry.execute(
            "CREATE TABLE raw (id integer primary key autoincrement, field text,visit int,ccd int,pointing int,"
            "filter text,proposal text,dateObs text,taiObs text,expTime double,pa double,autoguider int,"
            "ccdTemp double,config text,frameId text,expId text,dataType text, unique(visit,ccd))"
        )
        registry.execute(
            "CREATE TABLE raw_visit (visit int,field text,filter text,dateObs text,taiObs text, unique(visit))"
        )
        for field, visit, ccd, pointing, name, date in rows:
            registry.execute(
                "INSERT INTO raw (field,visit,ccd,pointing,filter,dateObs,taiObs,expTime) VALUES (?,?,?,?,?,?,?,30.0)",
                (field, visit, ccd, pointing, name, date, date),
            )
            registry.execute("INSERT OR IGNORE INTO raw_visit VALUES (?,?,?,?,?)", (visit, field, name, date, date))


def make_calib_registry(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(root / "calibRegistry.sqlite3")) as registry, registry:
        for table, rows in CALIBRATIONS.items():
            registry.execute(
                f"CREATE TABLE {table} (id integer primary key autoincrement, filter text,ccd int,calibDate text,"
                "validStart text,validEnd text, unique(filter,ccd,calibDate))"
            )
            registry.executemany(
                f"INSERT INTO {table} (filter,ccd,calibDate,validStart,validEnd) VALUES (?,?,?,?,?)", rows
            )


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job's two repositories: a link farm ``in`` and ``out`` with names of its own for calexp and src."""
    root = make_repo(tmp_path / "job/in")
    make_registry(root)
    calib = root / "CALIB"
    make_calib_registry(calib)
    for place in (
        "BIAS/2013-06-01/NONE/BIAS-2013-06-01-016.fits",
        "BIAS/2013-11-01/NONE/BIAS-2013-11-01-016.fits",
        "BIAS/2013-06-01/NONE/BIAS-2013-06-01-004.fits",
        "BIAS/2013-11-01/NONE/BIAS-2013-11-01-004.fits",
        "FLAT/2013-06-02/HSC-R/FLAT-2013-06-02-HSC-R-016.fits",
        "FLAT/2013-06-03/HSC-I/FLAT-2013-06-03-HSC-I-016.fits",
        "DARK/2014-07-01/NONE/DARK-2014-07-01-016.fits",
        "BFKERNEL/brighter_fatter_kernel.pkl",
    ):
        write(calib / place)
    for place in (
        PATCH,
        "deepCoadd/skyMap.pickle",
        "ref_cats/ps1/189584.fits",
        "00671/HSC-R/corr/BKGD-0903334-016.fits",
    ):
        write(root / place)
    for place, name in ((RAW, "raw/HSCA90333416.fits"), (CALEXP, "r11/p05/CORR-0903334-016-r11p05.fits")):
        link = root / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(write(tmp_path / "archive" / name))
    out = make_repo(tmp_path / "job/out", "../in", policy=OVERRIDES)
    (out / "CALIB").symlink_to("../in/CALIB")
    return tmp_path / "job"


@pytest.fixture
def repo(job: Path) -> Iterator[Repository]:
    with Repository(job / "out") as opened:
        yield opened


class TestConfiguration:
    def test_the_text_is_that_which_both_butlers_are_known_to_read(self) -> None:
        assert format_config(HSC, ["../in"], OVERRIDES) == MINIMAL

    def test_without_parents_and_policy_the_text_says_so(self) -> None:
        text = f"!RepositoryCfg_v1\n_mapper: !!python/name:{HSC} ''\n_mapperArgs: {{}}\n_parents: []\n_root: null\n"
        assert format_config(HSC, [], {}) == text

    # Anything that a template, a table name or a folder may be, and much that they may not.
    texts = st.text(st.characters(codec="utf-16"), min_size=1)
    entries = st.dictionaries(
        st.sampled_from(["template", "tables", "python", "storage", "on"]),
        texts | st.lists(texts) | st.integers() | st.booleans() | st.none(),
        min_size=1,
    )
    sections = st.dictionaries(texts.map(lambda text: text[:50]), entries, min_size=1, max_size=3)

    @given(st.lists(texts, max_size=3), st.dictionaries(texts.map(lambda text: text[:50]), sections, max_size=3))
    def test_what_is_written_is_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, parents: list[str], policy: Any
    ) -> None:
        repo = tmp_path_factory.getbasetemp()
        write(repo / "repositoryCfg.yaml", format_config(HSC, parents, policy))
        found = read_config(repo)
        assert (found.mapper_class, found.parents, found.policy) == (HSC, tuple(parents), policy)

    def test_the_order_of_mappings_does_not_change_the_text(self) -> None:
        turned = {name: OVERRIDES[name] for name in reversed(OVERRIDES)}
        assert format_config(HSC, [], turned) == format_config(HSC, [], OVERRIDES)

    @pytest.mark.parametrize("mapper", ["os.system\nx: !!python/object:a.B {}", "HscMapper", "a.b c", ""])
    def test_a_mapper_that_is_no_dotted_name_is_not_written(self, mapper: str) -> None:
        with pytest.raises(UsageError, match="no dotted name"):
            format_config(mapper, [], {})

    def test_a_value_that_yaml_cannot_hold_is_not_written(self) -> None:
        with pytest.raises(UsageError, match="cannot hold"):
            format_config(HSC, [], {"datasets": {"src": {"template": object()}}})

    def test_the_policy_object_that_the_butler_writes_is_read_as_a_mapping(self, tmp_path: Path) -> None:
        write(
            tmp_path / "repositoryCfg.yaml",
            f"!RepositoryCfg_v1\n_mapper: !!python/name:{HSC} ''\n_mapperArgs: null\n_parents: null\n"
            "_policy: !!python/object:lsst.daf.persistence.policy.Policy\n"
            "  data: {datasets: {src: {template: a.fits}}}\n_root: null\ndirty: true\n",
        )
        found = read_config(tmp_path)
        assert (found.parents, found.override("datasets", "src")) == ((), {"template": "a.fits"})

    def test_an_old_parent_that_2021_wrote_as_a_whole_configuration_is_its_root(self, tmp_path: Path) -> None:
        write(
            tmp_path / "repositoryCfg.yaml",
            f"!RepositoryCfg_v1\n_mapper: !!python/name:{HSC} ''\n_mapperArgs: {{}}\n_parents:\n- !RepositoryCfg_v1\n"
            f"  _mapper: !!python/name:{HSC} ''\n  _mapperArgs: {{}}\n  _parents: []\n"
            "  _policy: null\n  _root: ../old\n"
            "_root: null\n",
        )
        assert read_config(tmp_path).parents == ("../old",)

    @pytest.mark.parametrize(
        "value",
        [
            "!!python/object/apply:os.system ['touch {0}']",
            "!!python/object/new:os.system ['touch {0}']",
            "!!python/object:os.system {{}}",
            "!!python/module:antigravity ''",
            "!!python/object:lsst.daf.persistence.policy.Policy [1]",
            "!unknown {{}}",
            "[" * 5000,
            "2013-99-99",
        ],
    )
    def test_hostile_values_are_refused_and_nothing_runs(self, tmp_path: Path, value: str) -> None:
        text = format_config(HSC, [], {}).replace(
            "_root: null", f"_policy: {value.format(tmp_path / 'ran')}\n_root: null"
        )
        write(tmp_path / "repositoryCfg.yaml", text)
        with pytest.raises(UsageError, match="no usable configuration"):
            Repository(tmp_path)
        assert not (tmp_path / "ran").exists()
        assert "antigravity" not in sys.modules

    def test_the_name_of_a_mapper_is_not_imported(self, tmp_path: Path) -> None:
        make_repo(tmp_path, mapper="antigravity.Mapper")
        with pytest.raises(NotFoundError, match=r"unknown mapper class 'antigravity.Mapper'"):
            Repository(tmp_path)
        assert "antigravity" not in sys.modules

    @pytest.mark.parametrize(
        ("old", "new", "why"),
        [
            ("!RepositoryCfg_v1\n", "", "!RepositoryCfg_v1"),
            ("_root: null", "_root: /elsewhere", "_root"),
            ("_parents: []", "_parents: {a: b}", "_parents"),
            (f"!!python/name:{HSC} ''", "null", "dotted name"),
        ],
    )
    def test_what_no_butler_reads_is_refused(self, tmp_path: Path, old: str, new: str, why: str) -> None:
        write(tmp_path / "repositoryCfg.yaml", format_config(HSC, [], {}).replace(old, new))
        with pytest.raises(UsageError, match=why):
            read_config(tmp_path)

    def test_a_folder_without_configuration_is_no_repository(self, tmp_path: Path) -> None:
        with pytest.raises(MissingError, match="is no Gen2 repository"):
            Repository(tmp_path)
        with pytest.raises(MissingError, match="is not a folder"):
            Repository(tmp_path / "absent")

    def test_a_class_may_be_named_by_its_module_or_the_package_that_exports_it(self) -> None:
        assert is_same_class("lsst.obs.hsc.HscMapper", HSC)
        assert not is_same_class("lsst.obs.hsc.SuprimecamMapper", HSC)
        assert not is_same_class("lsst.obs.HscMapper", HSC)
        assert not is_same_class("lsst.obs.hsc.other.HscMapper", HSC)


class TestReading:
    def test_a_raw_is_found_through_the_parent_and_its_registry(self, repo: Repository, job: Path) -> None:
        assert repo.get_uri("raw", visit=903334, ccd=16) == str(job / "in" / RAW)

    def test_a_filetype_means_its_dataset_type(self, repo: Repository, job: Path) -> None:
        assert repo.get_uri("hsc_raw", visit=903334, ccd=16) == str(job / "in" / RAW)

    def test_an_override_holds_for_its_own_repository_only(self, repo: Repository, job: Path) -> None:
        assert repo.get_uri("calexp", visit=903334, ccd=16) == str(job / "in" / CALEXP)
        own = write(job / "out/MMG/r20/p01/corr/CORR-0903334-016-r20p01.fits")
        assert repo.get_uri("calexp", visit=903334, ccd=16) == str(own)

    def test_an_override_in_the_wrong_section_is_not_used(self, job: Path) -> None:
        make_repo(job / "other", "../in", policy={"datasets": {"calexp": {"template": "x.fits"}}})
        write(job / "other/x.fits")
        with Repository(job / "other") as repo:
            assert repo.get_uri("calexp", visit=903334, ccd=16) == str(job / "in" / CALEXP)

    def test_texts_and_synonyms_are_taken_in_a_data_id(self, repo: Repository, job: Path) -> None:
        assert repo.get_uri("calexp", visit="903334", detector="16") == str(job / "in" / CALEXP)

    @pytest.mark.parametrize("patch", ["8,6", "8x6"])
    def test_both_spellings_of_a_patch_are_one_file(self, repo: Repository, job: Path, patch: str) -> None:
        assert repo.get_uri("deepCoadd_calexp", tract="0", patch=patch, filter="HSC-R") == str(job / "in" / PATCH)

    def test_keys_that_a_template_does_not_need_do_no_harm(self, repo: Repository, job: Path) -> None:
        assert repo.get_uri("deepCoadd_skyMap", tract=0) == str(job / "in/deepCoadd/skyMap.pickle")

    def test_a_band_is_taken_where_it_means_one_filter(self, repo: Repository) -> None:
        with pytest.raises(UsageError, match="HSC-R and HSC-R2"):
            repo.exists("deepCoadd_calexp", tract=0, patch="8,6", band="r")
        assert repo.subset("deepCoadd_calexp", tract=0, patch="8,6", band="g")[0]["filter"] == "HSC-G"

    @pytest.mark.parametrize("suffix", [".gz", ".fz"])
    def test_a_compressed_file_is_found_and_the_plain_name_wins(self, repo: Repository, job: Path, suffix: str) -> None:
        packed = write(job / f"in/00671/HSC-I/output/ICSRC-0904010-004.fits{suffix}")
        assert repo.get_uri("icSrc", visit=904010, ccd=4) == str(packed)
        plain = write(job / "in/00671/HSC-I/output/ICSRC-0904010-004.fits")
        assert repo.get_uri("icSrc", visit=904010, ccd=4) == str(plain)

    def test_gzip_wins_over_fpack(self, repo: Repository, job: Path) -> None:
        write(job / "in/00671/HSC-I/output/ICSRC-0904010-004.fits.fz")
        packed = write(job / "in/00671/HSC-I/output/ICSRC-0904010-004.fits.gz")
        assert repo.get_uri("icSrc", visit=904010, ccd=4) == str(packed)

    def test_what_is_absent_is_told_with_the_places_that_were_looked_at(self, repo: Repository, job: Path) -> None:
        with pytest.raises(MissingError) as caught:
            repo.get_uri("src", visit=903334, ccd=16)
        assert "no src for visit=903334 ccd=16" in str(caught.value)
        assert f"{job / 'out/MMG/r20/p01/output/SRC-0903334-016-r20p01.fits'} is not there" in str(caught.value)
        assert f"{job / 'in/00671/HSC-R/output/SRC-0903334-016.fits'} is not there" in str(caught.value)
        assert not repo.exists("src", visit=903334, ccd=16)

    def test_an_exposure_that_the_registry_lacks_is_missing(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="0 rows of raw"):
            repo.get_uri("raw", visit=1, ccd=1)

    def test_a_data_id_that_fits_several_rows_is_missing(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="2 rows of raw"):
            repo.get_uri("raw", visit=903334)

    def test_a_link_to_nothing_is_named_and_hides_the_parents(self, repo: Repository, job: Path) -> None:
        dead = job / "out/MMG/r20/p01/corr/CORR-0903334-016-r20p01.fits"
        dead.parent.mkdir(parents=True)
        dead.symlink_to("gone.fits")
        with pytest.raises(IntegrityError, match=r"r20p01\.fits is a link to gone\.fits"):
            repo.get_uri("calexp", visit=903334, ccd=16)
        assert not repo.exists("calexp", visit=903334, ccd=16)

    def test_an_unknown_dataset_or_key_lists_the_known_ones(self, repo: Repository) -> None:
        with pytest.raises(NotFoundError, match="unknown dataset type 'calex'; known: calexp"):
            repo.get_uri("calex", visit=1)
        with pytest.raises(NotFoundError, match="unknown data id key 'vist'; known: visit"):
            repo.exists("calexp", vist=1)

    @pytest.mark.parametrize("data_id", [{"visit": "x"}, {"visit": None}, {"visit": True}, {"patch": "8"}])
    def test_a_value_of_the_wrong_type_is_refused(self, repo: Repository, data_id: dict[str, object]) -> None:
        with pytest.raises(UsageError, match="the data id has"):
            repo.get_uri("calexp", **data_id)

    def test_two_names_of_one_key_must_agree(self, repo: Repository) -> None:
        assert repo.exists("calexp", visit=903334, ccd=16, detector="16")
        with pytest.raises(UsageError, match="mean the same key"):
            repo.exists("calexp", visit=903334, ccd=16, detector=17)

    def test_a_template_with_wildcards_fits_exactly_one_file(self, job: Path) -> None:
        wild = {"exposures": {"calexp": {"template": "r*/CORR-%(visit)07d-%(ccd)03d-r*.fits"}}}
        root = make_repo(job / "wild", "../in", policy=wild)
        one = write(root / "r1/CORR-0903334-016-r1p01.fits")
        with Repository(root) as repo:
            assert repo.get_uri("calexp", visit=903334, ccd=16) == str(one)
            write(root / "r2/CORR-0903334-016-r2p01.fits")
            with pytest.raises(AmbiguousError, match="fits 2 files"):
                repo.get_uri("calexp", visit=903334, ccd=16)
            with pytest.raises(UnsafePathError):
                repo.put("calexp", b"", visit=903334, ccd=16)

    def test_a_camera_may_be_given_and_differ_from_all_plugins(self, tmp_path: Path) -> None:
        write(
            tmp_path / "mini/mapper.toml",
            'butler_class = "obs.mini.MiniMapper"\nraw = "mini_raw"\n[registry]\nexposure = ["visit"]\n'
            'date = "taiObs"\nraw = { visit = "int" }\nvisit = ["visit"]\n[datasets.thing]\nsection = "datasets"\n'
            'template = "thing-%(visit)d%(name)s"\n',
        )
        write(tmp_path / "mini/filetypes.toml", '[filetypes.thing]\nkeys = ["visit"]\ncolumns = { visit = "int" }\n')
        root = make_repo(tmp_path / "repo", mapper="obs.mini.MiniMapper")
        write(root / "thing-5a b")
        with Repository(root, Mapper("mini", tmp_path / "mini")) as repo:
            assert repo.get_uri("thing", visit=5, name="a b") == str(root / "thing-5a b")

    def test_a_repository_can_be_used_without_with_and_after_closing(self, job: Path) -> None:
        repo = Repository(str(job / "in"))
        assert repo.exists("raw", visit=903334, ccd=16)
        repo.close()
        assert repo.exists("raw", visit=903334, ccd=16)

    def test_nothing_in_a_repository_changes_by_reading(self, repo: Repository, job: Path) -> None:
        before = {path: path.lstat().st_mtime_ns for path in sorted(job.rglob("*"))}
        repo.exists("bias", visit=903334, ccd=16)
        repo.subset("raw", visit=903334)
        assert {path: path.lstat().st_mtime_ns for path in sorted(job.rglob("*"))} == before

    def test_a_path_with_signs_that_urls_and_patterns_use_is_read(self, job: Path) -> None:
        odd = job.rename(job.with_name("a?b#c%20[d]*"))
        with Repository(odd / "out") as repo:
            assert repo.get_uri("raw", visit=903334, ccd=16) == str(odd / "in" / RAW)


class TestEras:
    def test_the_metadata_of_both_eras_are_found_and_2021_comes_first(self, job: Path) -> None:
        old = write(job / "in/00671/HSC-R/processCcd_metadata/0903334-016.boost")
        ids = {"visit": 903334, "ccd": 16}
        with Repository(job / "out") as repo, Repository(job / "out", era="2021") as late:
            assert repo.get_uri("processCcd_metadata", **ids) == str(old)
            assert not late.exists("processCcd_metadata", **ids)
            new = write(job / "in/00671/HSC-R/processCcd_metadata/0903334-016.yaml")
            assert repo.get_uri("processCcd_metadata", **ids) == str(new)

    def test_a_type_of_the_other_era_is_unknown(self, job: Path) -> None:
        with Repository(job / "out", era="2017") as repo, pytest.raises(NotFoundError, match="Butler of 2017"):
            repo.exists("skyCorr", visit=903334, ccd=16)

    def test_an_unknown_era_is_refused(self, job: Path) -> None:
        with pytest.raises(UsageError, match="era"):
            Repository(job / "out", era="2030")


class TestImports:
    @pytest.mark.parametrize(
        ("module", "heavy"),
        [
            ("dbb.butler.config", {"yaml", "sqlalchemy", "numpy", "astropy", "fsspec", "pluggy", "sqlite3"}),
            ("dbb.butler.repository", {"yaml", "sqlalchemy", "numpy", "astropy", "fsspec", "pluggy"}),
        ],
    )
    def test_the_standard_library_is_enough_to_import(self, module: str, heavy: set[str]) -> None:
        code = f"import sys, {module}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert heavy.isdisjoint(done.stdout.split())


class TestParents:
    @pytest.fixture
    def runs(self, job: Path) -> Path:
        """Two runs above ``in``, each with a calexp of one name."""
        for name in ("a", "b"):
            make_repo(job / name)
            write(job / name / CALEXP)
        return job

    @pytest.mark.parametrize(("order", "winner"), [(["../a", "../b", "../in"], "a"), (["../b", "../a", "../in"], "b")])
    def test_parents_are_searched_in_the_order_of_the_list(self, runs: Path, order: list[str], winner: str) -> None:
        make_repo(runs / "top", *order)
        for name in ("a", "b"):
            make_registry(runs / name)
        with Repository(runs / "top") as repo:
            assert repo.get_uri("calexp", visit=903334, ccd=16) == str(runs / winner / CALEXP)

    def test_grandparents_come_before_the_next_parent(self, runs: Path) -> None:
        make_repo(runs / "child", "../b")
        make_repo(runs / "top", "../child", "../a")
        with Repository(runs / "top") as repo:
            complete = {"visit": 903334, "ccd": 16, "pointing": 671, "filter": "HSC-R"}
            assert repo.get_uri("calexp", **complete) == str(runs / "b" / CALEXP)

    def test_a_parent_without_registry_is_passed_over_unless_the_data_id_is_complete(self, runs: Path) -> None:
        make_repo(runs / "top", "../a", "../in")
        with Repository(runs / "top") as repo:
            assert repo.get_uri("calexp", visit=903334, ccd=16) == str(runs / "in" / CALEXP)
            complete = {"visit": 903334, "ccd": 16, "pointing": 671, "filter": "HSC-R"}
            assert repo.get_uri("calexp", **complete) == str(runs / "a" / CALEXP)

    def test_a_registry_is_not_inherited_from_a_parent_with_another_mapper(self, job: Path) -> None:
        root = make_repo(job / "top", "../in", mapper="lsst.obs.other.OtherMapper")
        write(root / CALEXP)
        with Repository(root, plugins().mapper("hsc")) as repo:
            assert repo.get_uri("calexp", visit=903334, ccd=16) == str(job / "in" / CALEXP)
            with pytest.raises(MissingError, match=r"top: it has no registry\.sqlite3 and inherits none"):
                repo.get_uri("src", visit=903334, ccd=16)

    def test_an_own_registry_replaces_the_inherited_one(self, job: Path) -> None:
        make_registry(job / "out", [("F", 1, 2, 3, "HSC-G", "2014-01-01")])
        write(job / "out/MMG/r20/p01/corr/CORR-0000001-002-r20p01.fits")
        with Repository(job / "out") as repo:
            assert repo.subset("calexp", visit=1)[0]["field"] == "F"
            assert repo.exists("raw", visit=903334, ccd=16), "the parent still asks its own"

    def test_a_parent_that_two_share_is_searched_once(self, runs: Path) -> None:
        for name in ("a", "b"):
            make_repo(runs / name, "../in")
        make_repo(runs / "top", "../a", "../b")
        with Repository(runs / "top") as repo:
            assert repo.get_uri("calexp", visit=903334, ccd=16) == str(runs / "a" / CALEXP)
            assert repo.get_uri("raw", visit=903334, ccd=16) == str(runs / "in" / RAW)

    def test_a_repository_that_is_its_own_ancestor_is_refused(self, tmp_path: Path) -> None:
        make_repo(tmp_path / "a", "../b")
        make_repo(tmp_path / "b", "../a")
        with pytest.raises(UsageError, match="its own ancestor"):
            Repository(tmp_path / "a")

    def test_an_absent_parent_is_named(self, tmp_path: Path) -> None:
        make_repo(tmp_path / "a", "../gone")
        with pytest.raises(MissingError, match=r"parent '\.\./gone'"):
            Repository(tmp_path / "a")

    def test_parents_count_from_the_real_folder(self, job: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/link").symlink_to(job / "out")
        with Repository(tmp_path / "elsewhere/link") as repo:
            assert repo.get_uri("raw", visit=903334, ccd=16) == str(job / "in" / RAW)


class TestOldStyle:
    def test_a_mapper_file_makes_a_repository(self, job: Path) -> None:
        (job / "in/repositoryCfg.yaml").unlink()
        write(job / "in/_mapper", "lsst.obs.hsc.HscMapper\n")
        with Repository(job / "in") as old, Repository(job / "out") as new:
            assert old.get_uri("raw", visit=903334, ccd=16) == str(job / "in" / RAW)
            assert new.get_uri("raw", visit=903334, ccd=16) == str(job / "in" / RAW)

    @pytest.mark.parametrize("own_mapper", [True, False])
    def test_a_parent_link_leads_to_the_parent(self, job: Path, own_mapper: bool) -> None:
        (job / "in/repositoryCfg.yaml").unlink()
        write(job / "in/_mapper", "lsst.obs.hsc.HscMapper\n")
        (job / "rerun").mkdir()
        (job / "rerun/_parent").symlink_to("../in")
        if own_mapper:
            write(job / "rerun/_mapper", "lsst.obs.hsc.HscMapper\n")
        own = write(job / "rerun/00671/HSC-R/output/SRC-0903334-016.fits")
        with Repository(job / "rerun") as repo:
            assert repo.get_uri("src", visit=903334, ccd=16) == str(own)
            assert repo.get_uri("raw", visit=903334, ccd=16) == str(job / "in" / RAW)

    def test_a_parent_link_to_itself_ends(self, tmp_path: Path) -> None:
        (tmp_path / "_parent").symlink_to(".")
        with pytest.raises(MissingError):
            Repository(tmp_path)

    def test_the_configuration_wins_over_the_mapper_file(self, job: Path) -> None:
        write(job / "out/_mapper", "some.other.Mapper\n")
        with Repository(job / "out") as repo:
            assert repo.exists("raw", visit=903334, ccd=16)


class TestCalibrations:
    @pytest.mark.parametrize("repository", ["in", "out"])
    def test_a_bias_is_chosen_by_the_date_of_the_visit(self, job: Path, repository: str) -> None:
        with Repository(job / repository) as repo:
            found = repo.get_uri("bias", visit=903334, ccd=16)
            assert found == str(job / repository / "CALIB/BIAS/2013-06-01/NONE/BIAS-2013-06-01-016.fits")
            assert "2013-11-01" in repo.get_uri("bias", visit=904010, ccd=16)

    def test_a_flat_is_chosen_by_the_filter_too(self, repo: Repository) -> None:
        assert repo.get_uri("flat", visit=903334, ccd=16).endswith("FLAT-2013-06-02-HSC-R-016.fits")
        assert repo.get_uri("flat", visit=904010, ccd=16).endswith("FLAT-2013-06-03-HSC-I-016.fits")

    def test_without_a_calibration_for_the_date_there_is_none(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="0 rows of dark give calibDate, exactly one must"):
            repo.get_uri("dark", visit=903334, ccd=16)

    def test_of_two_calibrations_for_the_date_none_is_taken(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="2 rows of bias give calibDate, exactly one must"):
            repo.get_uri("bias", visit=904010, ccd=4)

    def test_the_ccd_and_the_visit_are_needed(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="bias needs ccd"):
            repo.get_uri("bias", visit=903334)
        with pytest.raises(MissingError, match="2 rows of raw_visit give taiObs"):
            repo.get_uri("bias", ccd=16)

    def test_a_type_without_table_is_missing(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="has no table fringe"):
            repo.get_uri("fringe", visit=903334, ccd=16)

    def test_a_calibration_without_keys_is_just_a_file(self, repo: Repository, job: Path) -> None:
        assert repo.get_uri("bfKernel") == str(job / "out/CALIB/BFKERNEL/brighter_fatter_kernel.pkl")
        assert repo.exists("bfKernel", visit=903334, ccd=16)

    def test_calibrations_of_a_parent_are_found(self, job: Path) -> None:
        (job / "out/CALIB").unlink()
        with Repository(job / "out") as repo:
            assert repo.get_uri("bias", visit=903334, ccd=16).startswith(str(job / "in/CALIB"))

    def test_calibrations_may_lie_in_the_root_itself(self, job: Path) -> None:
        for path in (job / "in/CALIB").iterdir():
            path.rename(job / "in" / path.name)
        (job / "in/CALIB").rmdir()
        with Repository(job / "in") as repo:
            assert repo.get_uri("bias", visit=903334, ccd=16).startswith(str(job / "in/BIAS"))

    def test_the_mapper_argument_says_where_calibrations_are(self, job: Path) -> None:
        (job / "in/CALIB").rename(job / "calibs")
        config = job / "in/repositoryCfg.yaml"
        write(config, config.read_text().replace("_mapperArgs: {}", "_mapperArgs: {calibRoot: ../calibs}"))
        with Repository(job / "in") as repo:
            assert repo.get_uri("bias", visit=903334, ccd=16).startswith(str(job / "calibs/BIAS"))

    def test_a_template_may_take_the_place_from_the_registry(self, job: Path) -> None:
        with closing(sqlite3.connect(job / "in/CALIB/calibRegistry.sqlite3")) as registry, registry:
            registry.execute("ALTER TABLE bias ADD COLUMN dbb_path text")
            registry.execute("UPDATE bias SET dbb_path = 'BIAS/any/' || calibDate || '-' || ccd")
        make_repo(job / "in", policy={"calibrations": {"bias": {"template": "%(dbb_path)s.fits"}}})
        place = write(job / "in/CALIB/BIAS/any/2013-06-01-16.fits")
        with Repository(job / "in") as repo:
            assert repo.get_uri("bias", visit=903334, ccd=16) == str(place)


class TestMetadata:
    def test_values_come_from_the_registry_in_the_order_of_the_keys(self, repo: Repository) -> None:
        keys = ["field", "filter", "pointing", "dateObs"]
        assert repo.query_metadata("raw", keys, visit=903334, ccd=16) == [("STRIPE82L", "HSC-R", 671, "2013-06-17")]

    def test_a_single_key_gives_tuples_of_one(self, repo: Repository) -> None:
        assert repo.query_metadata("calexp", "ccd", visit=903334) == [(16,), (22,)]

    def test_each_value_comes_once(self, repo: Repository) -> None:
        assert repo.query_metadata("raw", "filter") == [("HSC-I",), ("HSC-R",)]

    def test_the_filter_of_a_visit_comes_from_the_table_of_visits(self, job: Path) -> None:
        with closing(sqlite3.connect(job / "in/registry.sqlite3")) as registry, registry:
            registry.execute("INSERT INTO raw_visit VALUES (5, 'F', 'HSC-Y', '2014-01-01', '2014-01-01')")
        with Repository(job / "out") as repo:
            assert repo.query_metadata("raw", ["filter", "taiObs"], visit=5) == [("HSC-Y", "2014-01-01")]
            assert repo.query_metadata("raw", ["field"], visit=5) == []
            assert repo.query_metadata("raw", "expTime", visit=903334) == [(30.0,)]

    def test_synonyms_are_keys_too(self, repo: Repository) -> None:
        assert repo.query_metadata("raw", ["detector"], exposure=903336) == [(17,)]

    def test_the_date_of_a_calibration_can_be_asked(self, repo: Repository) -> None:
        assert repo.query_metadata("bias", "calibDate", visit=904010, ccd=4) == [("2013-06-01",), ("2013-11-01",)]

    def test_unknown_keys_are_refused(self, repo: Repository) -> None:
        with pytest.raises(NotFoundError, match="unknown data id key 'fieldd'; known: field"):
            repo.query_metadata("raw", "fieldd")
        with pytest.raises(MissingError, match="has no column calibDate"):
            repo.query_metadata("raw", "calibDate", visit=903334)

    def test_what_no_registry_has_cannot_be_queried(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="deepCoadd_calexp needs patch, filter"):
            repo.query_metadata("deepCoadd_calexp", ["filter", "patch"], tract=0)

    def test_a_registry_that_is_no_database_is_named(self, job: Path) -> None:
        write(job / "out/registry.sqlite3", "this is no database, whatever its name may say")
        with Repository(job / "out") as repo:
            with pytest.raises(IntegrityError, match=r"out/registry\.sqlite3"):
                repo.query_metadata("raw", "field")
            with pytest.raises(IntegrityError, match=r"out/registry\.sqlite3"):
                repo.exists("raw", visit=903334, ccd=16)


class TestSubset:
    def test_every_row_of_the_registry_comes_whether_or_not_a_file_exists(self, repo: Repository) -> None:
        found = repo.subset("calexp", visit=903334)
        assert [data_id["ccd"] for data_id in found] == [16, 22]
        assert [repo.exists("calexp", **data_id) for data_id in found] == [True, False]

    def test_the_data_ids_are_complete(self, repo: Repository) -> None:
        assert repo.subset("calexp", visit=903336) == [
            {
                "field": "STRIPE82L", "visit": 903336, "ccd": 17, "pointing": 671, "filter": "HSC-R",
                "dateObs": "2013-06-17", "taiObs": "2013-06-17", "expTime": 30.0,
            }
        ]  # fmt: skip

    def test_tract_and_patch_are_echoed(self, repo: Repository) -> None:
        assert repo.subset("deepCoadd_calexp", tract="0", patch="8x6", filter="HSC-R") == [
            {"tract": 0, "patch": "8,6", "filter": "HSC-R"}
        ]
        with pytest.raises(MissingError, match="needs patch"):
            repo.subset("deepCoadd_calexp", tract=0, filter="HSC-R")

    def test_a_tract_is_carried_along_with_exposures(self, repo: Repository) -> None:
        assert [(one["tract"], one["ccd"]) for one in repo.subset("forced_src", visit=903334, tract=0)] == [
            (0, 16),
            (0, 22),
        ]

    def test_without_a_condition_everything_comes(self, repo: Repository) -> None:
        assert len(repo.subset("raw")) == len(EXPOSURES)

    def test_what_the_registry_does_not_know_is_empty(self, repo: Repository) -> None:
        assert repo.subset("raw", visit=1) == []


class TestPut:
    def test_a_file_goes_to_the_name_that_the_policy_gives(self, repo: Repository, job: Path, tmp_path: Path) -> None:
        source = write(tmp_path / "new.fits", "new")
        place = repo.put("calexp", source, visit=903334, ccd=16)
        assert place == str(job / "out/MMG/r20/p01/corr/CORR-0903334-016-r20p01.fits")
        assert repo.get_uri("calexp", visit=903334, ccd=16) == place
        assert (Path(place).read_text(), source.read_text()) == ("new", "new")

    def test_bytes_can_be_put(self, repo: Repository, job: Path) -> None:
        place = Path(repo.put("processCcd_config", b"config\n"))
        assert (place, place.read_bytes()) == (job / "out/config/processCcd.py", b"config\n")

    def test_a_link_is_replaced_and_its_target_untouched(self, job: Path) -> None:
        target = (job / "in" / CALEXP).resolve()
        before = target.read_bytes()
        with Repository(job / "in") as repo:
            place = Path(repo.put("calexp", b"new", visit=903334, ccd=16))
        assert (place, place.is_symlink(), place.read_bytes()) == (job / "in" / CALEXP, False, b"new")
        assert target.read_bytes() == before
        assert list(place.parent.glob(".*")) == []

    def test_a_link_to_nothing_is_replaced(self, repo: Repository, job: Path) -> None:
        (job / "out/config").mkdir()
        (job / "out/config/processCcd.py").symlink_to(job / "gone")
        repo.put("processCcd_config", b"x")
        assert not (job / "gone").exists()
        assert repo.exists("processCcd_config")

    def test_a_folder_that_is_a_link_out_of_the_repository_is_not_written_through(
        self, repo: Repository, job: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "outside").mkdir()
        (job / "out/config").symlink_to(tmp_path / "outside")
        with pytest.raises(UnsafePathError, match="leads out of it"):
            repo.put("processCcd_config", b"x")
        assert list((tmp_path / "outside").iterdir()) == []

    def test_calibrations_are_written_where_the_butler_writes_them(self, job: Path) -> None:
        ids = {"calibDate": "2015-01-01", "ccd": 16}
        place = "BIAS/2015-01-01/NONE/BIAS-2015-01-01-016.fits"
        with Repository(job / "out") as repo:
            assert repo.put("bias", b"x", **ids) == str(job / "out" / place)
        with Repository(job / "out", era="2017") as repo, pytest.raises(UnsafePathError):
            repo.put("bias", b"x", **ids)

    def test_a_data_id_that_cannot_be_completed_is_refused(self, repo: Repository) -> None:
        with pytest.raises(MissingError, match="0 rows of raw"):
            repo.put("icSrc", b"x", visit=1, ccd=1)

    def test_a_source_that_cannot_be_read_changes_nothing(self, repo: Repository, job: Path, tmp_path: Path) -> None:
        with pytest.raises(MissingError, match=r"gone\.fits"):
            repo.put("calexp", tmp_path / "gone.fits", visit=903334, ccd=16)
        assert not (job / "out/MMG").exists()

    def test_what_is_in_the_way_is_left_alone(self, repo: Repository, job: Path) -> None:
        write(job / "out/config/processCcd.py/file")
        with pytest.raises(ConflictError, match="is a folder"):
            repo.put("processCcd_config", b"x")
        write(job / "out/MMG", "a file")
        with pytest.raises(ConflictError, match="cannot be made"):
            repo.put("calexp", b"x", visit=903334, ccd=16)


class TestEscapes:
    @pytest.mark.parametrize("value", ["..", ".", "../x", "a/b", "/etc", "a\\b", "a*", "a[1]", "a\x00b", "a\nb", ""])
    @pytest.mark.parametrize("name", ["get_uri", "exists", "subset", "put"])
    def test_a_value_that_is_no_part_of_a_path_is_refused(self, repo: Repository, name: str, value: str) -> None:
        arguments = ["ref_cat", b"x"] if name == "put" else ["ref_cat"]
        with pytest.raises((UnsafePathError, UsageError), match="name="):
            getattr(repo, name)(*arguments, name=value, pixel_id=1)

    def test_a_registry_cannot_lead_out_of_the_repository(self, job: Path) -> None:
        make_registry(job / "out", [("../..", 1, 2, 3, "HSC-G", "2014-01-01")])
        with Repository(job / "out") as repo:
            with pytest.raises(UnsafePathError, match="the registry of"):
                repo.get_uri("raw", visit=1, ccd=2)
            with pytest.raises(UnsafePathError, match="the registry of"):
                repo.put("raw", b"x", visit=1, ccd=2)

    @pytest.mark.parametrize("template", ["../x.fits", "a/../../x.fits", "/x.fits", "a//x.fits"])
    def test_a_template_cannot_make_put_write_elsewhere(self, job: Path, template: str) -> None:
        make_repo(job / "out", "../in", policy={"datasets": {"src": {"template": template}}})
        with Repository(job / "out") as repo, pytest.raises(UnsafePathError):
            repo.put("src", b"x", visit=903334, ccd=16)

    def test_an_absolute_template_is_not_read_either(self, job: Path) -> None:
        make_repo(job / "out", "../in", policy={"datasets": {"src": {"template": "/etc/passwd"}}})
        with Repository(job / "out") as repo, pytest.raises(UnsafePathError, match="must be relative"):
            repo.get_uri("src", visit=903334, ccd=16)

    @pytest.mark.parametrize("table", ['raw" --', "raw; drop table raw", "sqlite_master", 'raw"."visit'])
    def test_a_table_of_the_policy_cannot_change_the_query(self, job: Path, table: str) -> None:
        policy = {"datasets": {"src": {"template": "%(field)s-%(visit)d.fits", "tables": [table]}}}
        make_repo(job / "in", policy=policy)
        with Repository(job / "in") as repo, pytest.raises(MissingError, match="has no"):
            repo.get_uri("src", visit=903334, ccd=16)

    def test_a_template_with_a_key_that_is_no_column_is_missing(self, job: Path) -> None:
        make_repo(job / "in", policy={"datasets": {"src": {"template": "%(nothing)s.fits"}}})
        write(job / "in/nothing.fits")
        with Repository(job / "in") as repo, pytest.raises(MissingError, match="has no column nothing"):
            repo.get_uri("src", visit=903334, ccd=16)

    def test_a_broken_template_is_shown(self, job: Path) -> None:
        make_repo(job / "in", policy={"datasets": {"src": {"template": "100%.fits"}}})
        with Repository(job / "in") as repo, pytest.raises(MissingError, match="cannot be filled"):
            repo.get_uri("src", visit=903334, ccd=16)


QUESTIONS: list[tuple[str, dict[str, object]]] = [
    ("raw", {"visit": 903334, "ccd": 16}),
    ("raw", {"visit": 903334, "ccd": 22}),
    ("calexp", {"visit": 903334, "ccd": 16}),
    ("calexp", {"visit": 903336, "ccd": 17}),
    ("calexpBackground", {"visit": 903334, "ccd": 16}),
    ("src", {"visit": 903336, "ccd": 17}),
    ("icSrc", {"visit": 904010, "ccd": 4}),
    ("forced_src", {"visit": 903334, "ccd": 16, "tract": 0}),
    ("bias", {"visit": 903334, "ccd": 16}),
    ("bias", {"visit": 904010, "ccd": 16}),
    ("bias", {"visit": 904010, "ccd": 4}),
    ("bias", {"visit": 903334, "ccd": 16, "filter": "HSC-R"}),
    ("bias", {"visit": 903334, "ccd": 16, "taiObs": "2013-11-02"}),
    ("bias", {"calibDate": "2013-06-01", "ccd": 16}),
    ("dark", {"visit": 903334, "ccd": 16}),
    ("flat", {"visit": 903334, "ccd": 16}),
    ("flat", {"visit": 904010, "ccd": 16}),
    ("flat", {"visit": 904010, "ccd": 16, "filter": "HSC-R"}),
    ("flat", {"calibDate": "2013-06-02", "ccd": 16}),
    ("deepCoadd_calexp", {"tract": 0, "patch": "8,6", "filter": "HSC-R"}),
    ("deepCoadd_calexp", {"tract": 0, "patch": "8,7", "filter": "HSC-R"}),
    ("deepCoadd_skyMap", {"tract": 0}),
    ("ref_cat", {"name": "ps1", "pixel_id": 189584}),
    ("ref_cat", {"name": "ps1", "pixel_id": 189585}),
]


@pytest.fixture(params=["2017", "2021"])
def ask(request: pytest.FixtureRequest, gen2_src: Path, shared: Path, tmp_path: Path) -> Any:
    """Asks the real Butler of one era about a job's repositories."""

    def run(job: Path, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        asked = write(tmp_path / "queries.json", json.dumps(queries))
        client = [sys.executable, "-I", shared / "gen2_client/client.py", "--src", gen2_src / request.param]
        done = subprocess.run(
            [*client, "--repo", job / "in", "--output", job / "out", asked], capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
        assert len(results) == len(queries), done.stdout
        return results

    return run, request.param


class TestAgainstTheRealButler:
    def test_both_find_the_same_files(self, job: Path, ask: Any) -> None:
        run, era = ask
        write(job / "out/MMG/r20/p01/corr/CORR-0903336-017-r20p01.fits")
        write(job / "in/00671/HSC-R/output/SRC-0903336-017.fits.gz")
        write(job / "in/00671/HSC-I/output/ICSRC-0904010-004.fits.fz")
        write(job / "in/00671/HSC-R/tract0/FORCEDSRC-0903334-016.fits")
        answers = run(job, [{"datasetType": name, "dataId": data_id} for name, data_id in QUESTIONS])
        with Repository(job / "out", era=era) as repo:
            ours = [
                hashlib.sha256(Path(repo.get_uri(name, **ids)).read_bytes()).hexdigest()
                if repo.exists(name, **ids)
                else None
                for name, ids in QUESTIONS
            ]
        assert [answer.get("sha256") for answer in answers] == ours
        assert ours.count(None) == 7

    def test_both_write_to_the_same_places(self, job: Path, ask: Any) -> None:
        run, era = ask
        questions: list[tuple[str, dict[str, object]]] = [
            ("calexp", {"visit": 903334, "ccd": 22}),
            ("icSrc", {"visit": 903334, "ccd": 22}),
            ("deepCoadd_calexp", {"tract": 0, "patch": "1,2", "filter": "HSC-I"}),
            ("processCcd_metadata", {"visit": 903334, "ccd": 22}),
        ]
        answers = run(job, [{"datasetType": name, "dataId": ids, "write": True} for name, ids in questions])
        with Repository(job / "out", era=era) as repo:
            ours = [repo.put(name, b"x", **ids) for name, ids in questions]
        assert [os.path.normpath(job / "in" / answer["path"]) for answer in answers] == ours

    def test_both_list_the_same_data_ids_and_metadata(self, job: Path, ask: Any) -> None:
        run, era = ask
        keys = ["field", "filter", "pointing", "dateObs"]
        subset, metadata, filters = run(
            job,
            [
                {"subset": ["calexp", "", {"visit": 903334}]},
                {"queryMetadata": ["raw", keys, {"visit": 903334, "ccd": 16}]},
                {"queryMetadata": ["calexp", ["filter"], {"visit": 904010}]},
            ],
        )
        with Repository(job / "out", era=era) as repo:
            assert sorted(subset["rows"], key=lambda row: int(row["ccd"])) == repo.subset("calexp", visit=903334)
            assert [tuple(row) for row in metadata["rows"]] == repo.query_metadata("raw", keys, visit=903334, ccd=16)
            assert filters["rows"] == [name for (name,) in repo.query_metadata("calexp", "filter", visit=904010)]
