"""The merged policy of a camera with its origins, and what a check of it finds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dbb.butler.camera import archive_pattern, output_template
from dbb.butler.clashes import common_path, pattern_pieces, template_pieces
from dbb.butler.config import format_config, policy_lines
from dbb.butler.policy import merged_policy, policy_tree, policy_yaml
from dbb.butler.policycheck import check_policy
from dbb.errors import MissingError, UsageError
from dbb.mapper import ERAS, Mapper
from dbb.patterns import parse_pattern
from dbb.plugins import plugins

CLASS = "lsst.obs.test.TestMapper"
MAPPER = """
butler_class = "lsst.obs.test.TestMapper"
raw = "raw"
[filters]
R-1 = "r"
[registry]
exposure = ["visit", "ccd"]
date = "night"
raw = { visit = "int", ccd = "int", night = "text", filter = "text", pointing = "int" }
visit = ["visit", "filter", "night"]
[kinds.image]
python = "lsst.afw.image.ExposureF"
persistable = "ExposureF"
storage = "FitsStorage"
[datasets.raw]
section = "exposures"
kind = "image"
template = "raw/%(visit)07d-%(ccd)03d.fits"
tables = ["raw"]
[datasets.calexp]
section = "exposures"
kind = "image"
template = "%(pointing)05d/CORR-%(visit)07d-%(ccd)03d.fits"
tables = ["raw"]
[datasets.coadd]
section = "exposures"
kind = "image"
template = "coadd/%(filter)s/%(patch)s.fits"
[datasets.bias]
section = "calibrations"
kind = "image"
template = "BIAS/%(calibDate)s-%(ccd)03d.fits"
tables = ["bias"]
[datasets.note]
section = "datasets"
template = "notes/%(visit)d.boost"
python = "a"
persistable = "b"
storage = "c"
[datasets.note.era.2021]
template = "notes/%(visit)d.yaml"
"""
FILETYPES = """
[filetypes.raw]
dataset = "raw"
keys = ["visit", "ccd"]
columns = { visit = "int", ccd = "int", night = "date", filter = "str", pointing = "int", frame = "str" }
directory = "raw"
name = "${frame}.fits"
[filetypes.calexp]
dataset = "calexp"
keys = ["visit", "ccd"]
columns = { visit = "int", ccd = "int", filter = "str" }
directory = "r${reqnum}/${unitname}/p${attnum:2}/corr"
name = "CORR-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits"
[filetypes.coadd]
dataset = "coadd"
keys = ["filter", "patch"]
columns = { filter = "str", patch = "patch" }
directory = "r${reqnum}/${unitname}/p${attnum:2}/coadd"
name = "coadd-${filter}-${patch}-r${reqnum}p${attnum:2}.fits"
[filetypes.bias]
dataset = "bias"
keys = ["calibDate", "ccd"]
columns = { calibDate = "str", ccd = "int" }
directory = "CALIB"
name = "BIAS-${calibDate}-${ccd:3}.fits"
[filetypes.note]
dataset = "note"
keys = ["visit"]
columns = { visit = "int" }
directory = "r${reqnum}/${unitname}/p${attnum:2}/notes"
name = "note-${visit}-r${reqnum}p${attnum:2}.txt"
"""
CALEXP_NAME = "CORR-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits"


def camera(folder: Path, *changes: tuple[str, str], more: str = "", types: str = "") -> Mapper:
    """Make a camera that differs from a good one by `changes` and by what is appended to its two files."""
    texts = [MAPPER, FILETYPES]
    for old, new in changes:
        assert sum(text.count(old) for text in texts) == 1, old
        texts = [text.replace(old, new) for text in texts]
    (folder / "mapper.toml").write_text(texts[0] + more, encoding="utf-8")
    (folder / "filetypes.toml").write_text(texts[1] + types, encoding="utf-8")
    return Mapper("test", folder)


def repository(folder: Path, policy: dict[str, dict[str, dict[str, object]]], mapper: str = CLASS) -> Path:
    folder.mkdir()
    (folder / "repositoryCfg.yaml").write_text(format_config(mapper, [], policy), encoding="ascii")
    return folder


# The merged policy


def test_each_value_names_the_table_that_it_comes_from(tmp_path: Path) -> None:
    found = {value.path: (value.value, value.origin.split()[1]) for value in merged_policy(camera(tmp_path), "2021")}
    assert found["exposures", "calexp", "storage"] == ("FitsStorage", "[kinds.image]")
    assert found["exposures", "calexp", "tables"] == (["raw"], "[datasets.calexp]")
    assert found["datasets", "note", "template"] == ("notes/%(visit)d.yaml", "[datasets.note.era.2021]")
    assert found["datasets", "note", "storage"] == ("c", "[datasets.note]")


def test_a_repository_overrides_value_by_value(tmp_path: Path) -> None:
    mapper = camera(tmp_path)
    repo = repository(tmp_path / "R", {"exposures": {"calexp": {"template": "mine/%(visit)d-%(ccd)d.fits"}}})
    with_repo, without = (
        {value.path: value for value in merged_policy(mapper, "2017", chosen)} for chosen in (repo, None)
    )
    changed = with_repo[("exposures", "calexp", "template")]
    assert (changed.value, changed.origin) == (
        "mine/%(visit)d-%(ccd)d.fits",
        f"{repo}/repositoryCfg.yaml [_policy]",
    )
    assert [path for path in with_repo if with_repo[path] != without[path]] == [changed.path]


@pytest.mark.parametrize("era", ERAS)
def test_the_yaml_is_the_policy_by_itself_and_below_its_key(era: str) -> None:
    mapper = plugins().mapper("hsc")
    values = merged_policy(mapper, era)
    text = policy_yaml(mapper, era, values)
    assert yaml.safe_load(text) == policy_tree(values)
    assert yaml.safe_load(f"_policy:\n{text}_root: null\n") == {"_policy": policy_tree(values), "_root": None}


@given(
    st.dictionaries(
        st.text(max_size=4),
        st.recursive(
            st.text(max_size=6) | st.integers() | st.booleans() | st.none() | st.lists(st.text(max_size=3), max_size=2),
            lambda inner: st.dictionaries(st.text(max_size=4), inner, min_size=1, max_size=3),
            max_leaves=6,
        ),
        min_size=1,
        max_size=3,
    ),
    st.text(max_size=8),
)
def test_any_policy_is_read_back_whatever_its_origins_are_called(policy: dict[str, object], origin: str) -> None:
    paths = {}

    def walk(tree: dict[str, object], inside: tuple[str, ...]) -> None:
        for name, value in tree.items():
            paths[(*inside, name)] = origin
            if isinstance(value, dict):
                walk(value, (*inside, name))

    walk(policy, ())
    assert yaml.safe_load("\n".join(policy_lines(policy, paths))) == policy


def test_a_repository_of_another_camera_is_refused(tmp_path: Path) -> None:
    repo = repository(tmp_path / "R", {}, "lsst.obs.other.OtherMapper")
    with pytest.raises(UsageError, match=r"lsst\.obs\.other\.OtherMapper, which is not the mapper test"):
        merged_policy(camera(tmp_path), "2021", repo)


def test_a_value_in_place_of_a_mapping_is_refused(tmp_path: Path) -> None:
    repo = repository(tmp_path / "R", {})
    config = repo / "repositoryCfg.yaml"
    config.write_text(config.read_text(encoding="ascii") + "_policy: {exposures: yes}\n", encoding="ascii")
    with pytest.raises(UsageError, match="cannot be merged"):
        policy_tree(merged_policy(camera(tmp_path), "2021", repo))


def test_a_folder_that_is_no_repository_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no Gen2 repository"):
        merged_policy(camera(tmp_path), "2021", tmp_path / "none")


def test_a_policy_is_of_one_era(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'both' is none of 2017, 2021"):
        merged_policy(camera(tmp_path), "both")


# The check


@pytest.mark.parametrize("name", plugins().mappers())
def test_a_camera_that_comes_with_dbb_has_no_problem(name: str) -> None:
    assert check_policy(plugins().mapper(name)) == []


def test_a_good_camera_has_no_problem(tmp_path: Path) -> None:
    assert check_policy(camera(tmp_path)) == []


CORR = "%(pointing)05d/CORR-%(visit)07d-%(ccd)03d.fits"
NOTE_DIRECTORY = 'directory = "r${reqnum}/${unitname}/p${attnum:2}/notes"'
NOTE_NAME = "note-${visit}-r${reqnum}p${attnum:2}.txt"
CALEXP_DIRECTORY = 'directory = "r${reqnum}/${unitname}/p${attnum:2}/corr"'
# Changes of the good camera, and last what must be found: kind, dataset type, filetype, words.
FAULTS: dict[str, tuple[Any, ...]] = {
    "a pattern key that is no column": (
        (CALEXP_NAME, "CORR-${seeing}-" + CALEXP_NAME[5:]),
        ("no-value", "calexp", "calexp", "seeing in .* is no column"),
    ),
    "a column that the Butler cannot give": (
        ('columns = { filter = "str", patch = "patch" }', 'columns = { filter = "str", patch = "patch", x = "int" }'),
        ("coadd-${filter}-${patch}", "coadd-${x}-${filter}-${patch}"),
        ("no-value", "coadd", "coadd", "coadd: the Butler has no value for x in"),
    ),
    "a template key without column": (
        (CORR, "%(seeing)d/%(visit)d-%(ccd)d.fits"),
        ("no-value", "calexp", "calexp", "seeing in .* no column of its filetype, and the registry has no seeing"),
    ),
    "a template key that needs a table": (
        (f'template = "{CORR}"\ntables = ["raw"]', f'template = "{CORR}"'),
        ("no-value", "calexp", "calexp", "pointing in .* it has no tables to ask"),
    ),
    "a text written as a number": (
        ("coadd/%(filter)s/%(patch)s.fits", "coadd/%(filter)03d/%(patch)s.fits"),
        ("type", "coadd", "coadd", "writes filter as a number, but it is str"),
    ),
    "a column of another type than the registry's": (
        ('ccd = "int", filter = "str" }', 'ccd = "int", filter = "int" }'),
        ("type", "calexp", "calexp", "column filter is int, but text in the registry"),
    ),
    "a padded text": (
        ("coadd-${filter}-", "coadd-${filter:4}-"),
        ("padding", "coadd", "coadd", "filter is str, so that '7' and '07' would have one name"),
    ),
    "a pattern that lacks a key": (
        (CALEXP_NAME, CALEXP_NAME.replace("-${ccd:3}", "")),
        ("lost-key", "calexp", "calexp", "lacks ccd of the data id"),
    ),
    "a template that lacks a key": (
        (CORR, "%(pointing)05d/CORR-%(visit)07d.fits"),
        ("lost-key", "calexp", "calexp", "lacks ccd of the data id"),
    ),
    "a pattern with half of the run": (
        (CALEXP_DIRECTORY, 'directory = "corr"'),
        ("run", "calexp", "calexp", "lacks unitname: two runs would write one name"),
    ),
    "an output without run": (
        (NOTE_DIRECTORY, 'directory = "notes"'),
        (NOTE_NAME, "note-${visit}.txt"),
        ("run", "note", "note", "lacks unitname, reqnum, attnum"),
    ),
    "a pattern that runs numbers together": (
        ("CORR-${visit:7}-${ccd:3}-", "CORR-${visit}${ccd}-"),
        ("ambiguous", "calexp", "calexp", "cannot be read backwards: visit=7 ccd=12"),
    ),
    "a template that runs numbers together": (
        (CORR, "%(pointing)05d/CORR-%(visit)d%(ccd)d.fits"),
        ("ambiguous", "calexp", "calexp", "cannot be read backwards"),
    ),
    "a pattern that leaves the archive": (
        (CALEXP_DIRECTORY, 'directory = "../r${reqnum}/${unitname}/p${attnum:2}/corr"'),
        ("template", "calexp", "calexp", "must give a relative path"),
    ),
    "a template of a number with a million digits": (
        (CORR, "%(pointing)05d/CORR-%(visit)01000000d-%(ccd)03d.fits"),
        ("template", "calexp", "calexp", "is none of"),
    ),
    "a raw filetype that does not exist": (
        ('TestMapper"\nraw = "raw"', 'TestMapper"\nraw = "nope"'),
        ("unknown", "", "", "raw names nope, which is no filetype"),
    ),
    "a date that raws do not have": (
        ('date = "night"', 'date = "nope"'),
        ("unknown", "", "", "registry.date names nope"),
    ),
    "a template that is none": (
        ("coadd/%(filter)s", "100%/%(filter)s"),
        ("template", "coadd", "coadd", "is none of"),
    ),
    "a template that leaves the repository": (
        ("coadd/%(filter)s", "../coadd/%(filter)s"),
        ("template", "coadd", "coadd", "must give a relative path"),
    ),
    "a dataset type that does not exist": (
        ('dataset = "note"', 'dataset = "nope"'),
        ("unknown", "nope", "note", "the camera has no dataset type nope"),
    ),
    "a kind that does not exist": (
        (f'kind = "image"\ntemplate = "{CORR}"', f'kind = "imgae"\ntemplate = "{CORR}"'),
        ("unknown", "calexp", "calexp", r"no table \[kinds\.imgae\]"),
    ),
    "two templates for one path": (
        ("coadd/%(filter)s/%(patch)s.fits", "raw/%(filter)s-%(patch)s.fits"),
        ('patch = "patch"', 'patch = "str"'),
        ("collision", "coadd", "coadd", "raw can both be 'raw/0000000-000.fits'"),
    ),
    "a calibration in the repository itself": (
        ('date = "night"', 'date = "night"\ncalib_root = "."'),
        ("BIAS/%(calibDate)s-%(ccd)03d.fits", "raw/%(calibDate)s-%(ccd)03d.fits"),
        ("collision", "bias", "bias", "raw can both be 'raw/0000000-000.fits'"),
    ),
    "an era's template that is another's": (
        ("notes/%(visit)d.yaml", "coadd/%(visit)d/0,0.fits"),
        ("collision", "coadd", "coadd", "of note can both be 'coadd/0/0,0.fits'"),
    ),
    "two filetypes with one archive name": (
        (NOTE_NAME, "note-${visit}-r${reqnum}p${attnum:2}.fits"),
        ("/p${attnum:2}/coadd", "/p${attnum:2}/notes"),
        ("coadd-${filter}-${patch}-", "${filter}-${patch}-"),
        ('patch = "patch"', 'patch = "str"'),
        ("collision", "coadd", "coadd", "of note can both be 'r0/a/p00/notes/note-0-r0p00"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(name: str, tmp_path: Path) -> None:
    *changes, expected = FAULTS[name]
    found = check_policy(camera(tmp_path, *changes))
    kind, dataset, filetype, words = expected
    assert [
        one
        for one in found
        if (one.kind, one.dataset, one.filetype) == (kind, dataset, filetype) and re.search(words, one.problem)
    ], found


def test_every_kind_of_problem_is_documented_and_shown_here() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/policy.md").read_text(encoding="utf-8")
    kinds = {expected[0] for *_, expected in FAULTS.values()} | {"override"}
    assert kinds == set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))


def test_all_problems_are_listed_at_once_and_eras_joined(tmp_path: Path) -> None:
    mapper = camera(tmp_path, (CORR, "CORR-%(visit)07d.fits"), ("notes/%(visit)d.yaml", "notes/%(visit)s/%(x)s.yaml"))
    found = {(one.kind, one.dataset, one.era) for one in check_policy(mapper)}
    assert found == {("lost-key", "calexp", "2017 2021"), ("no-value", "note", "2021")}
    assert {one.kind for one in check_policy(mapper, "2017")} == {"lost-key"}


def test_two_types_may_share_a_place_where_the_camera_says_so(tmp_path: Path) -> None:
    twin = """
        [datasets.twin]
        section = "exposures"
        kind = "image"
        template = "coadd/%(filter)s/%(patch)s.fits"
    """
    types = """
        [filetypes.twin]
        dataset = "twin"
        keys = ["filter", "patch"]
        columns = { filter = "str", patch = "patch" }
        name = "twin-${filter}-${patch}-${unitname}-r${reqnum}p${attnum:2}.fits"
    """
    assert {one.kind for one in check_policy(camera(tmp_path, more=twin, types=types))} == {"collision"}
    assert check_policy(camera(tmp_path, more=twin + 'same_place = "coadd"', types=types)) == []
    found = check_policy(camera(tmp_path, more=twin + 'same_place = "nobody"', types=types))
    assert {one.kind for one in found} == {"collision", "unknown"}


def test_what_is_only_read_needs_no_run_in_its_name(tmp_path: Path) -> None:
    names, where = (NOTE_NAME, "note-${visit}.txt"), (NOTE_DIRECTORY, 'directory = "notes"')
    assert {one.kind for one in check_policy(camera(tmp_path, names, where))} == {"run"}
    marked = ('python = "a"', 'python = "a"\nonly_read = true')
    assert check_policy(camera(tmp_path, names, where, marked)) == []


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"datasets": {"calexp": {"template": "x/%(visit)d-%(ccd)d.fits"}}}, "is in section exposures, not datasets"),
        ({"datasets": {"new": {"template": "x.fits", "python": "a"}}}, "the entry lacks persistable, storage"),
        ({"exposures": {"calexp": {"template": 5}}}, "needs a text as template"),
        ({"exposures": {"calexp": {"template": "x/%(visit)d.fits"}}}, "lacks ccd of the data id"),
        ({"exposures": {"calexp": {"template": "%(night)s/%(visit)d-%(ccd)d-%(x)s"}}}, "x in .* is no column"),
        ({"exposures": {"coadd": {"template": "notes/%(filter)s/../%(patch)s.boost"}}}, "must give a relative path"),
    ],
)
def test_an_override_that_cannot_work_is_found(
    policy: dict[str, dict[str, dict[str, object]]], words: str, tmp_path: Path
) -> None:
    found = check_policy(camera(tmp_path), "both", repository(tmp_path / "R", policy))
    assert [re.search(words, one.problem) is not None for one in found] == [True], found


@pytest.mark.parametrize(
    "change", [('pointing = "int" }\nvisit', 'pointing = "real" }\nvisit'), ('["visit", "filter', '["x", "f')]
)
def test_tables_that_no_registry_can_have_are_refused(change: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        check_policy(camera(tmp_path, change))


def test_good_overrides_have_no_problem(tmp_path: Path) -> None:
    whole: dict[str, object] = {"template": "new/%(visit)d", "python": "a", "persistable": "b", "storage": "c"}
    entry: dict[str, object] = {"template": "r20/CORR-%(visit)07d-%(ccd)03d-%(night)s-r20p01.fits"}
    repo = repository(tmp_path / "R", {"exposures": {"calexp": entry}, "datasets": {"new": whole}})
    assert check_policy(camera(tmp_path), "both", repo) == []


# Names that meet

TYPES = {"visit": "int", "ccd": "int", "filter": "str", "patch": "patch", "night": "date"}
PARTS = st.sampled_from(
    ["${visit:4}", "${ccd}", "${filter}", "${patch}", "${night}", "a", "-", "/", "7", "a-7", ".fits"]
)
VALUES = st.fixed_dictionaries(
    {
        "visit": st.integers(0, 20_000),
        "ccd": st.integers(0, 200),
        "filter": st.from_regex(r"[a7-]{1,3}", fullmatch=True),
        "patch": st.sampled_from(["0,0", "12,3"]),
        "night": st.dates().map(lambda day: day.isoformat()),
    }
)


@given(st.lists(PARTS, max_size=5), VALUES)
def test_a_path_that_two_patterns_give_is_never_overlooked(parts: list[str], values: dict[str, object]) -> None:
    pattern = parse_pattern("".join(parts))
    whole = parse_pattern(pattern.expand(values))
    assert common_path(pattern_pieces(pattern, TYPES), pattern_pieces(whole, {})) == whole.text


@given(st.lists(PARTS, max_size=5), st.lists(PARTS, max_size=5))
def test_a_common_path_can_be_read_by_both(first: list[str], second: list[str]) -> None:
    one, other = parse_pattern("".join(first)), parse_pattern("".join(second))
    path = common_path(pattern_pieces(one, TYPES), pattern_pieces(other, TYPES))
    once = all(len(set(parts)) == len(parts) for parts in (first, second))
    if path is not None and once:
        assert one.invert(path, TYPES) is not None or "00" in path  # 0000-00-00 is no day, but has the form of one
        assert other.invert(path, TYPES) is not None or "00" in path


@given(st.lists(PARTS, max_size=5))
def test_a_template_names_the_same_paths_as_the_pattern_that_it_was_made_from(parts: list[str]) -> None:
    pattern = parse_pattern("".join(parts))
    assert template_pieces(pattern.template(TYPES, {}), TYPES) == pattern_pieces(pattern, TYPES)


@given(VALUES)
def test_an_output_has_the_archive_name_of_its_run(values: dict[str, object]) -> None:
    run = {"unitname": "Ht0", "reqnum": 20, "attnum": 1}
    mapper = plugins().mapper("hsc")
    (calexp,) = mapper.layouts("calexp", ["2021"])
    pattern = archive_pattern(mapper.filetypes["calexp"])
    assert pattern is not None
    assert output_template(mapper, calexp, dict(run)) % values == pattern.expand({**values, **run})
