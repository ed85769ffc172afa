"""Data go to stdout in the format asked for and can be read back; talk goes to stderr."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from demo_survey import Demo, Survey, make_demo, raw_values
from hypothesis import given
from hypothesis import strategies as st

from dbb import Registry
from dbb_cli.main import run
from dbb_cli.output import print_rows

DBB = Path(sys.executable).parent / "dbb"
FIXED = ["relpath", "filename", "archive", "run", "filesize", "md5sum"]
READING = {
    "query-files": ["query-files", "calexp", "--where", "visit = 903334"],
    "archive list": ["archive", "list"],
    "overlaps list": ["overlaps", "list"],
    "plugins": ["plugins"],
    "policy dump": ["policy", "dump", "hsc"],
}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture(autouse=True)
def registry_set(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBB_REGISTRY", demo.url)


def printed(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str, code: int = 0) -> bytes:
    assert run(list(arguments)) == code
    sys.stdout.flush()
    return capfdbinary.readouterr().out


def parsed(data: bytes, form: str) -> Rows:
    if form == "json":
        rows: Rows = json.loads(data)
        return rows
    if form == "csv":
        return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    if form == "parquet":
        return pq.read_table(io.BytesIO(data)).to_pylist()
    table = Table.read(data.decode(), format="ascii.ecsv")
    return [
        {
            name: None if getattr(row[name], "mask", False) is True or str(row[name]) == "--" else row[name]
            for name in row.colnames
        }
        for row in table
    ]


def as_text(rows: Rows) -> list[dict[str, str]]:
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("form", ["csv", "ecsv", "parquet"])
@pytest.mark.parametrize("command", READING)
def test_every_format_says_what_json_says(command: str, form: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    expected = json.loads(printed(capfdbinary, *READING[command], "--format", "json"))
    assert expected
    found = parsed(printed(capfdbinary, *READING[command], "--format", form), form)
    assert as_text(found) == as_text(expected)


@pytest.mark.parametrize("form", ["json", "ecsv", "parquet"])
def test_numbers_stay_numbers(form: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = parsed(printed(capfdbinary, *READING["query-files"], "--format", form), form)
    assert {type(row["visit"].item() if form == "ecsv" else row["visit"]) for row in rows} == {int}
    assert {type(row["expTime"].item() if form == "ecsv" else row["expTime"]) for row in rows} == {float}


@pytest.mark.parametrize("form", ["json", "csv", "ecsv", "parquet"])
def test_the_columns_are_those_of_the_file_and_then_the_metadata(
    form: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    row = parsed(printed(capfdbinary, "query-files", "raw", "--limit", "1", "--format", form), form)[0]
    assert list(row)[:6] == FIXED
    assert set(row) == {*FIXED, *raw_values(1, 2)}


@pytest.mark.parametrize("form", ["csv", "ecsv", "parquet", "json", "table"])
def test_an_empty_answer_is_an_answer(form: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    columns = ["--columns", "visit,relpath"]
    data = printed(capfdbinary, "query-files", "raw", "--where", "visit = 1", *columns, "--format", form)
    if form == "table":
        assert data.decode().split() == ["visit", "relpath", "-----", "-------"]
    else:
        assert parsed(data, form) == []
    if form == "csv":
        assert data == b"visit,relpath\n"
    if form == "parquet":
        assert pq.read_table(io.BytesIO(data)).column_names == ["visit", "relpath"]


@pytest.mark.parametrize("form", ["csv", "ecsv", "parquet", "json"])
def test_an_unknown_value_is_not_the_word_none(
    form: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    survey = Survey(tmp_path / "survey")
    survey.add("calexp", "a.fits", visit=1, ccd=2, filter="HSC-R")
    survey.add("calexp", "b.fits", visit=1, ccd=3, expTime=2.5, field='x,"y"\nz')
    names = "relpath,run,filter,expTime,field,pointing"
    data = printed(capfdbinary, "--registry", survey.url, "query-files", "calexp", "--columns", names, "--format", form)
    assert as_text(parsed(data, form)) == [
        {"relpath": "a.fits", "run": "", "filter": "HSC-R", "expTime": "", "field": "", "pointing": ""},
        {"relpath": "b.fits", "run": "", "filter": "", "expTime": "2.5", "field": 'x,"y"\nz', "pointing": ""},
    ]


def test_a_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query-files", "raw", "--id", "visit=903334 ccd=16^100", "--columns", "ccd,filter,relpath"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "ccd  filter  relpath",
        "---  ------  ---------------------",
        " 16  HSC-R   raw/HSCA90333430.fits",
        "100  HSC-R   raw/HSCA90333431.fits",
    ]
    assert err == "2 files\n"


def test_columns_order_and_limit_are_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            [
                "query-files",
                "raw",
                "--columns",
                "CCD,visit",
                "--order-by",
                "-visit,ccd",
                "--limit",
                "2",
                "--format",
                "csv",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == "ccd,visit\n1,904014\n6,904014\n"


def test_runs_and_ids_choose_as_for_a_repository(capsys: pytest.CaptureFixture[str]) -> None:
    for runs, winner in (
        ("Ht0_r12p01,r11p95", "Ht0_r12p01"),
        ("tag:PROTO-0.1", "Ht0_r12p01"),
        ("r11p95", "Ht0_r11p95"),
    ):
        assert run(["query-files", "calexp", "--id", "visit=903334 ccd=16", "--runs", runs, "--format", "json"]) == 0
        assert [row["run"] for row in json.loads(capsys.readouterr().out)] == [winner]


def test_json_is_a_list_of_objects_on_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query-files", "raw", "--columns", "visit,ccd", "--format", "json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 33
    assert json.loads("".join(lines))[0] == {"visit": 903334, "ccd": 16}


@pytest.mark.parametrize("form", ["json", "csv", "ecsv", "parquet", "table"])
def test_a_real_process_keeps_data_and_talk_apart(demo: Demo, form: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as stream:
        done = subprocess.run(
            [DBB, "query-files", "raw", "--format", form], stdout=stream, stderr=subprocess.PIPE, check=True
        )
    assert done.stderr == b"33 files\n"
    if form == "table":
        assert len(out.read_text(encoding="utf-8").splitlines()) == 35
    else:
        assert len(parsed(out.read_bytes(), form)) == 33


def test_a_table_of_dbb_can_be_ingested_again(demo: Demo, tmp_path: Path) -> None:
    for form in ("json", "csv", "ecsv", "parquet"):
        columns = ["--columns", "relpath,filesize,md5sum,run,visit,ccd,filter"]
        command = [DBB, "query-files", "calexp", "--format", form, *columns]
        done = subprocess.run(command, capture_output=True, check=True)
        if form == "json":
            path = tmp_path / "t.jsonl"
            path.write_text("\n".join(map(json.dumps, json.loads(done.stdout))), encoding="utf-8")
        else:
            path = tmp_path / f"t.{form}"
            path.write_bytes(done.stdout)
        with Registry(demo.url) as registry:
            reply = registry.ingest_table(path, filetype="calexp", archive="home", dry_run=True)
        assert (reply.added, reply.known, reply.refused) == (0, 38, ())


CELLS = (
    st.none() | st.integers(-(2**62), 2**62) | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
)


@given(rows=st.lists(st.fixed_dictionaries({"a": CELLS, "b": st.text("ab ,\"'\n", max_size=5)}), max_size=4))
def test_json_and_csv_give_back_any_text(rows: Rows) -> None:
    for form in ("json", "csv"):
        with pytest.MonkeyPatch.context() as patch:
            stream = io.StringIO(newline="")
            patch.setattr(sys, "stdout", stream)
            print_rows(rows, form, ("a", "b"))
        found = parsed(stream.getvalue().encode(), form)
        assert found == (rows if form == "json" else as_text(rows))


def test_replies_of_writing_commands_can_be_json_too(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = demo.copy(tmp_path)
    table = str(demo.folder / "files.csv")
    assert run(["--registry", url, "ingest-table", table, "--archive", "home", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"added": 0, "known": 1, "refused": []}
    assert err == "0 added, 1 known, 0 refused\n"
    arguments = ["materialize-repo", str(tmp_path / "JOB"), "--mapper", "hsc", "--dataset", "raw", "--format", "json"]
    assert run(["--registry", url, *arguments]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "root": str(tmp_path / "JOB"), "inputs": 33, "calibs": 0, "files": 0, "exposures": 33,
        "staged": {"symlink": 33}, "copied": 0, "dry_run": False, "refcats": 0, "overlaps": None,
    }  # fmt: skip
    assert "holds 33 inputs" in err


def test_refused_rows_are_listed_and_nothing_is_changed(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = demo.rows("files")
    path = tmp_path / "files.jsonl"
    path.write_text(json.dumps(rows[0] | {"md5sum": "0" * 32}), encoding="utf-8")
    url = demo.copy(tmp_path)
    assert run(["ingest-table", str(path), "--archive", "home", "--registry", url, "--format", "json"]) == 4
    out, err = capsys.readouterr()
    (refused,) = json.loads(out)["refused"]
    assert refused["relpath"] == "skymap/skyMap-1.pickle"
    assert rows[0]["md5sum"] in refused["why"]
    assert "nothing was changed" in err
