"""Plug-ins are found by their entry points; a broken one is reported and stops nobody else."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dbb.errors import HeaderError, NotFoundError, PluginError
from dbb.filetypes import Filetype
from dbb.plugins import Plugins, load_plugins, plugins, translate_header

GOOD = """
from pathlib import Path
from dbb.hookspecs import hookimpl
from dbb.mapper import Mapper

@hookimpl
def dbb_mappers():
    return [Mapper("dummycam", Path(__file__).parent)]

@hookimpl
def dbb_filetypes():
    return [Path(__file__).with_name("mock.toml")]
"""
WRONG_ARGUMENT = """
from dbb.hookspecs import hookimpl

@hookimpl
def dbb_translate_header(header, filetipe):
    return None
"""
RAISES_WHEN_ASKED = """
from dbb.hookspecs import hookimpl

@hookimpl
def dbb_mappers():
    raise OSError("disk on fire")
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the module path, in which `install` puts plug-ins."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("DBB_PLUGINS", raising=False)
    return tmp_path


def install(site: Path, name: str, code: str) -> None:
    """Put a distribution with one plug-in where entry points are looked for."""
    (site / f"dbb_test_{name}.py").write_text(code)
    facts = site / f"dbb_test_{name}-1.5.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dbb-test-{name}\nVersion: 1.5\n")
    (facts / "entry_points.txt").write_text(f"[dbb]\n{name} = dbb_test_{name}\n")


def error_of(loaded: Plugins, name: str) -> str:
    return loaded.infos[name].error


def test_dbb_finds_its_own_plugins_by_their_entry_points() -> None:
    found = load_plugins()
    assert {"hsc", "fits", "fsspec"} <= set(found.infos)
    assert not any(error_of(found, name) for name in ("hsc", "fits", "fsspec"))
    assert found.infos["hsc"].distribution == "mini-dbb"
    assert "dbb_mappers" in found.infos["hsc"].hooks
    assert found.mapper("hsc").raw_filetype == "hsc_raw"


def test_anyones_plugin_comes_in_by_the_same_door(site: Path) -> None:
    install(site, "good", GOOD)
    (site / "mock.toml").write_text("[filetypes.mock.columns]\nseed = 'int'\n")
    found = load_plugins()
    info = found.infos["good"]
    assert (info.module, info.distribution, info.version, info.error) == ("dbb_test_good", "dbb-test-good", "1.5", "")
    assert info.hooks == ("dbb_filetypes", "dbb_mappers")
    assert {"hsc", "dummycam"} <= set(found.mappers())
    assert found.filetypes()["mock"].types == {"seed": "int"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_module_that_nobody_has", "ModuleNotFoundError: .*a_module_that_nobody_has"),
        ("syntax error", "SyntaxError"),
        ("raise RuntimeError('at the top')", "RuntimeError: at the top"),
        (WRONG_ARGUMENT, r"PluginValidationError: [\s\S]*filetipe"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_reported_and_the_others_work(
    site: Path, caplog: pytest.LogCaptureFixture, code: str, reason: str
) -> None:
    install(site, "broken", code)
    with caplog.at_level(logging.WARNING):
        found = load_plugins()
        assert "hsc" in found.mappers()
    assert found.mapper("hsc").name == "hsc"
    assert [record.args[0] for record in caplog.records if record.args] == ["broken"]
    with pytest.raises(PluginError, match=f"mapper 'broken': its plug-in is broken: {reason}"):
        found.mapper("broken")


def test_a_plugin_that_fails_when_asked_is_reported_then(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    install(site, "late", RAISES_WHEN_ASKED)
    found = load_plugins()
    assert error_of(found, "late") == ""
    with caplog.at_level(logging.WARNING):
        assert "hsc" in found.mappers()
    assert error_of(found, "late") == "OSError: disk on fire"
    assert "dbb_test_late" in caplog.text


def test_an_unknown_mapper_is_answered_with_the_nearest_first(site: Path) -> None:
    install(site, "good", GOOD)
    with pytest.raises(
        NotFoundError, match=r"unknown mapper 'dumycam'; known: dummycam, decam, generic, hsc\. See 'dbb plugins'"
    ):
        load_plugins().mapper("dumycam")


@pytest.mark.parametrize(
    ("setting", "names"), [("none", set()), ("", set()), ("hsc", {"hsc"}), ("fits, hsc", {"fits", "hsc"})]
)
def test_the_environment_says_which_plugins_are_loaded(
    monkeypatch: pytest.MonkeyPatch, setting: str, names: set[str]
) -> None:
    monkeypatch.setenv("DBB_PLUGINS", setting)
    assert set(load_plugins().infos) == names


def test_a_camera_that_lacks_its_files_says_which(site: Path) -> None:
    install(site, "good", GOOD)
    with pytest.raises(ValueError, match=r"mapper dummycam: .*mapper\.toml cannot be read"):
        _ = load_plugins().mapper("dummycam").raw_filetype


def test_a_header_is_translated_by_the_camera_that_knows_its_filetype() -> None:
    assert translate_header({}, Filetype("no_filetype_of_anyone", None, None, (), ())) is None
    with pytest.raises(HeaderError, match="DATE-OBS: is missing"):
        translate_header({}, Filetype("hsc_raw", None, None, (), ()))


def test_the_plugins_of_a_process_are_loaded_once() -> None:
    assert plugins() is plugins()
