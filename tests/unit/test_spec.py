"""A job file says everything about a repository, and nothing that is misspelled goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbb.butler.spec import CalibSpec, FileSpec, InputSpec, OutputSpec, RepoSpec, read_spec
from dbb.errors import NotFoundError, UnsafePathError, UsageError

EVERYTHING = """
mapper = "hsc"
stage = "copy"
era = "2021"
archives = ["scratch", "home"]
overlaps = "ci_hsc"
[[inputs]]
dataset = "raw"
where = "tract = 0 AND patch = '8,6' AND filter = 'HSC-R'"
[[inputs]]
dataset = "calexp"
id = ["visit=903334^903336"]
runs = ["Ht0_r12p01", "r11p95"]
[calibs]
version = "2014A"
types = ["bias", "dark", "flat"]
[[files]]
filename = "skyMap-1.pickle"
as = "deepCoadd/skyMap.pickle"
[outputs]
run = "Ht0_r20p01"
datasets = ["calexp", "src"]
"""
RAW = 'mapper = "hsc"\n[[inputs]]\ndataset = "raw"\n'


def read(tmp_path: Path, text: str) -> RepoSpec:
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    return read_spec(path)


def test_a_job_file_is_read_in_full(tmp_path: Path) -> None:
    assert read(tmp_path, EVERYTHING) == RepoSpec(
        mapper="hsc",
        inputs=(
            InputSpec("raw", where="tract = 0 AND patch = '8,6' AND filter = 'HSC-R'"),
            InputSpec("calexp", id=("visit=903334^903336",), runs=("Ht0_r12p01", "r11p95")),
        ),
        calibs=CalibSpec("2014A", ("bias", "dark", "flat")),
        files=(FileSpec("skyMap-1.pickle", "deepCoadd/skyMap.pickle"),),
        outputs=OutputSpec("Ht0_r20p01", ("calexp", "src")),
        stage="copy",
        era="2021",
        archives=("scratch", "home"),
        overlaps="ci_hsc",
    )


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, RAW) == RepoSpec("hsc", (InputSpec("raw"),))
    spec = RepoSpec("hsc")
    assert (spec.stage, spec.era, spec.calibs, spec.outputs, spec.overlaps) == ("auto", "both", None, None, None)


def test_one_text_stands_for_a_list_of_one(tmp_path: Path) -> None:
    spec = read(tmp_path, f'archives = "home"\n{RAW}id = "visit=1"\nruns = "r11p95"\n')
    assert (spec.archives, spec.inputs) == (("home",), (InputSpec("raw", id=("visit=1",), runs=("r11p95",)),))


def test_no_types_and_an_empty_list_of_types_are_not_the_same(tmp_path: Path) -> None:
    calibs = f'{RAW}[calibs]\nversion = "2014A"\n'
    assert read(tmp_path, calibs).calibs == CalibSpec("2014A", None)
    assert read(tmp_path, calibs + "types = []\n").calibs == CalibSpec("2014A", ())


def test_outputs_may_be_named_later(tmp_path: Path) -> None:
    assert read(tmp_path, f'{RAW}[outputs]\nrun = "Ht0_r20p01"\n').outputs == OutputSpec("Ht0_r20p01", ())


@pytest.mark.parametrize(
    ("text", "key", "nearest", "where"),
    [
        ("sage = 1\n" + RAW, "sage", "stage", "the job file"),
        (RAW + 'data = "x"\n', "data", "", "[[inputs]]"),
        (RAW + 'run = "x"\n', "run", "runs", "[[inputs]]"),
        (RAW + '[calibs]\nversion = "1"\ntype = "x"\n', "type", "types", "[calibs]"),
        (RAW + '[[files]]\nfilename = "x"\npath = "y"\n', "path", "", "[[files]]"),
        (RAW + '[outputs]\nrun = "x"\ndataset = "y"\n', "dataset", "datasets", "[outputs]"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place(
    tmp_path: Path, text: str, key: str, nearest: str, where: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert f"job.toml: unknown key {key!r}; known: {nearest}" in str(caught.value)
    assert str(caught.value).endswith(f"It stands in {where}")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the job file needs a text for 'mapper'"),
        ("mapper = 5\n", "the job file needs a text for 'mapper'"),
        ('mapper = ""\n', "the job file needs a text for 'mapper'"),
        ('mapper = "hsc"\n[inputs]\ndataset = "raw"\n', "write [[inputs]], not [inputs]"),
        ('mapper = "hsc"\ninputs = ["raw"]\n', "[[inputs]] must be a table"),
        ('mapper = "hsc"\n[[inputs]]\n', "[[inputs]] needs a text for 'dataset'"),
        (RAW + "where = 1\n", "[[inputs]] needs a text for 'where'"),
        (RAW + "id = 1\n", "'id' must be a text or a list of texts"),
        (RAW + "runs = [1]\n", "'runs' must be a text or a list of texts"),
        ('calibs = "2014A"\n' + RAW, "[calibs] must be a table"),
        (RAW + "[calibs]\n", "[calibs] needs a text for 'version'"),
        (RAW + '[calibs]\nversion = "1"\ntypes = 1\n', "'types' must be a text or a list of texts"),
        ("outputs = 1\n" + RAW, "[outputs] must be a table"),
        (RAW + "[outputs]\n", "[outputs] needs a text for 'run'"),
        (RAW + '[[files]]\nfilename = "x"\n', "[[files]] needs a text for 'as'"),
        (RAW + '[files]\nfilename = "x"\nas = "y"\n', "write [[files]], not [files]"),
        ('stage = "move"\n' + RAW, "stage 'move' is none of auto, symlink, relsymlink, hardlink, copy"),
        ("stage = 1\n" + RAW, "the job file needs a text for 'stage'"),
        ('era = "2019"\n' + RAW, "era '2019' is none of 2017, 2021, both"),
        ("era = 2017\n" + RAW, "the job file needs a text for 'era'"),
        ("overlaps = 1\n" + RAW, "the job file needs a text for 'overlaps'"),
        ("mapper = \n", "cannot be read"),
    ],
)
def test_an_entry_of_the_wrong_form_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"job file {tmp_path / 'job.toml'}")
    assert words in str(caught.value)


@pytest.mark.parametrize("place", ["../a", "/a", "a/../b", "a[1]", "", "a//b", "a*"])
def test_a_fixed_name_stays_below_the_link_farm(place: str) -> None:
    with pytest.raises(UnsafePathError, match="fixed name"):
        RepoSpec("hsc", files=(FileSpec("x", place),))


def test_a_job_file_that_is_not_there_or_is_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"unknown job file .*none\.toml'\. There is no such file"):
        read_spec(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_spec(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_spec(tmp_path / "bytes.toml")
