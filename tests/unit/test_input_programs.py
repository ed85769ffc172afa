"""Query programs of the operator: how they are found, called and read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sections import section, unknown

from dbb import Registry
from dbb.errors import PipelineError
from dbb.pipeline.inputs import query_lines
from dbb.pipeline.inputs.output import read_output
from dbb.pipeline.section import Line, Section

ONE = {"list": {"line": {"line00001": {"file": {"img": {"filename": "a.fits", "Band": "r", "ccd": 7, "x": None}}}}}}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that notes its arguments and writes what stands in ``answer``."""
    return script(
        tmp_path / "q.py",
        """
        import json, os, pathlib, sys
        here = pathlib.Path(__file__).parent
        (here / "called.json").write_text(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd()}))
        pathlib.Path(sys.argv[sys.argv.index("--out") + 1]).write_text((here / "answer").read_text())
        """,
    )


def script(path: Path, body: str, *, executable: bool = True) -> Path:
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}")
    path.chmod(0o755 if executable else 0o644)
    return path


def lines_of(one: Section, scratch: Path) -> Sequence[Line] | None:
    return query_lines(one, None, scratch, unknown)


def answer(folder: Path, content: object) -> None:
    (folder / "answer").write_text(content if isinstance(content, str) else json.dumps(content))


def called(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "called.json").read_text())
    return found


def failure(one: Section, scratch: Path) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        lines_of(one, scratch)
    return caught.value


def test_a_section_without_a_source_has_no_lines_of_its_own(tmp_path: Path) -> None:
    assert lines_of(section(filepat="u", depends="m.file.x"), tmp_path) is None


def test_two_sources_in_one_section_are_refused(tmp_path: Path) -> None:
    error = failure(section(exec="q.py", where="visit = 1", id="visit=1"), tmp_path)
    assert "exec and where and id each say where the files come from" in str(error)


def test_a_tree_of_lines_gives_texts_with_keys_in_lower_case(program: Path, tmp_path: Path) -> None:
    answer(tmp_path, ONE)
    one = section(exec="q.py", args="--out ${qoutfile}", qouttype="json", folder=tmp_path)
    assert lines_of(one, tmp_path / "scratch") == [
        {"img": {"filename": "a.fits", "band": "r", "ccd": "7", "compression": ""}}
    ]


def test_the_program_runs_in_the_scratch_folder_and_writes_a_bare_name(program: Path, tmp_path: Path) -> None:
    answer(tmp_path, ONE)
    arguments = "--out ${qoutfile} ${outputfile} ${outputxml} ${module}"
    lines_of(section(exec="q.py", args=arguments, qouttype="json", folder=tmp_path), tmp_path / "scratch")
    name = "imgs_warp.json"
    assert called(tmp_path) == {"argv": ["--out", name, name, name, "warp"], "cwd": str(tmp_path / "scratch")}


def test_arguments_see_section_module_block_and_top(program: Path, tmp_path: Path) -> None:
    answer(tmp_path, ONE)
    one = section(
        exec="q.py", args="--out ${qoutfile} ${s} ${m} ${b} ${t} $opt{nobody}", qouttype="json", s="1", folder=tmp_path,
        module={"m": "2", "s": "no"}, block={"b": "3", "m": "no"}, top={"t": "4", "b": "no"},
    )  # fmt: skip
    lines_of(one, tmp_path / "scratch")
    assert called(tmp_path)["argv"] == ["--out", "imgs_warp.json", "1", "2", "3", "4", ""]


def test_a_value_with_blanks_and_quotes_stays_one_argument(program: Path, tmp_path: Path) -> None:
    answer(tmp_path, ONE)
    one = section(
        exec="q.py",
        args="--out ${qoutfile} ${x} 'two ${x}' $HOME;",
        qouttype="json",
        x="it's a; $(rm)",
        folder=tmp_path,
    )
    lines_of(one, tmp_path / "scratch")
    assert called(tmp_path)["argv"] == ["--out", "imgs_warp.json", "it's a; $(rm)", "two it's a; $(rm)", "$HOME;"]


def test_json_lines_are_files_by_nickname_or_one_flat_file(program: Path, tmp_path: Path) -> None:
    answer(tmp_path, '{"a": {"filename": "1"}, "b": {"filename": "2"}}\n\n{"filename": "3", "visit": 5}\n')
    one = section(
        exec="q.py",
        args="--out ${qoutfile}",
        qouttype="jsonl",
        columns="img.fullname, $FMT{%05d,img.visit}",
        folder=tmp_path,
    )
    assert lines_of(one, tmp_path) == [
        {"a": {"filename": "1", "compression": ""}, "b": {"filename": "2", "compression": ""}},
        {"img": {"filename": "3", "visit": "5", "compression": ""}},
    ]


def test_a_numbered_file_gets_the_name_that_the_section_means(program: Path, tmp_path: Path) -> None:
    answer(tmp_path, {"list": {"line": {"l1": {"file": {"file00001": {"filename": "a", "compression": "None"}}}}}})
    one = section("file", exec="q.py", args="--out ${qoutfile}", qouttype="json", folder=tmp_path)
    assert lines_of(one, tmp_path) == [{"imgs": {"filename": "a", "compression": ""}}]


def test_a_python_program_needs_no_exec_bit(tmp_path: Path) -> None:
    script(tmp_path / "q.py", f"open('imgs_warp.json', 'w').write('''{json.dumps(ONE)}''')", executable=False)
    assert lines_of(section(exec="q.py", qouttype="json", folder=tmp_path), tmp_path / "s")


def test_a_program_is_found_on_path(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(tmp_path, ONE)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    one = section(exec="q.py", args="--out ${qoutfile}", qouttype="json", folder=tmp_path / "elsewhere")
    assert lines_of(one, tmp_path / "s")


@pytest.mark.parametrize("relative", [True, False])
def test_a_program_is_told_the_registry_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBB_REGISTRY", raising=False)
    body = "import os, sys\nopen(sys.argv[1], 'w').write('{\"filename\": \"%s\"}' % os.environ['DBB_REGISTRY'][10:])"
    script(tmp_path / "q.py", body)
    one = section(exec="q.py", args="${qoutfile}", qouttype="jsonl", folder=tmp_path)
    url = "sqlite:///survey.db" if relative else f"sqlite:///{tmp_path}/survey.db"
    with Registry.create(url) as registry:
        lines = query_lines(one, registry, tmp_path / "scratch", unknown)
    assert lines is not None
    assert lines[0]["imgs"]["filename"] == f"{tmp_path}/survey.db"


def test_a_missing_program_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    error = failure(section(exec="nobody.py", folder=tmp_path), tmp_path)
    assert str(error) == f"module warp, list imgs: there is no program nobody.py in {tmp_path}, nor on PATH"
    assert error.exit_code == 5


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import sys; print('line\\nlast word', file=sys.stderr); sys.exit(3)", "exit code 3\n    line\n    last word"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9"),
        ("print('all is well')", "did not write imgs_warp.json\n    all is well"),
        ("open('imgs_warp.json', 'w').write('{')", "imgs_warp.json: Expecting property name"),
        ("open('imgs_warp.json', 'w').write('[' * 100000)", "imgs_warp.json: maximum recursion"),
        ("open('imgs_warp.json', 'wb').write(bytes([255]))", "imgs_warp.json: 'utf-8' codec"),
    ],
)
def test_what_a_program_does_wrong_is_said(tmp_path: Path, body: str, says: str) -> None:
    script(tmp_path / "q.py", body)
    error = failure(section(exec="q.py", qouttype="json", folder=tmp_path), tmp_path / "s")
    assert says in str(error)
    assert str(error).startswith("module warp, list imgs: ")


def tree(line: object) -> object:
    return {"list": {"line": {"l1": line}}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "no lines: "),
        ({"list": {"line": {}}}, "no lines: "),
        ([1], "expected <list> with <line>"),
        (tree(1), "l1: expected a section <file>"),
        (tree({"file": {"a": 1}}), "l1: a is no section"),
        (tree({"file": {}}), "l1: expected files by nickname"),
        (tree({"file": {"a": {}}}), "l1: a has no filename"),
        (tree({"file": {"a": {"b": []}}}), "l1: a, b: expected a text or a number, not []"),
    ],
)
def test_what_is_wrong_in_the_output_is_said(program: Path, tmp_path: Path, content: object, says: str) -> None:
    answer(tmp_path, content)
    error = failure(section(exec="q.py", args="--out ${qoutfile}", qouttype="json", folder=tmp_path), tmp_path / "s")
    assert says in str(error)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"exec": ""}, "exec is empty"),
        ({"exec": "q.py", "qouttype": "xml"}, "qouttype = xml: expected one of wcl, json, jsonl"),
        ({"exec": "q.py", "args": "'open"}, "No closing quotation"),
        ({"exec": "q.py", "args": "${nobody}"}, "${nobody} has no value"),
        ({"exec": "q.py", "args": "a\0b"}, "cannot be run: embedded null byte"),
        ({"exec": "q.py", "qouttype": "json"}, "cannot be run: "),
        ({"exec": "plain"}, "may not be executed: chmod +x it"),
    ],
)
def test_what_cannot_be_called_is_said(program: Path, tmp_path: Path, keys: dict[str, str], says: str) -> None:
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "s/imgs_warp.json").mkdir(parents=True)  # a folder where the output should be
    assert says in str(failure(section(folder=tmp_path, **keys), tmp_path / "s"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("filename"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["list", "line", "file", "filename", "a", "Compression"]), inner, max_size=3)
    ),
    max_leaves=20,
)


def outcome(kind: str, path: Path) -> str:
    """Say how reading went: an error's text, or nothing."""
    try:
        lines = read_output(section(), path, kind)
    except PipelineError as error:
        return str(error)
    files = [file for line in lines for file in line.values()]
    return "" if all(file["filename"] and isinstance(file["compression"], str) for file in files) else repr(files)


@given(content=JSON, kind=st.sampled_from(["json", "jsonl"]))
def test_any_output_is_lines_or_an_error(content: object, kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{kind}"
    path.write_text(json.dumps(content))
    said = outcome(kind, path)
    assert not said or said.startswith("module warp, list imgs: ")


@given(damage=st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4))
def test_damaged_wcl_is_lines_or_an_error(
    damage: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = ("list", "line", "line1", "file", "a")
    opened, closed = (
        ("".join(f"<{slash}{name}>\n" for name in order)) for slash, order in (("", names), ("/", names[::-1]))
    )
    data = f"{opened}filename = x\nccd = 7\n{closed}".encode()
    for at, new in damage:
        data = data[:at] + new + data[at + len(new) :]
    path = tmp_path_factory.getbasetemp() / "any.wcl"
    path.write_bytes(data)
    said = outcome("wcl", path)
    assert not said or said.startswith("module warp, list imgs: ")


def test_output_of_an_earlier_run_is_not_taken_for_new(tmp_path: Path) -> None:
    script(tmp_path / "q.py", "pass")
    (tmp_path / "imgs_warp.json").write_text(json.dumps(ONE))
    assert "did not write" in str(failure(section(exec="q.py", qouttype="json", folder=tmp_path), tmp_path))


def test_ctrl_c_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    script(
        tmp_path / "q.py",
        f"""
        import pathlib, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
        time.sleep(60)
        """,
    )
    caller = (
        "from pathlib import Path; from sections import section, unknown; from dbb.pipeline.inputs import query_lines\n"
        f"query_lines(section(exec='q.py', folder={str(tmp_path)!r}), None, Path({str(tmp_path / 's')!r}), unknown)"
    )
    support = str(Path(__file__).parents[1] / "support")
    with subprocess.Popen([sys.executable, "-c", caller], env={**os.environ, "PYTHONPATH": support}) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    child = int((tmp_path / "pid").read_text())
    for _ in range(500):
        if not _runs(child):
            return
        time.sleep(0.02)
    pytest.fail(f"process {child} still runs")


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
