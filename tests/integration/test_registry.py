"""A registry can be made, opened and asked in DESDM's own SQL; filetypes, archives and tags are rows in it."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from registries import contents, rows, small_registry

from dbb import Registry
from dbb.errors import ConflictError, DbbError, NotFoundError, UsageError
from dbb.filetypes import Filetype, load_filetypes
from dbb.plugins import plugins

EXAMPLE = Path(__file__).parents[2] / "examples" / "ci_hsc_mini"
# The first query of the note, as operators type it.
COADDS_OF_A_TAG = """\
select f.path ||'/'||f.filename from file_archive_info f, desfile d, proctag t where d.filetype='deepcoadd_calexp' \
and t.tag='PROTO-0.1' and t.pfw_attempt_id=d.pfw_attempt_id and f.desfile_id=d.id order by f.filename;"""
EVERYTHING = """
[filetypes.everything]
keys = ["number"]
[filetypes.everything.columns]
number = "int"
share = "float"
remark = "str"
night = "date"
where = "patch"
good = "bool"
"""


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """An empty registry for HSC with one archive."""
    with small_registry(registry_url, "calexp", "deepcoadd_calexp", "deepcoadd_tempexp", "hsc_raw") as opened:
        opened.add_archive("home", "/data/home")
        yield opened


@pytest.fixture
def bare(registry_url: str) -> Iterator[Registry]:
    """An empty registry without a camera, with one archive."""
    with Registry.create(registry_url) as opened:
        opened.add_archive("home", "/data/home")
        yield opened


@pytest.fixture(scope="module")
def coadds(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Rows of the coadds of the miniature survey."""
    folder = tmp_path_factory.mktemp("ci_hsc_mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        importlib.import_module("make").make(folder)
    with (folder / "coadds.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def filetypes(folder: Path, text: str) -> list[Filetype]:
    path = folder / "filetypes.toml"
    path.write_text(text, encoding="utf-8")
    return list(load_filetypes(path).values())


def ingest(registry: Registry, filetype: str, *given: dict[str, Any], run: str | None = None) -> None:
    done = registry.ingest_table(list(given), filetype=filetype, archive="home", run=run)
    assert (done.added, done.known, done.refused) == (len(given), 0, ())


def test_a_new_registry_has_every_filetype_of_its_camera(registry_url: str) -> None:
    with Registry.create(registry_url, mapper="hsc") as registry:
        assert registry.mapper_name == "hsc"
        assert set(registry.filetypes()) == {*plugins().mapper("hsc").filetypes, *plugins().filetypes()}
        assert {"calexp", "hsc_raw", "deepcoadd_calexp", "dbb_schema"} <= set(contents(registry))


def test_a_second_registry_in_one_place_is_refused_and_the_first_unharmed(bare: Registry) -> None:
    before = contents(bare)
    with pytest.raises(ConflictError, match="holds a registry already") as caught:
        Registry.create(bare.url, mapper="hsc")
    assert caught.value.exit_code == 4
    assert contents(bare) == before


def test_an_unknown_mapper_is_answered_nearest_first_and_nothing_is_made(registry_url: str) -> None:
    with pytest.raises(NotFoundError, match=r"unknown mapper 'hsk'; known: hsc") as caught:
        Registry.create(registry_url, mapper="hsk")
    assert caught.value.exit_code == 5
    with pytest.raises(NotFoundError, match="unknown registry"):
        Registry(registry_url)
    if registry_url.startswith("sqlite"):
        assert not Path(registry_url.removeprefix("sqlite:///")).exists()


def test_a_database_that_holds_no_registry_is_told(tmp_path: Path, postgres_url: str) -> None:
    text = tmp_path / "notes.db"
    text.write_text("this is no database, but long enough to be looked at as one\n" * 20)
    for url, reason in (
        (f"sqlite:///{tmp_path}/none.db", "There is no such file"),
        (f"sqlite:///{text}", "file is not a database"),
        (postgres_url, "dbb_schema"),
    ):
        with pytest.raises(NotFoundError, match=reason):
            Registry(url)
    with pytest.raises(DbbError, match=r"notes\.db cannot be made a registry: DatabaseError: file is not a database"):
        Registry.create(f"sqlite:///{text}")


def test_a_registry_that_cannot_be_reached_is_told_without_its_password() -> None:
    with pytest.raises(DbbError) as caught:
        Registry("postgresql+psycopg://me:secret@127.0.0.1:1/survey")
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["survey.db", "mysql://host/survey", "", "sqlite:/survey.db"])
def test_what_names_no_registry_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"is no URL|only sqlite and postgresql"):
        Registry(url)


def test_the_folder_of_a_new_registry_is_made(tmp_path: Path) -> None:
    with Registry.create(f"sqlite:///{tmp_path}/deep/down/survey.db") as registry:
        assert set(registry.filetypes()) == set(plugins().filetypes())


def test_a_closed_registry_can_be_opened_again(registry: Registry) -> None:
    ingest(registry, "calexp", {"relpath": "1.fits", "visit": 903334, "ccd": 16}, run="Ht0_r11p95")
    registry.close()
    with Registry(registry.url) as again:
        assert again.mapper_name == "hsc"
        assert [record.relpath for record in again.query("calexp")] == ["1.fits"]


def test_the_query_of_the_note_lists_the_coadds_of_a_tag(registry: Registry, coadds: list[dict[str, str]]) -> None:
    registry.ingest_table(coadds, archive="home")
    of_another_run = {"relpath": "x/calexp-HSC-R-0-8x6-r11p96.fits", "tract": 0, "patch": "8x6", "filter": "HSC-R"}
    ingest(registry, "deepcoadd_calexp", of_another_run, run="Ht0_r11p96")
    assert rows(registry, COADDS_OF_A_TAG) == []
    registry.tag("PROTO-0.1", "Ht0_r11p95")
    registry.tag("PROTO-0.2", "Ht0_r11p96")
    expected = [row["relpath"] for row in coadds if row["filetype"] == "deepcoadd_calexp"]
    assert len(expected) == 8
    found = [path for (path,) in rows(registry, COADDS_OF_A_TAG)]
    assert found == sorted(expected, key=lambda path: path.rpartition("/")[2])


def test_a_file_in_the_root_of_its_archive_has_a_relative_path_in_that_query(registry: Registry) -> None:
    row = {"relpath": "c.fits", "tract": 0, "patch": "8x6", "filter": "HSC-R"}
    ingest(registry, "deepcoadd_calexp", row, run="Ht0_r11p95")
    registry.tag("PROTO-0.1", "Ht0_r11p95")
    assert rows(registry, COADDS_OF_A_TAG) == [("./c.fits",)]
    assert [record.relpath for record in registry.query("deepCoadd_calexp")] == ["c.fits"]


def test_an_archive_is_added_once(bare: Registry) -> None:
    assert bare.add_archive("raw", "s3://bucket/raw/") is True
    assert bare.add_archive("raw", "s3://bucket/raw") is False
    assert bare.archives() == {"home": "file:///data/home", "raw": "s3://bucket/raw"}
    with pytest.raises(ConflictError, match=r"'raw' is registered with root s3://bucket/raw, not s3://other"):
        bare.add_archive("raw", "s3://other")
    for name in ("", "a/b", "-a", "a b"):
        with pytest.raises(UsageError, match="is no archive name"):
            bare.add_archive(name, "/data")


def test_a_tag_keeps_the_order_in_which_runs_got_it(registry: Registry) -> None:
    for number in (1, 2, 3):
        ingest(registry, "calexp", {"relpath": f"{number}.fits", "visit": 1, "ccd": 1}, run=f"Ht0_r{number}p01")
    assert registry.tag("BEST", "Ht0_r2p01", "Ht0_r1p01", "Ht0_r2p01") == 2
    assert registry.tag("BEST", "Ht0_r3p01", "Ht0_r2p1") == 1
    assert [record.run for record in registry.query("calexp", runs=["tag:BEST"])] == ["Ht0_r2p01"]
    order = rows(registry, "select pfw_attempt_id, position from proctag order by position")
    assert order == [(2, 0), (1, 1), (3, 2)]


def test_a_tag_for_an_unknown_run_changes_nothing_and_lists_the_nearest_first(registry: Registry) -> None:
    for run in ("Wide_r9p01", "Ht0_r11p95"):
        ingest(registry, "calexp", {"relpath": f"{run}.fits", "visit": 1, "ccd": 1}, run=run)
    before = contents(registry)
    with pytest.raises(NotFoundError, match=r"unknown run 'Ht0_r11p96'; known: Ht0_r11p95, Wide_r9p01") as caught:
        registry.tag("BEST", "Wide_r9p01", "Ht0_r11p96")
    assert caught.value.exit_code == 5
    with pytest.raises(UsageError, match="names no unit"):
        registry.tag("BEST", "r11p95")
    with pytest.raises(UsageError, match="is no tag"):
        registry.tag("best of all", "Ht0_r11p95")
    assert contents(registry) == before


def test_a_new_filetype_needs_no_code(bare: Registry, tmp_path: Path) -> None:
    assert bare.register_filetypes(filetypes(tmp_path, EVERYTHING)) == ["everything"]
    given = {"number": 2**62, "share": 0.1, "remark": "it's", "night": "2013-06-17", "where": "8,6", "good": True}
    ingest(bare, "everything", {"relpath": "a.fits", **given}, {"relpath": "b.fits", "number": -1})
    with Registry(bare.url) as again:
        first, second = again.query("everything", where="number >= -1", order_by=["-number"])
    assert dict(first.metadata) == given | {"where": "8x6"}
    assert [type(value) for value in first.metadata.values()] == [int, float, str, str, str, bool]
    assert set(second.metadata.values()) == {-1, None}


def test_metadata_have_types_in_the_database(bare: Registry, tmp_path: Path) -> None:
    bare.register_filetypes(filetypes(tmp_path, EVERYTHING))
    row = {"number": 1, "share": 2, "remark": 3, "night": "2013-06-17", "where": "8,6", "good": 1}
    ingest(bare, "everything", {"relpath": "a.fits", **row})
    if bare.dialect == "sqlite":
        kinds = rows(
            bare, 'select typeof(number), typeof(share), typeof(remark), typeof(night), typeof("where") from everything'
        )
        assert kinds == [("integer", "real", "text", "text", "text")]
        return
    declared = dict(
        rows(bare, "select column_name, data_type from information_schema.columns where table_name = 'everything'")
    )
    assert declared == {
        "desfile_id": "bigint",
        "number": "bigint",
        "share": "double precision",
        "remark": "text",
        "night": "text",
        "where": "text",
        "good": "boolean",
    }


def test_a_metadata_table_has_an_index_of_its_data_id(registry: Registry) -> None:
    with registry.read() as conn:
        indexes = sa.inspect(conn).get_indexes("deepcoadd_calexp")
    assert [index["column_names"] for index in indexes] == [["tract", "patch", "filter"]]


def test_names_that_are_words_of_sql_do_no_harm(bare: Registry, tmp_path: Path) -> None:
    names = ("select", "order", "user", "group", "id", "path", "table", "run_rank", "archive_name", "Limit")
    columns = "\n".join(f"{name} = 'int'" for name in names)
    bare.register_filetypes(
        filetypes(tmp_path, f"[filetypes.where]\nkeys = ['order']\n[filetypes.where.columns]\n{columns}")
    )
    given = {name: number for number, name in enumerate(names)}
    ingest(bare, "where", {"relpath": "a.fits", **given})
    [found] = bare.query("where", where="id = 4 AND path = 5", order_by=["order"])
    assert (dict(found.metadata), found.relpath) == (given, "a.fits")


def test_the_longest_name_fits_every_database(bare: Registry, tmp_path: Path) -> None:
    table, column = "t" * 55, "c" * 55
    text = f"[filetypes.{table}]\nkeys = ['{column}']\n[filetypes.{table}.columns]\n{column} = 'int'"
    bare.register_filetypes(filetypes(tmp_path, text))
    ingest(bare, table, {"relpath": "a.fits", column: 5})
    assert [record[column] for record in bare.query(table)] == [5]


def test_a_filetype_may_gain_columns(bare: Registry, tmp_path: Path) -> None:
    bare.register_filetypes(filetypes(tmp_path, EVERYTHING))
    ingest(bare, "everything", {"relpath": "a.fits", "number": 1})
    more = EVERYTHING + 'seeing = "float"\nfield = "str"\n'
    assert bare.register_filetypes(filetypes(tmp_path, more)) == ["everything"]
    assert bare.register_filetypes(filetypes(tmp_path, more)) == []
    ingest(bare, "everything", {"relpath": "b.fits", "number": 2, "seeing": 0.6, "field": "COSMOS"})
    assert [(record["seeing"], record["field"]) for record in bare.query("everything")] == [
        (None, None),
        (0.6, "COSMOS"),
    ]
    # who still has the old definition takes nothing away
    assert bare.register_filetypes(filetypes(tmp_path, EVERYTHING)) == []
    assert [record["seeing"] for record in bare.query("everything")] == [None, 0.6]


def test_a_filetype_without_columns_may_gain_some(bare: Registry, tmp_path: Path) -> None:
    bare.register_filetypes(filetypes(tmp_path, "[filetypes.note]"))
    ingest(bare, "note", {"relpath": "a.txt"})
    bare.register_filetypes(filetypes(tmp_path, "[filetypes.note.columns]\nauthor = 'str'"))
    ingest(bare, "note", {"relpath": "b.txt", "author": "me"})
    assert {record.relpath: record["author"] for record in bare.query("note")} == {"a.txt": None, "b.txt": "me"}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('share = "float"', 'share = "str"', r"column share is registered as float, not str"),
        (
            'keys = ["number"]',
            'keys = ["number", "night"]',
            r"registered with data id \('number',\) in table everything",
        ),
        ("keys", 'metadata_table = "other"\nkeys', r"not \('number',\) in\s+other"),
    ],
)
def test_a_filetype_cannot_change_what_it_was(bare: Registry, tmp_path: Path, old: str, new: str, problem: str) -> None:
    bare.register_filetypes(filetypes(tmp_path, EVERYTHING))
    before = contents(bare)
    both = filetypes(tmp_path, EVERYTHING.replace(old, new) + "\n[filetypes.another.columns]\nx = 'int'")
    with pytest.raises(ConflictError, match=problem):
        bare.register_filetypes(both)
    assert contents(bare) == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *(
            (
                f"[filetypes.a.columns]\n{name} = 'int'",
                rf"filetype a: columns \['{name}'\] have names that mean something",
            )
            for name in ("run", "Tag", "filename", "RELPATH", "archive", "md5sum", "filetype", "visit_tag", "reqnum")
        ),
        ("[filetypes.desfile.columns]\nx = 'int'", "filetype desfile: the table desfile is one of dbb's own"),
        ("[filetypes.a]\nmetadata_table='Proctag'\ncolumns={x='int'}", "the table proctag is one of dbb's own"),
    ],
)
def test_names_that_dbb_needs_are_refused(sqlite_url: str, tmp_path: Path, text: str, problem: str) -> None:
    with Registry.create(sqlite_url) as registry, pytest.raises(UsageError, match=problem):
        registry.register_filetypes(filetypes(tmp_path, text))


def test_filetypes_may_share_a_metadata_table(bare: Registry, tmp_path: Path) -> None:
    text = """
    [filetypes.image]
    metadata_table = "shared"
    keys = ["number"]
    columns = { number = "int", share = "float", good = "bool", night = "date" }
    [filetypes.weight]
    metadata_table = "shared"
    keys = ["number"]
    columns = { number = "int", share = "float", good = "bool", night = "date", method = "str" }
    """
    bare.register_filetypes(filetypes(tmp_path, text))
    ingest(bare, "image", {"relpath": "i1.fits", "number": 1}, {"relpath": "i2.fits", "number": 2})
    ingest(bare, "weight", {"relpath": "w1.fits", "number": 1, "method": "inverse"})
    assert [record.relpath for record in bare.query("image", where="number < 9")] == ["i1.fits", "i2.fits"]
    assert [(record.relpath, record["method"]) for record in bare.query("weight")] == [("w1.fits", "inverse")]
    assert rows(bare, "select count(*) from shared") == [(3,)]
    with pytest.raises(NotFoundError, match="unknown name 'method'"):
        bare.query("image", where="method = 'inverse'")


def test_filetypes_that_share_a_table_must_agree_on_types(bare: Registry, tmp_path: Path) -> None:
    bare.register_filetypes(filetypes(tmp_path, EVERYTHING))
    before = contents(bare)
    for kind in ("str", "float", "bool"):
        text = f"[filetypes.other]\nmetadata_table = 'everything'\ncolumns = {{ Number = '{kind}' }}"
        with pytest.raises(ConflictError, match="table everything holds Number with another type than filetype other"):
            bare.register_filetypes(filetypes(tmp_path, text))
    assert contents(bare) == before


def test_a_rehearsed_registration_changes_nothing(bare: Registry, tmp_path: Path) -> None:
    before = contents(bare)
    assert bare.register_filetypes(filetypes(tmp_path, EVERYTHING), dry_run=True) == ["everything"]
    assert contents(bare) == before
    with pytest.raises(NotFoundError, match="unknown filetype 'everything'"):
        bare.filetype("everything")


def test_a_filetype_answers_to_its_own_name_and_to_the_butlers(registry: Registry) -> None:
    for name in ("deepcoadd_calexp", "deepCoadd_calexp", "DEEPCOADD_CALEXP"):
        assert registry.filetype(name).name == "deepcoadd_calexp"
    assert registry.filetype("raw").name == "hsc_raw"
    assert registry.filetype("deepCoadd_directWarp").name == "deepcoadd_tempexp"
    with pytest.raises(NotFoundError, match=r"unknown filetype 'deepCoad_calexp'; known: deepcoadd_calexp, "):
        registry.filetype("deepCoad_calexp")
