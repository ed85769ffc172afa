"""What a file came from and what came from it, through any number of tasks, in one recursive statement."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from demo_survey import counted
from registries import small_registry

from dbb import Registry
from dbb.errors import AmbiguousError, NotFoundError
from dbb.registry._tables import desfile, opm_was_derived_from, task
from dbb.registry.provenance import add_used, ensure_task
from dbb.report import lineage
from dbb.report.prov import prov_json

RUN = "Ht0_r20p01"


class Story:
    """A registry in which tasks use and make files: told as ``task: used -> made``."""

    def __init__(self, url: str) -> None:
        self.registry = small_registry(url, "src")
        self.registry.add_archive("home", "/data/home")

    def files(self, *names: str) -> None:
        rows = [{"relpath": f"f/{name}", "visit": 1, "ccd": number, "filter": "r"} for number, name in enumerate(names)]
        self.registry.ingest_table(rows, filetype="src", archive="home", run=RUN)

    def id(self, conn: sa.Connection, name: str) -> int:
        return int(conn.execute(sa.select(desfile.c.id).where(desfile.c.filename == name)).scalar_one())

    def task(self, label: str, used: str, made: str) -> None:
        def work(conn: sa.Connection) -> None:
            number = ensure_task(conn, "step", label)
            add_used(conn, number, [self.id(conn, name) for name in used.split()])
            for name in made.split():
                conn.execute(sa.update(desfile).where(desfile.c.filename == name).values(wgb_task_id=number))

        self.registry.write(work)

    def derived(self, parent: str, child: str) -> None:
        def work(conn: sa.Connection) -> None:
            values = {"parent_desfile_id": self.id(conn, parent), "child_desfile_id": self.id(conn, child)}
            conn.execute(sa.insert(opm_was_derived_from).values(values))

        self.registry.write(work)

    def names(self, name: str, *, up: bool) -> set[str]:
        return {node.name.rpartition("/")[2] for node in lineage(self.registry, name, up=up).nodes.values()} - {name}


@pytest.fixture
def story(registry_url: str) -> Iterator[Story]:
    told = Story(registry_url)
    told.files("raw1", "raw2", "flat", "cal1", "cal2", "coadd", "packed", "other")
    told.task("one", "raw1 flat", "cal1")
    told.task("two", "raw2 flat", "cal2")
    told.task("three", "cal1 cal2", "coadd")
    told.derived("coadd", "packed")
    yield told
    told.registry.close()


def test_everything_that_a_file_came_from_is_found(story: Story) -> None:
    everything = {"raw1", "raw2", "flat", "cal1", "cal2", "coadd", "step one", "step two", "step three"}
    assert story.names("packed", up=True) == everything
    assert story.names("cal1", up=True) == {"step one", "raw1", "flat"}
    assert story.names("other", up=True) == set()


def test_everything_that_came_from_a_file_is_found(story: Story) -> None:
    assert story.names("raw1", up=False) == {"step one", "cal1", "step three", "coadd", "packed"}
    assert story.names("flat", up=False) == {
        "step one", "step two", "cal1", "cal2", "step three", "coadd", "packed",
    }  # fmt: skip
    assert story.names("packed", up=False) == set()


def test_relations_are_said_as_prov_says_them(story: Story) -> None:
    found = lineage(story.registry, "f/packed")
    named = {(relation, found.nodes[a].name, found.nodes[b].name) for relation, a, b in found.edges}
    assert named == {
        ("used", "step one", "f/raw1"),
        ("used", "step one", "f/flat"),
        ("used", "step two", "f/raw2"),
        ("used", "step two", "f/flat"),
        ("used", "step three", "f/cal1"),
        ("used", "step three", "f/cal2"),
        ("wasGeneratedBy", "f/cal1", "step one"),
        ("wasGeneratedBy", "f/cal2", "step two"),
        ("wasGeneratedBy", "f/coadd", "step three"),
        ("wasDerivedFrom", "f/packed", "f/coadd"),
    }
    assert lineage(story.registry, "raw1", up=False).edges[0][0] == "used"


def test_the_tree_unfolds_nothing_twice(story: Story) -> None:
    assert list(lineage(story.registry, "packed").tree()) == [
        f"f/packed  [src {RUN}]",
        f"└── derived from f/coadd  [src {RUN}]",
        "    └── made by step three",
        f"        ├── used f/cal1  [src {RUN}]",
        "        │   └── made by step one",
        f"        │       ├── used f/raw1  [src {RUN}]",
        f"        │       └── used f/flat  [src {RUN}]",
        f"        └── used f/cal2  [src {RUN}]",
        "            └── made by step two",
        f"                ├── used f/raw2  [src {RUN}]",
        f"                └── used f/flat  [src {RUN}]",
    ]


def test_a_circle_ends_where_it_began(story: Story) -> None:
    story.task("one", "coadd", "")  # a file that was made again from what was made from it
    assert "coadd" in story.names("cal1", up=True)
    assert any("(see above)" in line for line in lineage(story.registry, "cal1").tree())


def test_the_number_of_statements_does_not_grow_with_the_depth(story: Story) -> None:
    sent = []
    for name in ("cal1", "packed"):
        with counted(story.registry) as statements:
            lineage(story.registry, name)
        sent.append([one for one in statements if not one.startswith("BEGIN")])
    assert len(sent[0]) == len(sent[1])
    assert sum("RECURSIVE" in one for one in sent[1]) == 1


def test_each_step_is_found_through_an_index(sqlite_url: str) -> None:
    story = Story(sqlite_url)
    story.files("a", *(f"b{number}" for number in range(1000)))  # of a few rows SQLite reads all
    with counted(story.registry) as statements:
        lineage(story.registry, "a")
    (recursive,) = (one for one in statements if "RECURSIVE" in one)
    with story.registry.read() as conn:
        plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {recursive}", tuple([1] * recursive.count("?"))).all()
    assert plan
    assert not [
        row[3] for row in plan if row[3].startswith("SCAN") and row[3].split()[1] in {"used", "made", "derived"}
    ]


def test_a_thousand_steps_are_not_too_deep(sqlite_url: str) -> None:
    story = Story(sqlite_url)
    story.files(*(f"n{number}" for number in range(1001)))

    def work(conn: sa.Connection) -> None:
        ids = {row.filename: row.id for row in conn.execute(sa.select(desfile.c.id, desfile.c.filename))}
        links = [{"parent_desfile_id": ids[f"n{n}"], "child_desfile_id": ids[f"n{n + 1}"]} for n in range(1000)]
        conn.execute(sa.insert(opm_was_derived_from), links)

    story.registry.write(work)
    assert len(lineage(story.registry, "n1000").nodes) == 1001
    lines = list(lineage(story.registry, "n0", up=False).tree())
    assert lines[50:52] == [
        f"{' ' * 4 * 49}└── became f/n50  [src Ht0_r20p01] (goes on below)",
        "f/n50  [src Ht0_r20p01]",
    ]
    assert [line.split("f/")[1].split()[0] for line in lines if "(goes on below)" not in line] == [
        f"n{number}" for number in range(1001)
    ]


def test_an_unknown_file_and_an_ambiguous_name_are_errors(story: Story) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        lineage(story.registry, "nothing")
    story.registry.ingest_table([{"relpath": "g/raw1", "visit": 2, "ccd": 1}], filetype="src", archive="home", run=RUN)
    with pytest.raises(AmbiguousError, match=r"f/raw1 in home\n.*g/raw1 in home"):
        lineage(story.registry, "raw1")
    assert lineage(story.registry, "g/raw1").nodes


def test_of_files_with_one_path_in_several_archives_the_whole_path_names_one(story: Story) -> None:
    registry = story.registry
    registry.add_archive("inner", "/data/home/f")
    registry.add_archive("cloud", "s3://bucket/data")
    made = {}
    for archive, relpath in (("home", "raw1"), ("inner", "f/raw1"), ("cloud", "f/raw1")):
        registry.ingest_table(
            [{"relpath": relpath, "visit": 3, "ccd": 1}], filetype="src", archive=archive, run=RUN
        )  # fmt: skip
    for name in ("f/raw1", "raw1"):
        with pytest.raises(AmbiguousError) as caught:
            lineage(registry, name)
        places = [line.rpartition(" in ")[0].strip() for line in str(caught.value).splitlines() if " in " in line]
        for place in places:
            made[place] = next(iter(lineage(registry, place).nodes))
    assert sorted(made) == ["/data/home/f/f/raw1", "/data/home/f/raw1", "/data/home/raw1", "s3://bucket/data/f/raw1"]
    assert len(set(made.values())) == 4
    assert next(iter(lineage(registry, "file:///data/home/raw1").nodes)) == made["/data/home/raw1"]
    with pytest.raises(NotFoundError):
        lineage(registry, "s3://bucket/data/raw1")


def test_prov_json_is_read_back_by_prov_with_all_in_it(story: Story) -> None:
    from prov.model import ProvActivity, ProvDerivation, ProvDocument, ProvEntity, ProvGeneration, ProvUsage

    document = ProvDocument.deserialize(content=prov_json(lineage(story.registry, "packed")), format="json")
    counts = {kind: len(list(document.get_records(kind))) for kind in (ProvEntity, ProvActivity, ProvUsage, ProvGeneration, ProvDerivation)}  # fmt: skip # noqa: E501  # one table
    assert counts == {ProvEntity: 7, ProvActivity: 3, ProvUsage: 6, ProvGeneration: 3, ProvDerivation: 1}
    labels = {str(record.label) for record in document.get_records(ProvEntity)}
    assert {"f/raw1", "f/packed"} <= labels


def test_a_task_that_nobody_timed_can_be_exported(story: Story) -> None:
    story.registry.write(lambda conn: conn.execute(sa.update(task).values(start_time=None, end_time=None)))
    assert "step one" in prov_json(lineage(story.registry, "cal1"))


def test_rows_say_what_kind_they_are(story: Story) -> None:
    kinds = [row["kind"] for row in lineage(story.registry, "cal1").as_rows()]
    assert sorted(set(kinds)) == ["file", "task", "used", "wasGeneratedBy"]
    assert kinds[0] == "file"


def test_a_file_in_no_archive_is_found_by_its_name(story: Story) -> None:
    registry: Registry = story.registry
    registry.write(lambda conn: conn.exec_driver_sql("DELETE FROM file_archive_info WHERE filename = 'cal1'"))
    assert next(iter(lineage(registry, "cal1").nodes.values())).name == "cal1"
