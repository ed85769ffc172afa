"""Files, places and relations that events tell of: what contradicts the registry becomes a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_files import EventFile, event_file, made, make_workflow, md5, name, register_raws, saved
from registries import rows, small_registry

from dbb import Registry
from dbb.pipeline.workflow import Workflow
from dbb.runs.begin import begin_run
from dbb.runs.merge import merge

ERRORS = "select message from task_message where message_lvl = 1 order by message"
WARNINGS = "select message from task_message where message_lvl = 2 and ops_message_pattern_id is null order by message"
CALEXP = "CORR-0000001-000-r11p95.fits"


@pytest.fixture
def workflow() -> Workflow:
    return make_workflow(2, 2)


@pytest.fixture
def registry(registry_url: str, tmp_path: Path, workflow: Workflow) -> Iterator[Registry]:
    with small_registry(registry_url, "hsc_raw", "calexp", "deepcoadd_calexp") as opened:
        opened.add_archive("home", str(tmp_path / "home"))
        register_raws(opened, 2, 2)
        begin_run(opened, workflow, operator="op")
        yield opened


@pytest.fixture
def file(tmp_path: Path, workflow: Workflow) -> EventFile:
    """The event file of the first job, with its first step begun."""
    return event_file(tmp_path / "RUN", workflow.jobs[0], workflow).begin_step(workflow.instance(1))


def merged(registry: Registry, file: EventFile) -> None:
    assert merge(registry, [file.write()]).refused == ()


def only(registry: Registry, statement: str) -> str:
    ((text,),) = rows(registry, statement)
    return str(text)


def other_job(tmp_path: Path, workflow: Workflow) -> EventFile:
    return event_file(tmp_path / "RUN", workflow.jobs[1], workflow).begin_step(workflow.instance(3))


def test_two_jobs_that_saved_different_bytes_at_one_place_are_a_conflict_that_the_second_tells(
    registry: Registry, file: EventFile, tmp_path: Path, workflow: Workflow
) -> None:
    for one, step, words in ((file, 1, "one"), (other_job(tmp_path, workflow), 3, "other")):
        one.add(step, exec=1, file=made(CALEXP, "calexp", words)).add(step, saved=saved(CALEXP, f"corr/{CALEXP}"))
        merged(registry, one)
    message = only(registry, ERRORS)
    assert message.startswith(f"corr/{CALEXP} in home is registered with md5sum {md5(CALEXP + 'one')}, but the job")
    step = "select wrapnum from task_message m, pfw_wrapper w where w.task_id = m.task_id and message_lvl = 1"
    assert rows(registry, step) == [(3,)]
    kept = f"select md5sum from desfile d, file_archive_info f where f.desfile_id = d.id and f.filename = '{CALEXP}'"
    assert rows(registry, kept) == [(md5(CALEXP + "one"),)]
    assert rows(registry, f"select count(*) from desfile where filename = '{CALEXP}'") == [(2,)]


def test_two_jobs_of_one_batch_that_saved_different_bytes_at_one_place_are_a_conflict_too(
    registry: Registry, file: EventFile, tmp_path: Path, workflow: Workflow
) -> None:
    for one, step, words in ((file, 1, "one"), (other_job(tmp_path, workflow), 3, "other")):
        one.add(step, exec=1, file=made(CALEXP, "calexp", words)).add(step, saved=saved(CALEXP, f"corr/{CALEXP}"))
        one.write()
    merge(registry, [tmp_path / "RUN"])
    assert "is registered with md5sum" in only(registry, ERRORS)


def test_two_jobs_that_saved_the_same_bytes_at_one_place_agree(
    registry: Registry, file: EventFile, tmp_path: Path, workflow: Workflow
) -> None:
    for one, step in ((file, 1), (other_job(tmp_path, workflow), 3)):
        one.add(step, exec=1, file=made(CALEXP, "calexp")).add(step, saved=saved(CALEXP, f"corr/{CALEXP}"))
        merged(registry, one)
    assert rows(registry, ERRORS) == []


def test_an_unknown_filetype_is_registered_without_metadata_and_told(registry: Registry, file: EventFile) -> None:
    file.add(1, exec=1, file=made("new.fits", "novelty"))
    merged(registry, file)
    assert rows(registry, "select filename from desfile where filetype = 'novelty'") == [("new.fits",)]
    assert only(registry, ERRORS).startswith("the registry has no filetype novelty: new.fits")


def test_a_file_without_filetype_is_a_plain_one(registry: Registry, file: EventFile) -> None:
    file.add(1, exec=1, file=made("new.txt", None))
    merged(registry, file)
    assert rows(registry, "select filename from desfile where filetype = 'genfile'") == [("new.txt",)]
    assert rows(registry, ERRORS) == []


def test_metadata_are_converted_and_what_cannot_be_is_told(registry: Registry, file: EventFile) -> None:
    metadata = {"VISIT": "0000001", "ccd": "many", "filter": "HSC-R", "expTime": 30, "unheard": 1}
    file.add(1, exec=1, file=made(CALEXP, "calexp") | {"metadata": metadata})
    merged(registry, file)
    assert rows(registry, "select visit, ccd, filter, exptime from calexp") == [(1, None, "HSC-R", 30.0)]
    assert only(registry, ERRORS) == f"{CALEXP}, ccd: expected an integer, not 'many'"


def test_corners_are_registered(registry: Registry, file: EventFile) -> None:
    corners = [10.0, 0.0, 9.9, -0.1, 10.1, -0.1, 10.1, 0.1, 9.9, 0.1]
    file.add(1, exec=1, file=made(CALEXP, "calexp", corners=corners))
    merged(registry, file)
    assert rows(registry, "select ra_cent, decc4, cell is null from image_corners") in (
        [(10.0, 0.1, 0)],
        [(10.0, 0.1, False)],
    )


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"step": 77, "state": "running"}, "the job has no step 77"),
        ({"step": 1, "state": "asleep"}, "there is no state 'asleep'"),
        ({"step": 1, "exec": 9, "state": "running"}, "the step has no exec 9"),
        ({"step": 1, "message": {"level": 8, "text": "x"}}, "there is no level 8"),
        ({"step": 1, "used": [{"filename": "n", "archive": "home", "relpath": "../n"}, {}]}, "KeyError: 'filename'"),
        ({"step": 1, "file": {"filename": "x", "filesize": 2**70}}, "does not fit"),
        ({"step": 1, "file": {"filesize": 7}}, "KeyError: 'filename'"),
        ({"step": 1, "used": [7]}, "cannot be understood"),
        ({"step": 1, "saved": None}, "cannot be understood"),
        ({"step": 1, "t": "soon", "state": "running"}, "cannot be understood"),
        ({"step": [1], "state": "running"}, "cannot be understood"),
    ],
)
def test_an_event_that_makes_no_sense_is_told_and_those_after_it_count(
    registry: Registry, file: EventFile, event: dict[str, Any], words: str
) -> None:
    file.lines.append(json.dumps({"t": 1.4e9, "job": "x", **event}) + "\n")
    file.add(1, state="succeeded", status=0)
    merged(registry, file)
    assert words in only(registry, ERRORS)
    assert rows(registry, "select state from pfw_wrapper w, task t where t.id = w.task_id and wrapnum = 1") == [
        ("succeeded",)
    ]


@pytest.mark.parametrize("line", ["[]", "nonsense", '{"t": 1', "\ufffd\x00", '"' + "[" * 100_000])
def test_a_line_that_is_no_event_is_told_and_those_after_it_count(
    registry: Registry, file: EventFile, line: str
) -> None:
    file.lines.append(line + "\n")
    file.add(1, state="succeeded", status=0)
    merged(registry, file)
    assert "it is no JSON object" in only(registry, ERRORS)
    assert rows(registry, "select count(*) from task where state = 'succeeded'") == [(1,)]


def test_what_no_database_holds_is_escaped(registry: Registry, file: EventFile) -> None:
    file.add(1, exec=1, message={"level": 1, "pattern": None, "text": "a\0b \udcff", "file": None, "line": None})
    file.add(1, exec=1, file=made("na\udcefve.txt", None))
    merged(registry, file)
    assert only(registry, ERRORS) == "a\\x00b \\udcff"
    assert rows(registry, "select filename from desfile where filetype = 'genfile'") == [("na\\udcefve.txt",)]


def test_a_file_saved_but_never_made_or_in_an_unknown_archive_or_unsafe_is_told(
    registry: Registry, file: EventFile
) -> None:
    file.add(1, saved=saved("ghost.fits", "corr/ghost.fits")).add(1, exec=1, file=made(CALEXP, "calexp"))
    file.add(1, saved=saved(CALEXP, CALEXP, archive="moon")).add(1, saved=saved(CALEXP, f"../{CALEXP}"))
    merged(registry, file)
    ghost, unsafe, moon = sorted(text.partition(", but ")[2] for (text,) in rows(registry, ERRORS))
    assert ghost == "it never told that it made this file"
    assert unsafe.startswith("relpath '../CORR-0000001-000-r11p95.fits'")
    assert moon == "the registry has no archive moon (see dbb archive add)"
    assert rows(registry, "select count(*) from file_archive_info where path <> 'raw'") == [(0,)]


def test_an_input_is_found_where_it_lies_then_in_the_run_then_anywhere(
    registry: Registry, file: EventFile, tmp_path: Path, workflow: Workflow
) -> None:
    registry.ingest_table([{"relpath": "x/sky.dat"}, {"relpath": "y/sky.dat"}], filetype="genfile", archive="home")
    file.add(1, exec=1, used=[{**name("sky.dat"), "archive": "home", "relpath": "x/sky.dat"}])
    file.add(2, exec=1, used=[name("sky.dat"), {**name("nobody.dat"), "archive": "home", "relpath": "../nobody.dat"}])
    merged(registry, file)
    used = (
        "select wrapnum, f.path from opm_used u, pfw_exec e, pfw_wrapper w, file_archive_info f"
        " where u.task_id = e.task_id and w.task_id = e.pfw_wrapper_task_id and f.desfile_id = u.desfile_id"
        " order by wrapnum"
    )
    assert rows(registry, used) == [(1, "x"), (2, "y")]
    assert [text for (text,) in rows(registry, WARNINGS)] == [
        "nobody.dat was read, but no file of this name is registered",
        "sky.dat was read, and 2 files have this name: the newest is taken for it",
    ]
    other = (
        other_job(tmp_path, workflow).add(3, exec=1, file=made("sky.dat", None)).add(3, exec=1, used=[name("sky.dat")])
    )
    merged(registry, other)
    own = "select count(*) from opm_used u, desfile d where d.id = u.desfile_id and d.pfw_attempt_id is not null"
    assert rows(registry, own) == [(1,)]


def test_what_a_step_read_before_its_maker_was_merged_is_found_when_that_is(
    registry: Registry, file: EventFile, tmp_path: Path, workflow: Workflow
) -> None:
    registry.ingest_table([{"relpath": f"old/{CALEXP}", "visit": 1, "ccd": 0}], filetype="calexp", archive="home")
    coadd = event_file(tmp_path / "RUN", workflow.jobs[2], workflow).begin_step(workflow.instance(5))
    coadd.make_files(workflow.instance(5))
    merged(registry, coadd)
    assert rows(registry, "select count(*) from opm_used") == [(0,)]
    assert rows(registry, "select count(*) from pending_use") == [(8,)]  # four read, the coadd derived from each
    merged(registry, file.make_files(workflow.instance(1)))
    found = (
        "select pfw_attempt_id is not null from opm_used u, desfile d"
        " where d.id = u.desfile_id and d.filetype = 'calexp'"
    )
    assert [bool(own) for (own,) in rows(registry, found)] == [True]
    derived = (
        "select count(*) from opm_was_derived_from o, desfile d"
        " where d.id = child_desfile_id and filetype = 'deepcoadd_calexp'"
    )
    assert rows(registry, derived) == [(1,)]
    assert rows(registry, "select count(*) from pending_use") == [(6,)]


@pytest.mark.parametrize("tries", [1, 2])
def test_a_compressed_file_is_made_by_a_task_of_its_own_from_the_plain_one(
    registry: Registry, tmp_path: Path, workflow: Workflow, tries: int
) -> None:
    for number in range(1, tries + 1):
        file = event_file(tmp_path / "RUN", workflow.jobs[0], workflow, number).begin_step(workflow.instance(1))
        file.add(1, exec=1, file=made(CALEXP, "calexp")).add(1, exec=None, file=made(CALEXP, "calexp", "", ".fz"))
        argv = ["fpack", "-r", CALEXP]
        sides = {"from": name(CALEXP), "to": name(CALEXP, ".fz")}
        file.add(1, compressed={**sides, "argv": argv, "status": 0})
        file.add(1, saved=saved(CALEXP, f"corr/{CALEXP}.fz", ".fz"))
        merged(registry, file)
    tasks = (
        "select t.name, p.name, t.state, c.name, cmdargs, num_requested, num_failed, tot_bytes_before, tot_bytes_after"
    )
    assert rows(
        registry, f"{tasks} from compress_task c, task t, task p where t.id = c.task_id and p.id = t.parent_task_id"
    ) == [("compress_files", "wrapper", "succeeded", "fpack", f"-r {CALEXP}", 1, 0, 1000, 1000)]
    files = (
        "select d.compression, t.name, f.path from task t, desfile d"
        " left join file_archive_info f on f.desfile_id = d.id where t.id = d.wgb_task_id order by d.compression"
    )
    assert rows(registry, files) == [("", "exec_1", None), (".fz", "compress_files", "corr")]
    assert rows(registry, "select p.compression, c.compression from opm_was_derived_from, desfile p, desfile c"
                " where p.id = parent_desfile_id and c.id = child_desfile_id") == [("", ".fz")]  # fmt: skip


def test_a_file_that_could_not_be_compressed_is_counted(registry: Registry, file: EventFile) -> None:
    file.add(1, exec=1, file=made(CALEXP, "calexp"))
    file.add(1, compressed={"from": name(CALEXP), "to": None, "argv": [], "status": 1})
    merged(registry, file)
    assert rows(registry, "select num_requested, num_failed from compress_task") == [(1, 1)]


def test_what_a_job_left_over_is_its_own(registry: Registry, file: EventFile) -> None:
    file.add(None, file=made("junk_r11p95.tar", "junk_tar")).add(
        None, saved=saved("junk_r11p95.tar", "junk/junk_r11p95.tar")
    )
    merged(registry, file)
    assert rows(registry, "select junktar from pfw_job where junktar is not null") == [("junk_r11p95.tar",)]
    made_by = "select t.name from task t, desfile d where t.id = d.wgb_task_id and d.filetype = 'junk_tar'"
    assert rows(registry, made_by) == [("job",)]
