"""Errors are one message on stderr and an exit code, never a traceback unless asked for."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from demo_survey import Demo, make_demo

from dbb_cli.main import run

DBB = Path(sys.executable).parent / "dbb"
PLUGIN = '''
from dbb.hookspecs import hookimpl
import click

@click.command("hello")
def hello():
    """Greet.

    \\b
    Example:
      dbb hello
    """
    click.echo("hello from a plug-in")

@click.command("tag")
def tag():
    """Take the place of one of dbb's own."""

@hookimpl
def dbb_commands():
    return [{commands}]
'''


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DBB_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert run(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def dbb(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run([DBB, *arguments], capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["query-files"], "Missing argument 'FILETYPE'"),
        (2, ["query-filez"], "No such command 'query-filez'"),
        (2, ["query-files", "raw", "--bogus"], "No such option"),
        (2, ["query-files", "raw", "--format", "xml"], "'xml' is not one of"),
        (2, ["query-files", "raw", "--limit", "-1"], "--limit"),
        (2, ["query-files", "raw", "--where", "visit = "], "visit = "),
        (5, ["query-files", "rawr"], "unknown filetype 'rawr'; known: "),
        (5, ["query-files", "calex"], "unknown filetype 'calex'; known: calexp"),
        (5, ["query-files", "raw", "--columns", "vist"], "unknown column 'vist'; known: visit"),
        (5, ["query-files", "raw", "--order-by", "vist"], "unknown column 'vist'; known: visit"),
        (5, ["query-files", "raw", "--runs", "Ht0_r1p1"], "unknown run 'Ht0_r1p1'; known: "),
        (
            5,
            ["query-files", "raw", "--overlaps", "x", "--where", "tract = 0"],
            "unknown overlap version 'x'; known: ci_hsc",
        ),
        (2, ["tag", "a b", "Ht0_r11p95"], "'a b' is no tag"),
        (5, ["tag", "new", "Ht0_r99p99"], "unknown run 'Ht0_r99p99'; known: "),
        (2, ["tag", "new", "r11p95"], "names no unit"),
        (4, ["archive", "add", "home", "/somewhere/else"], "home"),
        (2, ["certify-calibrations", "--version", "x"], "give either TABLE or --from-registry"),
        (2, ["certify-calibrations", "t.csv", "--version", "x"], "--filetype says what the files of TABLE are"),
        (2, ["certify-calibrations", "--version", "x", "--from-registry", "r"], "--archive says where"),
        (5, ["ingest-table", "none.csv", "--archive", "home"], "none.csv"),
        (
            2,
            ["ingest-files", "x", "--filetype", "raw", "--archive", "home", "--set", "visit"],
            "--set takes COLUMN=VALUE",
        ),
        (2, ["migrate", "extra"], "unexpected extra argument"),
    ],
)
def test_what_is_wrong_is_said_with_an_exit_code(
    demo: Demo, capsys: pytest.CaptureFixture[str], code: int, arguments: list[str], words: str
) -> None:
    assert words in refused(capsys, code, "--registry", demo.url, *arguments)


@pytest.mark.parametrize(
    "command", [["query-files", "raw"], ["archive", "list"], ["tag", "x", "Ht0_r1p1"], ["migrate"]]
)
def test_a_registry_of_a_newer_schema_is_refused_by_every_command(
    demo: Demo, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    url = demo.copy(tmp_path)
    with closing(sqlite3.connect(tmp_path / "registry.db")) as database, database:
        database.execute("UPDATE dbb_schema SET version = version + 1")
    assert "schema" in refused(capsys, 6, "--registry", url, *command)


def test_no_registry_tells_the_three_ways_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, 2, "archive", "list")
    assert all(words in err for words in ("--registry URL", "$DBB_REGISTRY", "dbb.toml"))


@pytest.mark.parametrize("text", ["registry = 5", "nothing", 'registry = "sqlite:///x"\nother = 1', "= ="])
def test_a_broken_settings_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    (tmp_path / "dbb.toml").write_text(text, encoding="utf-8")
    assert str(tmp_path / "dbb.toml") in refused(capsys, 2, "archive", "list")


def test_debug_shows_where_an_error_arose(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--debug", "--registry", demo.url, "query-files", "rawr"]) == 5
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("dbb: error: unknown filetype 'rawr'")


def test_an_unforeseen_error_is_one_line_that_says_how_to_see_more(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    err = refused(capsys, 1, "create", f"sqlite:///{tmp_path}/file/r.db")
    assert len(err.splitlines()) == 1
    assert err.startswith("dbb: error: ")


def test_a_real_process_ends_with_the_exit_code(demo: Demo) -> None:
    done = dbb("--registry", demo.url, "query-files", "rawr")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("dbb: error: unknown filetype 'rawr'")


@pytest.mark.parametrize("form", ["table", "json", "csv", "ecsv", "parquet"])
def test_a_reader_that_has_seen_enough_is_no_error(demo: Demo, form: str) -> None:
    with subprocess.Popen(
        [DBB, "query-files", "raw", "--format", form, "--registry", demo.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait() == 0
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


@pytest.mark.parametrize("form", ["table", "json", "csv", "ecsv", "parquet"])
def test_a_stdout_that_was_closed_before_is_no_error(demo: Demo, form: str) -> None:
    command = [DBB, "query-files", "raw", "--format", form, "--registry", demo.url]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(closed, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Error" not in done.stderr


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    code = "import os, signal, sys\nfrom dbb_cli import main, commands\n"
    code += "commands.load = lambda name: os.kill(os.getpid(), signal.SIGINT)\nsys.exit(main.run(['archive', 'list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "dbb: interrupted")
    assert signal.SIGINT + 128 == 130


# Plug-ins


def install(folder: Path, name: str, source: str) -> None:
    """Put a distribution with one plug-in where Python finds it."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[dbb]\n{name} = {name}\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def plugins(site: Path, **environment: str) -> dict[str, dict[str, str]]:
    done = dbb("plugins", "--format", "json", PYTHONPATH=str(site), **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_a_broken_plugin_is_reported_and_stops_no_other(site: Path) -> None:
    install(site, "zbroken", "import does_not_exist")
    install(site, "zworse", "raise SystemError('no luck')")
    install(site, "zgood", PLUGIN.format(commands="hello"))
    found = plugins(site)
    assert found["zbroken"]["error"] == "ModuleNotFoundError: No module named 'does_not_exist'"
    assert (found["zbroken"]["distribution"], found["zbroken"]["version"]) == ("zbroken", "1.5")
    assert found["zworse"]["error"] == "SystemError: no luck"
    assert {name for name, row in found.items() if not row["error"]} >= {"commands", "fits", "fsspec", "hsc", "zgood"}
    assert found["hsc"]["mappers"] == "hsc"
    done = dbb("create", f"sqlite:///{site}/r.db", "--mapper", "hsc", PYTHONPATH=str(site))
    assert done.returncode == 0
    assert (site / "r.db").is_file()


def test_a_plugin_with_an_unknown_hook_is_reported(site: Path) -> None:
    source = "from dbb.hookspecs import hookimpl\n@hookimpl\ndef dbb_mapperz():\n    return []\n"
    install(site, "ztypo", source)
    assert "dbb_mapperz" in plugins(site)["ztypo"]["error"]


def test_a_plugin_whose_hook_fails_is_reported(site: Path) -> None:
    source = "from dbb.hookspecs import hookimpl\n@hookimpl\ndef dbb_mappers():\n    return 1 / 0\n"
    install(site, "zzero", source)
    found = plugins(site)
    assert found["zzero"]["error"] == "ZeroDivisionError: division by zero"
    assert found["hsc"]["error"] == ""


def test_a_broken_mapper_fails_only_when_it_is_asked_for(site: Path) -> None:
    install(site, "zcam", "import does_not_exist")
    done = dbb("create", f"sqlite:///{site}/r.db", "--mapper", "zcam", PYTHONPATH=str(site))
    assert done.returncode == 1
    assert "mapper 'zcam': its plug-in is broken: ModuleNotFoundError" in done.stderr
    assert "see 'dbb plugins'" in done.stderr
    assert not (site / "r.db").exists()


def test_the_command_of_a_plugin_appears_and_works(site: Path) -> None:
    install(site, "zgood", PLUGIN.format(commands="hello"))
    done = dbb("hello", PYTHONPATH=str(site))
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from a plug-in\n", "")
    assert "  hello " in dbb("--help", PYTHONPATH=str(site)).stdout


def test_a_plugin_cannot_take_the_place_of_our_own_command(site: Path, demo: Demo) -> None:
    install(site, "zthief", PLUGIN.format(commands="hello, tag"))
    assert dbb("hello", PYTHONPATH=str(site)).stdout == "hello from a plug-in\n"
    text = dbb("tag", "--help", PYTHONPATH=str(site)).stdout
    assert "Give the tag NAME to RUNS" in text
    done = dbb("--help", PYTHONPATH=str(site))
    assert "its command 'tag' is one of dbb's own" in done.stderr
    assert done.returncode == 0


def test_no_plugins_means_none_and_our_commands_stay(site: Path, demo: Demo) -> None:
    install(site, "zgood", PLUGIN.format(commands="hello"))
    assert plugins(site, DBB_PLUGINS="none") == {}
    assert list(plugins(site, DBB_PLUGINS="zgood,hsc")) == ["hsc", "zgood"]
    done = dbb("hello", PYTHONPATH=str(site), DBB_PLUGINS="none")
    assert done.returncode == 2
    done = dbb("archive", "list", "--format", "json", "--registry", demo.url, DBB_PLUGINS="none")
    assert done.returncode == 0
    assert '"name": "home"' in done.stdout
