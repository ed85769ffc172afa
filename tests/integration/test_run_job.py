"""A job runs its steps in order, records all that happens, and keeps what is to be kept."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from job_files import archived, events_of, md5sum, output, shell, states_of, texts_of, write_job

from dbb.errors import ConflictError, DbbError, NotFoundError, SchemaVersionError, UnsafePathError, UsageError
from dbb.jobs import run_job


def run(folder: Path, *steps: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    path = write_job(folder, steps, **more)
    run_job(path)
    return events_of(path)


def saved(folder: Path) -> dict[str, bytes]:
    archive = folder / "archive"
    return {str(path.relative_to(archive)): path.read_bytes() for path in archive.rglob("*") if path.is_file()}


def test_steps_run_in_order_and_see_what_earlier_ones_made(tmp_path: Path) -> None:
    first = shell(1, "echo 1 > out/a", "out/a")
    second = shell(2, "cat out/a out/a > out/b", "out/b", inputs=[{"fullname": "out/a"}])
    events = run(tmp_path, first, second)
    assert states_of(events) == {1: "succeeded", 2: "succeeded", None: "succeeded"}
    assert saved(tmp_path) == {"r11p95/a": b"1\n", "r11p95/b": b"1\n1\n"}


def test_the_first_event_says_who_ran_where_with_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETUP_AFW", "afw 15.0 -f Linux64 -Z /stack")
    monkeypatch.setenv("SLURM_JWT_TOKEN", "do not tell")
    first, *_, last = run(tmp_path, shell(1, "true"))
    assert {"log", "run", "try", "host", "pid", "user", "dbb", "python", "platform", "environment"} <= first.keys()
    assert (first["state"], first["step"], first["try"]) == ("running", None, 1)
    assert first["software"]["afw"] == "15.0"
    assert "do not tell" not in json.dumps(first)
    assert (last["state"], last["step"], last["status"]) == ("succeeded", None, 0)


def test_events_of_a_step_tell_its_story(tmp_path: Path) -> None:
    given = archived(tmp_path, "raw/in.txt", b"raw", "in/in.txt")
    one = shell(
        1,
        "cat in/in.txt > out/a.fits.fz",
        output("out/a.fits.fz", filetype="calexp", nick="img"),
        inputs=[given],
        execs=[
            {
                "execname": "reduce",
                "used": ["in.txt"],
                "generated": ["a.fits.fz"],
                "ancestry": [[["in.txt"], ["a.fits.fz"]]],
            }
        ],
    )
    events = [event for event in run(tmp_path, one) if event["step"] == 1]
    child = {"filename": "a.fits", "compression": ".fz"}
    kinds = [next(key for key in ("used", "file", "derived", "saved", "state") if key in event) for event in events]
    assert kinds == ["state", "state", "used", "state", "file", "derived", "file", "saved", "state"]
    assert events[2]["used"] == [{"filename": "in.txt", "compression": "", "archive": "home", "relpath": "raw/in.txt"}]
    assert (events[3]["name"], events[3]["status"], len(events[3]["rusage"])) == ("reduce", 0, 16)
    assert child.items() <= events[4]["file"].items()
    assert (events[4]["file"]["filesize"], events[4]["file"]["md5sum"]) == (3, md5sum(b"raw"))
    assert events[5]["derived"] == [{"parent": {"filename": "in.txt", "compression": ""}, "child": child}]
    assert events[7]["saved"] == {**child, "archive": "home", "relpath": "r11p95/a.fits.fz"}


def test_inputs_are_linked_and_lists_are_written(tmp_path: Path) -> None:
    given = archived(tmp_path, "a.txt", b"a", "in/a.txt")
    lists = [{"name": "l", "fullname": "list/l.list", "text": "in/a.txt 1\n"}]
    script = "test -L in/a.txt && cat list/l.list > out/copy"
    run(tmp_path, shell(1, script, "out/copy", inputs=[given], lists=lists))
    assert saved(tmp_path)["r11p95/copy"] == b"in/a.txt 1\n"


def test_an_input_that_a_step_writes_to_is_copied_so_that_the_archive_is_safe(tmp_path: Path) -> None:
    given = archived(tmp_path, "a.txt", b"a", "work/a.txt")
    run(tmp_path, shell(1, "echo more >> work/a.txt", output("work/a.txt"), inputs=[given]))
    assert saved(tmp_path) == {"a.txt": b"a", "r11p95/a.txt": b"amore\n"}


def test_an_input_has_its_fixed_name_besides(tmp_path: Path) -> None:
    given = archived(tmp_path, "skyMap-1.pickle", b"sky", "in/skyMap-1.pickle") | {"rename": "skyMap.pickle"}
    run(tmp_path, shell(1, "cat in/skyMap.pickle in/skyMap-1.pickle > out/a", "out/a", inputs=[given]))
    assert saved(tmp_path)["r11p95/a"] == b"skysky"


def test_a_tar_is_unpacked_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "member.txt").write_text("m")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "member.txt", "d/member.txt")
    given = archived(tmp_path, "t.tar", (tmp_path / "t.tar").read_bytes(), "in/t.tar") | {"untar": True}
    run(tmp_path, shell(1, "cat in/d/member.txt > out/a", "out/a", inputs=[given]))
    assert saved(tmp_path)["r11p95/a"] == b"m"


def test_a_tar_whose_member_climbs_out_fails_the_step(tmp_path: Path) -> None:
    (tmp_path / "member.txt").write_text("m")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "member.txt", "../../../climbed.txt")
    given = archived(tmp_path, "t.tar", (tmp_path / "t.tar").read_bytes(), "in/t.tar") | {"untar": True}
    events = run(tmp_path, shell(1, "true", inputs=[given]))
    assert states_of(events)[1] == "failed"
    assert not list(tmp_path.rglob("climbed.txt"))


def test_header_values_are_looked_up_when_the_step_runs(tmp_path: Path) -> None:
    make = shell(1, "cp in/a.fits out/a.fits", "out/a.fits")
    fits.PrimaryHDU(np.zeros(2, np.int16), fits.Header({"GAIN": 2.5, "CCD": 16})).writeto(tmp_path / "a.fits")
    make["inputs"] = [archived(tmp_path, "a.fits", (tmp_path / "a.fits").read_bytes(), "in/a.fits")]
    head = {"head": {"file": "out/a.fits", "keys": ["GAIN", "CCD"]}}
    use = shell(2, "", "out/b", inputs=[{"fullname": "out/a.fits"}])
    use["argv"] = [["sh", "-c", "printf '%s;' \"$@\" > out/b", "sh", head, {"join": ["--g=", head, "!"]}]]
    run(tmp_path, make, use)
    assert saved(tmp_path)["r11p95/b"] == b"2.5,16;--g=2.5,16!;"


def test_a_header_card_that_is_missing_fails_the_step_by_name(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros(2, np.int16)).writeto(tmp_path / "a.fits")
    given = archived(tmp_path, "a.fits", (tmp_path / "a.fits").read_bytes(), "in/a.fits")
    one = shell(1, "true", inputs=[given])
    one["argv"] = [["echo", {"head": {"file": "in/a.fits", "keys": ["NOSUCH"]}}]]
    events = run(tmp_path, one)
    assert states_of(events)[1] == "failed"
    assert any("NOSUCH" in event.get("reason", "") for event in events)


def test_metadata_is_gathered_as_the_filetype_says(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros(2, np.int16), fits.Header({"EXPTIME": 30.0})).writeto(tmp_path / "a.fits")
    given = archived(tmp_path, "a.fits", (tmp_path / "a.fits").read_bytes(), "in/a.fits")
    filetype = {
        "keys": ["visit", "ccd"],
        "columns": {"visit": "int", "ccd": "int", "expTime": {"type": "float", "source": "header:EXPTIME"}},
        "name": "C-${visit:7}-r${reqnum}.fits",
    }
    made = output("out/C-0000012-r11.fits", filetype="c", metadata={"CCD": "7"})
    one = shell(1, "cp in/a.fits out/C-0000012-r11.fits", made, inputs=[given])
    events = run(tmp_path, one, filetypes={"c": filetype})
    (file,) = [event["file"] for event in events if event.get("file", {}).get("filetype") == "c"]
    assert file["metadata"] == {"visit": 12, "ccd": 7, "expTime": 30.0}


def test_a_file_without_its_metadata_is_noted_but_not_saved(tmp_path: Path) -> None:
    filetype = {"keys": ["visit"], "columns": {"visit": "int"}}
    events = run(tmp_path, shell(1, "echo > out/a", output("out/a", filetype="c")), filetypes={"c": filetype})
    assert states_of(events)[1] == "incomplete"
    assert any("column visit" in text for text in texts_of(events))
    assert any(event.get("file", {}).get("filename") == "a" for event in events)
    assert saved(tmp_path) == {}


def test_a_failed_exec_stops_the_later_ones_and_its_status_is_kept(tmp_path: Path) -> None:
    one = shell(1, "exit 4", "out/a")
    one["argv"].append(["touch", "second"])
    events = run(tmp_path, one)
    ends = [event for event in events if event.get("exec") and "status" in event]
    assert [(event["exec"], event["status"]) for event in ends] == [(1, 4)]
    (last,) = [
        event for event in events if event["step"] == 1 and event.get("state") == "failed" and "exec" not in event
    ]
    assert (last["status"], last["reason"]) == (4, "sh ended with exit status 4")


def test_later_steps_are_blocked_by_the_one_that_failed(tmp_path: Path) -> None:
    events = run(tmp_path, shell(1, "exit 1"), shell(2, "touch ran"))
    assert states_of(events) == {1: "failed", 2: "blocked", None: "failed"}
    assert [event["by"] for event in events if event.get("state") == "blocked"] == [1]


def test_without_stop_on_fail_only_steps_that_need_the_failed_one_are_blocked(tmp_path: Path) -> None:
    needs = shell(2, "true", inputs=[{"fullname": "out/a"}])
    events = run(tmp_path, shell(1, "exit 1", "out/a"), needs, shell(3, "true"), options={"stop_on_fail": False})
    assert states_of(events) == {1: "failed", 2: "blocked", 3: "succeeded", None: "failed"}


def test_a_missing_output_makes_the_step_incomplete_and_an_optional_one_does_not(tmp_path: Path) -> None:
    events = run(tmp_path, shell(1, "true", output("out/a", optional=True)), shell(2, "true", "out/b"))
    assert states_of(events) == {1: "succeeded", 2: "incomplete", None: "incomplete"}
    assert next(event["reason"] for event in events if event.get("state") == "incomplete") == (
        "out/b: the output is missing"
    )


def test_a_missing_input_fails_the_step_with_status_3(tmp_path: Path) -> None:
    lost = archived(tmp_path, "a", b"a", "in/a")
    (tmp_path / "archive" / "a").unlink()
    events = run(tmp_path, shell(1, "true", inputs=[lost]))
    (last,) = [event for event in events if event["step"] == 1 and event.get("state") == "failed"]
    assert last["status"] == 3
    assert "No such file" in last["reason"]


@pytest.mark.parametrize(("size", "why"), [(5, "filesize is 1, registered as 5")])
def test_an_input_that_is_not_what_was_registered_fails_the_step(tmp_path: Path, size: int, why: str) -> None:
    wrong = archived(tmp_path, "a", b"a", "in/a")
    wrong["source"]["filesize"] = size
    events = run(tmp_path, shell(1, "true", inputs=[wrong]))
    assert any(why in event.get("reason", "") for event in events)


def test_quanta_of_a_module_run_at_once_as_far_as_allowed(tmp_path: Path) -> None:
    # each waits until it sees another one: one at a time they would wait for ever
    script = "touch here.$1; for i in $(seq 200); do [ $(ls here.* | wc -l) -ge 2 ] && exit 0; sleep 0.05; done; exit 1"
    steps = [shell(number, script, module="warp") for number in (1, 2, 3, 4)]
    for step in steps:
        step["argv"][0] += ["sh", str(step["wrapnum"])]
    events = run(tmp_path, *steps, parallel={"warp": 2}, limits={"seconds": 30})
    assert set(states_of(events).values()) == {"succeeded"}


def test_a_version_is_asked_for_once_and_recorded(tmp_path: Path) -> None:
    program = tmp_path / "prog"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo asked >> {tmp_path}/asked && echo "prog v1.2 built"\ntrue'
    )
    program.chmod(0o755)
    execs = [{"execname": "prog", "version_flag": "--version", "version_pattern": r"(v\S+)"}]
    steps = [shell(number, "", execs=execs) | {"argv": [[str(program)]]} for number in (1, 2)]
    events = run(tmp_path, *steps)
    assert [event["version"] for event in events if "rusage" in event] == ["v1.2", "v1.2"]
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_version_that_cannot_be_found_is_a_warning(tmp_path: Path) -> None:
    one = shell(1, "true", execs=[{"execname": "echo", "version_flag": "hello", "version_pattern": r"v(\d)"}])
    one["argv"] = [["echo"]]
    events = run(tmp_path, one)
    assert states_of(events)[1] == "succeeded"
    assert [event["message"]["level"] for event in events if "message" in event] == [2]
    assert "in which 'v(\\\\d)' finds no version" in texts_of(events)[0]


def test_messages_are_recorded_with_log_and_line_while_the_step_runs(tmp_path: Path) -> None:
    script = "echo fine; echo ERROR: bad >&2; sleep 1"
    events = run(tmp_path, shell(1, script), messages={"patterns": [{"id": 34, "pattern": "error"}]})
    (message,) = [event for event in events if "message" in event]
    (end,) = [event for event in events if "rusage" in event]
    assert message["message"] == {"level": 1, "pattern": 34, "text": "ERROR: bad", "line": 2, "file": "m1_1.log"}
    assert message["t"] < end["end"]


def test_texts_are_replaced_in_the_log(tmp_path: Path) -> None:
    replace = [{"replace_pattern": "error", "with_pattern": "e**or"}]
    path = write_job(
        tmp_path,
        [shell(1, "printf err; sleep 0.2; printf 'or\\nerror'")],
        messages={"patterns": [{"id": 1, "pattern": "error"}], "replace": replace},
        options={"purge_job_dir": "never"},
    )
    run_job(path)
    assert (path.parent / "work.1" / "log" / "m1_1.log").read_text() == "e**or\ne**or"
    assert texts_of(events_of(path)) == []


def test_a_set_up_script_gives_the_environment_and_is_recorded(tmp_path: Path) -> None:
    script = tmp_path / "setup.sh"
    script.write_text(
        "echo setting up\nexport SETUP_OBS='obs_subaru 7.0 -f x' STACK='a b\nc' API_TOKEN=x\nunset LANG\n"
    )
    first, *events = run(tmp_path, shell(1, 'printf "%s" "$STACK" > out/a', "out/a"), setup=str(script))
    assert saved(tmp_path)["r11p95/a"] == b"a b\nc"
    assert first["software"]["obs_subaru"] == "7.0"
    assert first["setup"]["changes"]["STACK"] == "a b\nc"
    assert "API_TOKEN" not in first["setup"]["changes"]
    assert first["setup"]["md5sum"] == md5sum(script.read_bytes())
    assert states_of(events)[None] == "succeeded"


@pytest.mark.parametrize(("text", "why"), [("exit 3\n", "exit status 3"), (None, "is not there")])
def test_a_set_up_script_that_fails_ends_the_job(tmp_path: Path, text: str | None, why: str) -> None:
    script = tmp_path / "setup.sh"
    if text is not None:
        script.write_text(text)
    events = run(tmp_path, shell(1, "true"), setup=str(script))
    assert states_of(events) == {None: "failed"}
    assert why in events[-1]["reason"]


def test_files_that_are_not_to_be_kept_are_noted_all_the_same(tmp_path: Path) -> None:
    events = run(tmp_path, shell(1, "echo > out/a", output("out/a", save=False)))
    assert [event["file"]["filename"] for event in events if "file" in event] == ["a", "m1_1.log"]
    assert saved(tmp_path) == {}


@pytest.mark.parametrize(
    ("how", "script", "kept"),
    [
        ("file", "echo > out/a; echo > out/b", {"a"}),
        ("file", "echo > out/a; exit 1", set()),
        ("always", "echo > out/a; echo > out/b", {"a", "b"}),
        ("always", "echo > out/a; exit 1", {"a"}),
        ("never", "echo > out/a; echo > out/b", set()),
        ("failure", "echo > out/a; echo > out/b", {"a"}),
        ("failure", "echo > out/a; echo > out/b; exit 1", {"a", "b"}),
    ],
)
def test_master_savefiles_decides_for_all_files(tmp_path: Path, how: str, script: str, kept: set[str]) -> None:
    run(tmp_path, shell(1, script, "out/a", output("out/b", save=False)), options={"master_savefiles": how})
    assert {Path(name).name for name in saved(tmp_path)} == kept


def test_the_log_of_a_failed_step_is_saved(tmp_path: Path) -> None:
    run(tmp_path, shell(1, "echo sorry; exit 1", log_archivepath="r11p95/log"))
    assert saved(tmp_path) == {"r11p95/log/m1_1.log": b"sorry\n"}


def test_an_image_is_compressed_without_loss(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).normal(100, 5, (64, 64)).astype(np.float32)
    counts = np.arange(4096, dtype=np.int16).reshape(64, 64)
    hdus = fits.HDUList([fits.PrimaryHDU(pixels, fits.Header({"GAIN": 2.5})), fits.ImageHDU(counts, name="MASK")])
    hdus.writeto(tmp_path / "a.fits")
    given = archived(tmp_path, "a.fits", (tmp_path / "a.fits").read_bytes(), "in/a.fits")
    made = output("out/b.fits", compress=True, filetype="c", metadata={"ccd": 5})
    events = run(tmp_path, shell(1, "cp in/a.fits out/b.fits", made, inputs=[given]))
    (compressed,) = [event["compressed"] for event in events if "compressed" in event]
    assert compressed["to"] == {"filename": "b.fits", "compression": ".fz"}
    files = [event["file"] for event in events if event.get("file", {}).get("filename") == "b.fits"]
    assert [(file["compression"], file["metadata"]) for file in files] == [("", {"ccd": 5}), (".fz", {"ccd": 5})]
    with fits.open(tmp_path / "archive" / "r11p95" / "b.fits.fz") as found:
        assert found[1].header["GAIN"] == 2.5
        np.testing.assert_array_equal(found[1].data, pixels)
        np.testing.assert_array_equal(found["MASK"].data, counts)
        assert found["MASK"].header["ZCMPTYPE" if "ZCMPTYPE" in found["MASK"].header else "XTENSION"]


def test_what_cannot_be_compressed_is_saved_as_it_is(tmp_path: Path) -> None:
    events = run(tmp_path, shell(1, "echo text > out/a.fits", output("out/a.fits", compress=True)))
    assert saved(tmp_path) == {"r11p95/a.fits": b"text\n"}
    assert states_of(events)[1] == "succeeded"
    assert "a.fits is saved uncompressed: it cannot be compressed" in texts_of(events)[0]


def test_what_nobody_declared_goes_into_the_junk_tarball(tmp_path: Path) -> None:
    given = archived(tmp_path, "i", b"i", "in/i")
    path = write_job(tmp_path, [shell(1, "mkdir d; echo j > d/core; echo > out/a", "out/a", inputs=[given])])
    run_job(path)
    (junk,) = path.parent.glob("*junk.tar.gz")
    with tarfile.open(junk) as tar:
        assert tar.getnames() == ["d/core"]
    (event,) = [event for event in events_of(path) if event.get("file", {}).get("filetype") == "junk_tar"]
    assert (event["step"], event["file"]["filesize"]) == (None, junk.stat().st_size)


def test_no_junk_no_tarball(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "echo > out/a", "out/a")])
    run_job(path)
    assert sorted(one.name for one in path.parent.iterdir()) == ["events.1.jsonl", "job.json"]


@pytest.mark.parametrize(
    ("purge", "script", "left"),
    [("success", "true", False), ("success", "exit 1", True), ("always", "exit 1", False), ("never", "true", True)],
)
def test_the_work_folder_goes_as_the_pipeline_says(tmp_path: Path, purge: str, script: str, left: bool) -> None:
    path = write_job(tmp_path, [shell(1, script)], options={"purge_job_dir": purge})
    run_job(path)
    assert (path.parent / "work.1").exists() == left


def test_the_next_try_has_its_own_record_and_may_replace_what_an_earlier_one_saved(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "date +%N > out/a; test -e ../../second || exit 1", "out/a")])
    path.write_text(path.read_text().replace('"exit 1"', '"exit 0"'), encoding="utf-8")
    job = json.loads(path.read_text())
    job["options"] = {"master_savefiles": "always"}
    path.write_text(json.dumps(job), encoding="utf-8")
    assert run_job(path).result.state == "failed"
    before = saved(tmp_path)["r11p95/a"]
    (tmp_path / "second").touch()
    done = run_job(path)
    assert (done.places.number, done.result.state) == (2, "succeeded")
    assert saved(tmp_path)["r11p95/a"] != before


def test_the_same_try_is_not_run_twice(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "true")])
    run_job(path, number=1)
    with pytest.raises(ConflictError, match="record of another try"):
        run_job(path, number=1)


def test_a_work_folder_with_something_in_it_is_not_used(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "true")])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ConflictError, match="not empty"):
        run_job(path, work=tmp_path / "mine")
    assert not list(path.parent.glob("events*"))


PLACE = {"archive": "home", "relpath": "a"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"schema": 2}, SchemaVersionError),
        ({"job": {}}, UsageError),
        ({"job": {"name": "a/b"}}, UnsafePathError),
        ({"run": {"attnum": "x"}}, UsageError),
        ({"run": {"unitname": ".."}}, UnsafePathError),
        ({"home": "nowhere"}, NotFoundError),
        ({"steps": {}}, UsageError),
        ({"steps": [{"argv": ["echo"]}]}, UsageError),
        ({"steps": [{"argv": [[{"head": {"file": "a"}}]]}]}, UsageError),
        ({"steps": [{"argv": [["echo"]], "execs": [{}, {}]}]}, UsageError),
        ({"steps": [{"wrapnum": 1}, {"wrapnum": 1}]}, UsageError),
        ({"steps": [{"outputs": [{"fullname": "../a"}]}]}, UnsafePathError),
        ({"steps": [{"inputs": [{"fullname": "/etc/passwd"}]}]}, UnsafePathError),
        ({"steps": [{"inputs": [{"fullname": "a", "rename": "b/c"}]}]}, UnsafePathError),
        ({"steps": [{"log": "a/../../b"}]}, UnsafePathError),
        ({"steps": [{"wrapnum": "1"}]}, UsageError),
        ({"messages": {"patterns": [{"pattern": "("}]}}, UsageError),
        ({"options": {"purge_job_dir": "sometimes"}}, UsageError),
        ({"limits": {"seconds": -1}}, UsageError),
        ({"repository": {"dir": ".."}}, UnsafePathError),
        ({"limits": {"seconds": 10**400}}, UsageError),
        ({"archives": {"home": "a\0b"}, "home": "home"}, UnsafePathError),
        ({"setup": "a\ud800"}, UnsafePathError),
        ({"steps": [{"outputs": [{"fullname": "a\ud800"}]}]}, UnsafePathError),
        ({"steps": [{"log": "x" * 300}]}, UnsafePathError),
        ({"steps": [{"lists": [{"name": "l", "fullname": "a/" * 2000 + "l"}]}]}, UnsafePathError),
        ({"steps": [{"inputs": [{"fullname": "a", "source": {**PLACE, "filesize": []}}]}]}, UsageError),
        ({"filetypes": {"a": {"columns": {"x": "no type"}}}}, UsageError),
    ],
)
def test_a_job_file_that_makes_no_sense_is_refused_before_anything_is_done(
    tmp_path: Path, change: dict[str, Any], error: type[DbbError]
) -> None:
    path = write_job(tmp_path, [])
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(error):
        run_job(path)
    assert [one.name for one in path.parent.iterdir()] == ["job.json"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_job_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"job file .*job\.json"):
        run_job(tmp_path / "job.json")


def test_an_absent_job_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="dbb submit"):
        run_job(tmp_path / "job.json")


def test_a_version_pattern_whose_search_may_never_end_is_a_warning(tmp_path: Path) -> None:
    one = shell(1, "true", execs=[{"execname": "echo", "version_flag": "a" * 60, "version_pattern": "(a+)+b"}])
    one["argv"] = [["echo"]]
    events = run(tmp_path, one)
    assert states_of(events)[1] == "succeeded"
    assert "version_pattern: '(a+)+b' repeats what can be parted in many ways" in texts_of(events)[0]
