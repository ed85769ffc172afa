"""Manifests: what is written is read back, however the JSON is laid out and however it is cut into pieces."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbb.butler import manifest as manifest_module
from dbb.butler.manifest import ARRAYS, ManifestWriter, read_manifest
from dbb.errors import DbbError, NotFoundError, ParseError, UsageError

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)
ENTRIES = st.dictionaries(TEXTS, VALUES, max_size=4)
HEADS = st.dictionaries(TEXTS.filter(lambda key: key not in ARRAYS), VALUES, min_size=1, max_size=4)
BODIES = st.lists(st.tuples(st.sampled_from(ARRAYS), st.lists(ENTRIES, max_size=4)), unique_by=lambda part: part[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.json"


def parts_of(text: str, chunk: int = 1 << 16) -> list[tuple[str, Any]]:
    """Read a text as a manifest, `chunk` characters at a time."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_module, "_CHUNK", chunk)
        path = Path(folder) / "manifest.json"
        path.write_text(text, encoding="utf-8", newline="")
        return list(read_manifest(path))


def flat(document: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what reading must give for a document."""
    return [
        (key, one) for key, value in document.items() for one in (value if key in ARRAYS else [value])
    ]  # fmt: skip


@given(head=HEADS, body=BODIES, chunk=st.integers(1, 40))
def test_what_was_written_is_read_in_pieces_of_any_size(
    head: dict[str, Any], body: list[tuple[str, list[dict[str, Any]]]], chunk: int
) -> None:
    stream = io.StringIO()
    writer = ManifestWriter(stream, head)
    for array, entries in body:
        writer.open(array)
        for entry in entries:
            writer.add(array, entry)
    writer.close()
    document = head | dict(body)
    assert json.loads(stream.getvalue()) == document
    assert parts_of(stream.getvalue(), chunk) == flat(document)


@given(
    document=st.dictionaries(TEXTS.filter(lambda key: key not in ARRAYS), VALUES, max_size=3),
    arrays=st.dictionaries(st.sampled_from(ARRAYS), st.lists(VALUES, max_size=4), max_size=3),
    indent=st.sampled_from([None, 0, 1, 4]),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (" , ", " : "), ("\r\n,\t", "\n:\n")]),
    chunk=st.integers(1, 30),
)
def test_any_layout_of_json_means_the_same(
    document: dict[str, Any],
    arrays: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    separators: tuple[str, str],
    chunk: int,
) -> None:
    text = json.dumps(document | arrays, indent=indent, ensure_ascii=ascii_only, separators=separators)
    assert parts_of(text, chunk) == flat(document | arrays)


@settings(max_examples=60)
@given(document=ENTRIES, cut=st.integers(0, 200), chunk=st.integers(1, 20))
def test_a_manifest_that_is_cut_off_is_refused(document: dict[str, Any], cut: int, chunk: int) -> None:
    text = json.dumps({"schema": 1, "inputs": [document]})
    with pytest.raises(ParseError, match=r"manifest\.json is no manifest: "):
        parts_of(text[: cut % len(text)], chunk)


@settings(max_examples=60)
@given(text=st.text(alphabet='{}[]",:\\ intpus01ue.-n\n', max_size=30))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        parts_of(text, 5)
    except DbbError as error:
        assert "manifest.json" in str(error)  # noqa: PT017  # the text may also be a manifest


def test_an_array_may_be_long(path: Path) -> None:
    with path.open("w", encoding="utf-8") as stream:
        writer = ManifestWriter(stream, {"schema": 1})
        for number in range(20_000):
            writer.add("inputs", {"path": f"in/{number}", "source": "x" * 50})
        writer.close()
    parts = read_manifest(path)
    assert next(parts) == ("schema", 1)
    assert [entry["path"] for _, entry in parts] == [f"in/{number}" for number in range(20_000)]


def test_lines_are_short_enough_to_look_at_and_nothing_is_escaped_in_vain(path: Path) -> None:
    with path.open("w", encoding="utf-8") as stream:
        writer = ManifestWriter(stream, {"schema": 1, "dbb": "x"})
        writer.add("inputs", {"a": 1, "b": "ä"})
        writer.add("inputs", {"a": 2})
        writer.open("files")
        writer.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ['{"schema":1,', '"dbb":"x",', '"inputs":[']
    assert "ä" in lines[3]


def test_a_value_longer_than_a_piece_is_read() -> None:
    long = "x" * 1000
    assert parts_of(json.dumps({"schema": long, "inputs": [{"a": long}]}), 64) == [
        ("schema", long),
        ("inputs", {"a": long}),
    ]


@pytest.mark.parametrize("number", ["12", "-1", "1.5", "1e5", "12345678901234567890"])
def test_a_number_is_not_cut_where_a_piece_ends(number: str) -> None:
    for chunk in range(1, len(number) + 12):
        assert parts_of(f'{{"schema":{number}}}', chunk) == [("schema", json.loads(number))]
        assert parts_of(f'{{"inputs":[{number},{number}]}}', chunk) == [("inputs", json.loads(number))] * 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected one of {"),
        ("[1]", "expected one of {"),
        ('{"a" 1}', "expected one of :"),
        ('{"a": 1 "b": 2}', "expected one of , }"),
        ('{"a": tru}', "a value is broken or cut off"),
        ('{"inputs": 1}', "expected one of ["),
        ('{"inputs": [1 2]}', "expected one of , ]"),
        ('{"inputs": [1,]}', "a value is broken or cut off"),
        ("{1: 2}", "expected a name in double quotes"),
        ('{"a": 1} {', "something follows its end"),
    ],
)
def test_what_is_wrong_is_said_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(ParseError) as caught:
        parts_of(text)
    assert problem in str(caught.value)
    assert str(caught.value).splitlines()[-1].strip() == "^"


def test_an_empty_object_is_a_manifest_of_nothing() -> None:
    assert parts_of(" { } \n") == []


def test_a_manifest_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no such file"):
        list(read_manifest(tmp_path / "none.json"))
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        list(read_manifest(tmp_path))
