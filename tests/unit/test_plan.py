"""From a pipeline to its workflow: quanta, names, jobs and what each waits for."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dbb.errors import CollidingOutputsError, MissingVariableError, PipelineError
from dbb.pipeline import Pipeline, Workflow, plan

PATTERNS = {
    "filename_pattern": {
        "ccd": "${flabel}-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits",
        "visit": "${flabel}-${visit:7}-r${reqnum}p${attnum:2}.fits",
    },
    "directory_pattern": {"plain": {"runtime": "${flabel}", "ops": "${ops_run_dir}/${flabel}"}},
}
RUN = {"reqnum": 11, "unitname": "Ht0", "attnum": 95, "ops_run_dir": "r${reqnum}/${unitname}/p${attnum:2}"}


def output(flabel: str, filepat: str = "ccd", **more: object) -> dict[str, object]:
    return {"filetype": flabel, "filepat": filepat, "flabel": flabel, "dirpat": "plain", **more}


def module(
    used: str = "", made: str = "", files: Mapping[str, object] | None = None, **more: object
) -> dict[str, object]:
    command = {"execname": "prog", "used": used, "was_generated_by": made}
    exec_1 = {key: value for key, value in command.items() if value}
    exec_1["cmdline"] = more.pop("cmdline", {})
    return {
        "wrapperloop": "visit, ccd",
        "modnamepat": "${modulename}_${visit}_${ccd}",
        "exec_1": exec_1,
        "file": files or {},
        **more,
    }


def settings(*modules: str, blocks: Mapping[str, object] | None = None, **more: object) -> dict[str, object]:
    blocks = blocks or {"all": {"modulelist": ",".join(modules)}}
    return {**RUN, **PATTERNS, "visit": "(1:2)", "ccd": "4,10", "blocklist": ",".join(blocks), "block": blocks, **more}


def made(**settings: object) -> Workflow:
    return plan(Pipeline.of(settings))


def calexps() -> dict[str, object]:
    return module(made="file.calexp", files={"calexp": output("calexp")})


def coadds(**more: object) -> dict[str, object]:
    """A module that reads all calexps of a visit."""
    listed = {"depends": "calib.file.calexp", "divide_by": "visit", "filepat": "visit", "flabel": "list"}
    return module(
        used="list.exps.calexp",
        made="file.coadd",
        files={"calexp": {"listonly": True, "dirpat": "plain", "flabel": "calexp"}, "coadd": output("coadd", "visit")},
        list={"exps": {**listed, "columns": "calexp.fullname, ccd"}},
        cmdline={"l": "${list.exps.fullname}", "o": "${file.coadd.fullname}"},
        **{"wrapperloop": "visit", "loopobj": "list.exps", "modnamepat": "${modulename}_${visit}", **more},
    )


def test_a_module_runs_once_for_each_combination_of_its_loop_values() -> None:
    workflow = made(**settings("calib", module={"calib": calexps()}))
    assert [dict(one.loop) for one in workflow.instances] == [
        {"visit": visit, "ccd": ccd} for visit in ("1", "2") for ccd in ("10", "4")
    ]
    assert [one.outputs[0].filename for one in workflow.instances][:2] == [
        "calexp-0000001-010-r11p95.fits",
        "calexp-0000001-004-r11p95.fits",
    ]
    assert workflow.instances[0].outputs[0].relpath == "r11/Ht0/p95/calexp/calexp-0000001-010-r11p95.fits"
    assert workflow.run == {"reqnum": 11, "unitname": "Ht0", "attnum": 95}


def test_quanta_are_counted_over_all_modules_and_blocks() -> None:
    blocks = {"first": {"modulelist": "calib"}, "second": {"modulelist": "again"}}
    again = module(made="file.other", files={"other": output("other")})
    workflow = made(**settings(blocks=blocks, module={"calib": calexps(), "again": again}))
    assert [one.wrapnum for one in workflow.instances] == list(range(1, 9))


def test_an_earlier_output_is_the_input_of_a_later_module_with_its_data_id() -> None:
    workflow = made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": coadds()}))
    first = workflow.instances[4]
    assert [one.filename for one in first.inputs] == [
        "calexp-0000001-010-r11p95.fits",
        "calexp-0000001-004-r11p95.fits",
    ]
    assert first.lists[0].text == (
        "calexp/calexp-0000001-010-r11p95.fits 10\ncalexp/calexp-0000001-004-r11p95.fits 4\n"
    )
    assert first.argv == [["prog", "-l", first.lists[0].fullname, "-o", "coadd/coadd-0000001-r11p95.fits"]]


def test_jobs_wait_for_the_jobs_that_make_their_inputs() -> None:
    blocks = {"all": {"modulelist": "calib,coadd", "divide_jobs_by": "visit,ccd"}}
    workflow = made(**settings(blocks=blocks, module={"calib": calexps(), "coadd": coadds(ccd="all")}))
    last = workflow.jobs[-1]
    assert [workflow.instance(wrapnum).module for wrapnum in last.wrapnums] == ["coadd"]
    wanted = {one.filename for one in workflow.instance(last.wrapnums[0]).inputs}
    makers = [
        job.name
        for job in workflow.jobs
        if {out.filename for one in workflow.instances_of(job) for out in one.outputs} & wanted
    ]
    assert sorted(last.after) == sorted(makers)
    assert len(makers) == 2


def test_a_block_waits_for_all_jobs_of_the_one_before() -> None:
    blocks = {"first": {"modulelist": "calib", "divide_jobs_by": "visit"}, "second": {"modulelist": "again"}}
    again = module(made="file.other", files={"other": output("other")})
    workflow = made(**settings(blocks=blocks, module={"calib": calexps(), "again": again}))
    assert [list(job.after) for job in workflow.jobs] == [[], [], [job.name for job in workflow.jobs[:2]]]


def test_jobs_have_names_that_are_unique_and_safe_and_keys_that_tell_them_apart() -> None:
    blocks = {"all": {"modulelist": "calib", "divide_jobs_by": "visit"}}
    workflow = made(**settings(blocks=blocks, module={"calib": calexps()}))
    assert [job.name for job in workflow.jobs] == ["Ht0_r11p95_all_j0001", "Ht0_r11p95_all_j0002"]
    assert [job.keys for job in workflow.jobs] == [{"visit": "1"}, {"visit": "2"}]


def test_a_job_asks_for_the_most_that_one_of_its_modules_asks_for() -> None:
    modules = {"calib": {**calexps(), "request_memory": 4096}, "coadd": {**coadds(), "request_memory": "900"}}
    workflow = made(**settings("calib", "coadd", module=modules, request_cpus=2))
    assert workflow.jobs[0].resources == {"request_memory": "4096", "request_cpus": "2"}


def test_quanta_of_a_module_may_run_at_once_where_the_pipeline_says_so() -> None:
    modules = {"calib": {**calexps(), "max_fwthreads": 3}}
    assert made(**settings("calib", module=modules, master_use_fwthreads=True)).jobs[0].parallel == {"calib": 3}
    assert made(**settings("calib", module=modules)).jobs[0].parallel == {}


def test_a_list_of_a_program_is_taken_value_by_value_and_never_split() -> None:
    one = module(made="file.w", files={"w": {"filename": "w-${patch}.fits", "dirpat": "plain", "flabel": "w"}})
    one |= {"wrapperloop": "patch", "modnamepat": "${modulename}_${patch}"}
    workflow = made(**settings("warp", module={"warp": one}, patch=["8,6", "8,7"]))
    assert [one.outputs[0].filename for one in workflow.instances] == ["w-8,6.fits", "w-8,7.fits"]


def test_loop_names_pair_by_name_whatever_the_order_of_divide_by() -> None:
    one = coadds(wrapperloop="ccd, visit", modnamepat="${modulename}_${visit}_${ccd}")
    one["list"]["exps"]["divide_by"] = "visit, ccd"
    one["file"]["coadd"]["filepat"] = "ccd"
    workflow = made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": one}))
    for instance in workflow.instances[4:]:
        assert (
            instance.inputs[0].filename
            == f"calexp-000000{instance.loop['visit']}-{instance.loop['ccd']:0>3}-r11p95.fits"
        )


def test_loop_names_that_no_section_is_divided_by_are_named() -> None:
    one = coadds(wrapperloop="visit, filter")
    with pytest.raises(PipelineError, match=r"wrapperloop names visit, filter.*divided by visit.*filter differ"):
        made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": one}))


def test_two_quanta_with_one_output_name_are_an_error_that_names_both_and_the_key_to_add() -> None:
    one = module(made="file.calexp", files={"calexp": output("calexp", "visit")})
    with pytest.raises(CollidingOutputsError) as caught:
        made(**settings("calib", module={"calib": one}))
    assert "calib #1 (visit=1 ccd=10)" in str(caught.value)
    assert "calib #2 (visit=1 ccd=4)" in str(caught.value)
    assert "They differ in ccd" in str(caught.value)
    assert "add ${ccd} to it" in str(caught.value)


def test_two_quanta_with_one_log_are_an_error() -> None:
    one = module(modnamepat="${modulename}_${visit}")
    with pytest.raises(CollidingOutputsError, match="would write one log"):
        made(**settings("calib", module={"calib": one}))


def test_equal_names_in_different_folders_of_the_archive_are_no_collision_unless_one_job_has_both() -> None:
    file = {"filename": "cal.fits", "dirpat": "by_visit", "filetype": "cal"}
    patterns = {"by_visit": {"runtime": "cal", "ops": "cal/${visit}/${ccd}"}}
    one = module(made="file.cal", files={"cal": file})
    blocks = {"all": {"modulelist": "calib", "divide_jobs_by": "visit,ccd"}}
    assert (
        len(
            made(
                **settings(blocks=blocks, module={"calib": one})
                | {"directory_pattern": {**PATTERNS["directory_pattern"], **patterns}}
            ).jobs
        )
        == 4
    )
    with pytest.raises(CollidingOutputsError, match="in job"):
        made(
            **settings("calib", module={"calib": one})
            | {"directory_pattern": {**PATTERNS["directory_pattern"], **patterns}}
        )


def test_a_file_that_is_wanted_before_it_is_made_is_an_error() -> None:
    early = module(used="file.calexp", files={"calexp": output("calexp")})
    with pytest.raises(PipelineError, match=r"early #1 .* wants calexp-.* before #5 makes it"):
        made(**settings("early", "calib", module={"early": early, "calib": calexps()}))


def test_jobs_that_wait_for_each_other_are_an_error() -> None:
    back = module(
        used="file.coadd", made="file.back", files={"coadd": output("coadd", "visit"), "back": output("back")}
    )
    blocks = {"all": {"modulelist": "calib,coadd,back", "divide_jobs_by": "part"}}
    modules = {"calib": {**calexps(), "part": "a"}, "coadd": coadds(part="b"), "back": {**back, "part": "a"}}
    with pytest.raises(PipelineError, match="jobs wait for each other"):
        made(**settings(blocks=blocks, module=modules))


def test_a_missing_variable_names_module_section_key_and_chain() -> None:
    one = module(made="file.calexp", files={"calexp": output("${label}")})
    with pytest.raises(
        MissingVariableError, match=r"module calib, file calexp.*\$\{flabel\} → \$\{label\} has no value"
    ):
        made(**settings("calib", module={"calib": one}))


def test_a_variable_may_name_another_by_a_loop_value() -> None:
    files = {"calexp": output("${label_${visit}}", "visit", filetype="calexp")}
    one = module(made="file.calexp", files=files, wrapperloop="visit")
    one["modnamepat"] = "${modulename}_${visit}"
    workflow = made(**settings("calib", module={"calib": one}, label_1="one", label_2="two"))
    assert [one.outputs[0].filename for one in workflow.instances] == [
        "one-0000001-r11p95.fits",
        "two-0000002-r11p95.fits",
    ]


def test_a_header_value_stays_a_placeholder_until_the_step_runs() -> None:
    one = module(files={"calexp": output("calexp")}, cmdline={"gain": "$HEAD{${file.calexp.fullname},GAIN}"})
    words = made(**settings("calib", module={"calib": one})).instances[0].argv[0]
    assert words[:2] == ["prog", "-gain"]
    assert words[2] == {"head": {"file": "calexp/calexp-0000001-010-r11p95.fits", "keys": ["GAIN"]}}


def test_new_names_follow_from_the_lines_of_another_section() -> None:
    renamed = {**output("warp"), "depends-newname": "calib.file.calexp", "match": "visit, ccd"}
    warp = module(made="file.warp", files={"warp": renamed})
    workflow = made(**settings("calib", "warp", module={"calib": calexps(), "warp": warp}))
    assert [one.outputs[0].filename for one in workflow.instances[4:]] == [
        f"warp-000000{visit}-{ccd:03}-r11p95.fits" for visit in (1, 2) for ccd in (10, 4)
    ]


def test_a_query_module_runs_nothing_and_serves_others(tmp_path: Path) -> None:
    program = tmp_path / "ask.py"
    program.write_text(
        "import json, sys\n"
        "rows = [{'img': {'filename': f'raw{ccd}.fits', 'visit': '1', 'ccd': ccd}} for ccd in ('3', '7')]\n"
        "lines = {f'line{n}': {'file': row} for n, row in enumerate(rows)}\n"
        "json.dump({'list': {'line': lines}}, open(sys.argv[1], 'w'))\n"
    )
    query = {"noop": True, "list": {"raws": {"exec": "ask.py", "args": "${qoutfile}", "qouttype": "json"}}}
    files = {"raw": {"depends": "ask.list.raws.img", "match": "visit, ccd", "dirpat": "plain", "flabel": "raw"}}
    one = module(used="file.raw", files=files, loopobj="file.raw")
    workflow = plan(Pipeline.of(settings("ask", "calib", module={"ask": query, "calib": one}), folder=tmp_path))
    assert [one.inputs[0].fullname for one in workflow.instances] == ["raw/raw3.fits", "raw/raw7.fits"]


def test_an_input_is_renamed_as_the_section_says() -> None:
    one = module(used="file.calexp", files={"calexp": output("calexp", rename_file="calexp.fits")})
    assert made(**settings("calib", module={"calib": one})).instances[0].inputs[0].rename == "calexp.fits"


def test_an_output_keeps_what_its_name_and_its_quantum_say_of_it() -> None:
    metadata = made(**settings("calib", module={"calib": calexps()})).instances[0].outputs[0].metadata
    assert metadata == {"visit": "1", "ccd": "10"}


@pytest.mark.parametrize("name", ["../up", "/tmp/x", "a*b"])
def test_a_name_that_leaves_the_job_is_refused(name: str) -> None:
    one = module(made="file.x", files={"x": {"fullname": name, "dirpat": "plain", "flabel": "x"}}, wrapperloop="")
    one["modnamepat"] = "${modulename}"
    with pytest.raises(PipelineError, match="is refused"):
        made(**settings("calib", module={"calib": one}))


def test_the_same_pipeline_gives_the_same_bytes() -> None:
    texts = {
        "".join(made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": coadds()})).as_json())
        for _ in range(3)
    }
    assert len(texts) == 1


def test_a_workflow_as_json_has_what_its_dictionary_has() -> None:
    workflow = made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": coadds()}))
    whole: dict[str, Any] = json.loads("".join(workflow.as_json()))
    assert whole == json.loads(json.dumps(workflow.as_dict()))
    assert set(whole) == {"schema", "run", "instances", "jobs", "modules"}


def test_a_workflow_is_the_same_after_a_stay_in_json() -> None:
    coads = coadds(wrapper={"mapper": "hsc", "job_repo_dir": "repo", "untar_files": "list.calexps.calexp"})
    workflow = made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": coads}))
    again = Workflow.from_dict(json.loads("".join(workflow.as_json())))
    assert again == workflow
    assert again.as_dict() == workflow.as_dict()


def test_a_workflow_of_another_schema_is_refused() -> None:
    content = made(**settings("calib", module={"calib": calexps()})).as_dict()
    with pytest.raises(ValueError, match="its schema is 99"):
        Workflow.from_dict({**content, "schema": 99})


def test_large_blocks_are_kept_apart_by_one_empty_job_instead_of_a_dependency_for_each_pair() -> None:
    blocks = {name: {"modulelist": name, "divide_jobs_by": "visit"} for name in ("one", "two")}
    modules = {name: {**module(wrapperloop="visit"), "modnamepat": "${modulename}_${visit}"} for name in blocks}
    workflow = made(**settings(blocks=blocks, module=modules) | {"visit": "(1:150)"})
    assert len(workflow.jobs) == 301
    barrier = workflow.jobs[150]
    assert list(barrier.wrapnums) == []
    assert len(barrier.after) == 150
    assert {tuple(job.after) for job in workflow.jobs[151:]} == {(barrier.name,)}


@pytest.mark.parametrize("key", ["reqnum", "unitname", "blocklist"])
def test_what_every_run_needs_is_asked_for(key: str) -> None:
    given = settings("calib", module={"calib": calexps()})
    del given[key]
    with pytest.raises(PipelineError, match=key):
        made(**given)


def test_quanta_that_run_at_once_cannot_have_different_lists_of_one_name() -> None:
    one = coadds(wrapperloop="ccd, visit", modnamepat="${modulename}_${visit}_${ccd}")
    one["list"]["exps"]["divide_by"] = "visit, ccd"
    one["file"]["coadd"]["filepat"] = "ccd"
    together = {**one, "master_use_fwthreads": True, "max_fwthreads": 2}
    assert made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": one}))
    with pytest.raises(
        CollidingOutputsError, match=r"(?s)two quanta would write one list exps, list/coadd/.*add \$\{ccd\}"
    ):
        made(**settings("calib", "coadd", module={"calib": calexps(), "coadd": together}))


def test_an_input_that_a_list_brings_too_is_still_an_input_by_itself() -> None:
    one = module(
        used="file.raw, list.raws.raw",
        files={"raw": {"filename": "raw-${visit}.fits", "dirpat": "plain", "flabel": "raw"}},
        list={"raws": {"filepat": "visit", "flabel": "raws", "columns": "raw.fullname"}},
        cmdline={"i": "${file.raw.fullname}"},
    )
    instance = made(**settings("m", module={"m": one})).instances[0]
    assert [one.fullname for one in instance.inputs] == ["raw/raw-1.fits"] * 2
    assert instance.argv == [["prog", "-i", "raw/raw-1.fits"]]


def test_a_log_whose_name_is_a_list_is_an_error() -> None:
    with pytest.raises(PipelineError, match="modnamepat gives 2 names for one log"):
        made(**settings("m", module={"m": module(wrapperloop="ccd", modnamepat="${visit}")}))


def test_a_list_in_the_name_of_a_list_file_stays_the_text_that_it_is() -> None:
    one = coadds()
    one["list"]["exps"]["flabel"] = "of_${band}"
    workflow = made(**settings("calib", "coadd", band="g,r", module={"calib": calexps(), "coadd": one}))
    assert workflow.instances[4].lists[0].fullname == "list/coadd/of_g,r-0000001-r11p95.fits"


def test_a_pattern_may_be_chosen_by_a_loop_value() -> None:
    one = module(made="file.out", files={"out": output("out", "${kind}")}, wrapperloop="kind, visit, ccd")
    one["modnamepat"] = "${modulename}_${kind}_${visit}_${ccd}"
    workflow = made(**settings("m", kind="ccd", module={"m": one}))
    assert workflow.instances[0].outputs[0].filename == "out-0000001-010-r11p95.fits"


def test_a_name_that_depends_on_the_number_of_the_quantum_is_refused() -> None:
    one = module(made="file.out", files={"out": output("out", "p${wrapnum}")})
    with pytest.raises(PipelineError, match=r"\$\{wrapnum\} differs from quantum to quantum"):
        made(**settings("m", module={"m": one}))


def test_an_error_of_a_command_line_names_its_module() -> None:
    with pytest.raises(MissingVariableError, match=r"module m, exec_1, cmdline, x: \$\{nope\} has no value"):
        made(**settings("m", module={"m": module(cmdline={"x": "${nope}"})}))


def test_loops_and_names_beyond_reason_are_refused() -> None:
    many = "1:20000"
    with pytest.raises(PipelineError, match="20000 x 20000 values"):
        made(**settings("m", module={"m": module(visit=many, ccd=many)}))
    one = module(used="file.raw", files={"raw": {"filename": "${n}", "dirpat": "plain", "flabel": "raw"}}, visit=many)
    with pytest.raises(PipelineError, match="files with names from patterns"):
        made(**settings("m", n=many, module={"m": one}))


def test_variables_that_lead_to_each_other_in_many_ways_come_to_an_end() -> None:
    names = {f"a{n}": f"${{a{n - 1}}}${{b{n - 1}}}" for n in range(1, 60)}
    names |= {f"b{n}": f"${{b{n - 1}}}${{a{n - 1}}}${{v${{b{n - 1}}}}}" for n in range(1, 60)}
    ends = {"a0": "", "b0": "", "v": "", "x": "${a59}"}
    workflow = made(**settings("m", **names, **ends, module={"m": module(cmdline={"x": "'${x}'"})}))
    assert workflow.instances[0].argv == [["prog", "-x", ""]]


def test_a_variable_has_one_value_in_a_name_however_it_gets_there() -> None:
    files = {"raw": {"filename": "${band}-${both}", "dirpat": "plain", "flabel": "raw"}}
    one = module(used="file.raw", files=files, band="g,r", both="x${band}")
    assert [one.filename for one in made(**settings("m", module={"m": one})).instances[0].inputs] == ["g-xg", "r-xr"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_it_was_after_a_plan_and_after_a_failure(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        made(**settings("m", module={"m": module()}))
        assert gc.isenabled() is enabled
        with pytest.raises(PipelineError):
            made(**settings("m", module={"m": module(cmdline={"x": "${nope}"})}))
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/./../x", "a[0].fits", "a/*/x", "x\\y", ".."])
def test_a_path_that_leaves_the_job_is_refused_beside_good_ones(name: str) -> None:
    files = {"good": output("good"), "bad": {"fullname": name, "filetype": "bad"}}
    with pytest.raises(PipelineError, match="is refused"):
        made(**settings("m", module={"m": module(made="file.good, file.bad", files=files)}))
