"""Contracts of the hooks for cameras, files, submit files and commands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from dbb.butler.camera import camera_layout, output_template
from dbb.butler.exposures import ExposureRows
from dbb.butler.policycheck import check_policy
from dbb.errors import HeaderError, PipelineError
from dbb.filetypes import CONVERTERS, Filetype, load_filetypes
from dbb.mapper import ERAS, Mapper
from dbb.patterns import RUN_KEYS, is_safe_path, parse_pattern
from dbb.pipeline.model import Pipeline
from dbb.registry.filetypes import RESERVED
from dbb.storage import StageOutcome, StageRequest

_SAMPLES: Mapping[str, object] = {
    "int": 7,
    "float": 0.5,
    "str": "a",
    "date": "2013-06-17",
    "patch": "8x6",
    "bool": True,
}


def _check_filetype(filetype: Filetype) -> None:
    names = [column.name.lower() for column in filetype.columns]
    assert len(names) == len(set(names)), f"{filetype.name}: two columns differ only by case"
    assert not RESERVED & set(names), f"{filetype.name}: columns with names that mean something for every file"
    known = {*filetype.types, *RUN_KEYS, "filename"}
    for pattern in (filetype.directory, filetype.name_pattern):
        unknown = set(pattern.keys) - known if pattern is not None else set()
        assert not unknown, f"{filetype.name}: {pattern} uses {unknown}, which are neither columns nor run keys"


class FiletypesContract:
    """What every file that `dbb_filetypes` names must be."""

    @pytest.fixture
    def paths(self) -> Sequence[Path]:
        """Return what the hook returns."""
        raise NotImplementedError

    def test_every_filetype_can_be_registered(self, paths: Sequence[Path]) -> None:
        """Columns and patterns hang together."""
        for path in paths:
            for filetype in load_filetypes(path).values():
                _check_filetype(filetype)


class MapperContract:
    """What every camera must be."""

    @pytest.fixture
    def mapper(self) -> Mapper:
        """Return the camera under test."""
        raise NotImplementedError

    def test_every_filetype_can_be_registered(self, mapper: Mapper) -> None:
        """Columns and patterns hang together."""
        assert mapper.filetypes
        for filetype in mapper.filetypes.values():
            _check_filetype(filetype)

    def test_every_dataset_type_has_a_filetype(self, mapper: Mapper) -> None:
        """A dataset type without one could never be registered."""
        missing = {dataset.name for dataset in mapper.datasets if dataset.filetype not in mapper.filetypes}
        assert not missing

    def test_the_raw_filetype_has_what_the_registry_of_a_job_needs(self, mapper: Mapper) -> None:
        """Every column of the table raw is one of the raw filetype's."""
        raw, several = mapper.filetypes[mapper.raw_filetype], mapper.detectors
        of_file = set() if several is None else {*several.detector, several.hdu}
        assert set(mapper.raw_columns) - of_file <= set(raw.types)
        assert several is None or several.column in raw.types
        assert {*of_file, *mapper.exposure_keys, *mapper.visit_columns, mapper.date_column} <= set(mapper.raw_columns)

    def test_raws_tell_exposures_apart(self, mapper: Mapper) -> None:
        """The data id of a raw is the exposure's key, or the visit where a file holds several detectors."""
        keys = mapper.exposure_keys if mapper.detectors is None else mapper.exposure_keys[:1]
        assert set(mapper.filetypes[mapper.raw_filetype].keys) == set(keys)

    def test_calibrations_have_the_keys_that_they_are_chosen_by(self, mapper: Mapper) -> None:
        """Detector and date; the filter only where the template has it; in the registry of exposures what is asked."""
        keys = mapper.keys
        assert {keys.detector, keys.filter} <= set(mapper.raw_columns)
        for dataset in mapper.datasets:
            if dataset.is_validity_ranged:
                own = set(mapper.filetypes[dataset.filetype].keys)
                assert {keys.detector, keys.calib_date} <= own <= {keys.detector, keys.calib_date, keys.filter}
                assert set(dataset.keys) <= own, f"{dataset.name} of {dataset.era}"
                assert dataset.tables == (dataset.name,), f"{dataset.name}: the table must have its name"

    def test_the_layout_of_job_registries_is_sound(self, mapper: Mapper) -> None:
        """Tables and columns have names and types that a Gen2 registry can have."""
        for era in (*ERAS, "both"):
            camera_layout(mapper, era)

    def test_templates_can_be_filled(self, mapper: Mapper) -> None:
        """Each key of a template is a column of the filetype or, for exposures, of the table raw."""
        for dataset in mapper.datasets:
            filetype = mapper.filetypes[dataset.filetype]
            of_exposure = ExposureRows(mapper).are_of(filetype)
            known = {*filetype.types, *(mapper.raw_columns if of_exposure else ())}
            assert set(dataset.keys) <= known, f"{dataset.name} of {dataset.era}"
            types = {**mapper.raw_columns, **filetype.types}
            values = {key: _SAMPLES.get(types[key], 7 if types[key] == "int" else "a") for key in dataset.keys}
            place = (dataset.template % values).partition("[")[0]  # a bracket begins the number of an HDU
            assert is_safe_path(place), f"{dataset.name}: {dataset.template}"

    def test_archive_names_tell_files_apart(self, mapper: Mapper) -> None:
        """A name pattern with its directory holds the whole data id, so that no two outputs of a run collide."""
        for filetype in mapper.filetypes.values():
            if filetype.name_pattern is not None and "filename" not in filetype.name_pattern.keys:
                directory = filetype.directory or parse_pattern("")
                held = {*filetype.name_pattern.keys, *directory.keys}
                assert set(filetype.keys) <= held or "frameId" in held, filetype.name

    def test_archive_names_are_read_backwards(self, mapper: Mapper) -> None:
        """What a name was made from is found in it again, so that a file's name is enough to register it."""
        run = {"unitname": "Ht0", "reqnum": 20, "attnum": 1}
        for filetype in mapper.filetypes.values():
            if filetype.name_pattern is None:
                continue
            types = {**filetype.types, "reqnum": "int", "attnum": "int", "unitname": "str", "filename": "str"}
            values = {key: run.get(key, _SAMPLES[types[key]]) for key in filetype.name_pattern.keys}
            name = filetype.name_pattern.expand(values)
            assert filetype.name_pattern.invert(name, types) == values, name

    def test_outputs_of_one_exposure_have_different_names(self, mapper: Mapper) -> None:
        """Two dataset types of one run with one name would overwrite each other."""
        run: dict[str, object] = {"unitname": "Ht0", "reqnum": 20, "attnum": 1}
        for era in ERAS:
            names: dict[str, str] = {}
            for dataset in mapper.datasets:
                if dataset.era != era or mapper.filetypes[dataset.filetype].name_pattern is None:
                    continue
                pattern = mapper.filetypes[dataset.filetype].name_pattern
                if pattern is not None and "reqnum" in pattern.keys:
                    template = output_template(mapper, dataset, run)
                    assert names.setdefault(template, dataset.filetype) == dataset.filetype, template

    def test_columns_that_the_camera_translates_have_a_rule(self, mapper: Mapper) -> None:
        """Either the camera's file has rules, and then for every such column, or its plug-in translates them all."""
        wanted = {
            column.name
            for filetype in mapper.filetypes.values()
            for column in filetype.columns
            if column.source == "mapper"
        }
        assert wanted <= mapper.header_rules.keys() or not mapper.header_rules
        assert not wanted or mapper.header_rules or mapper.translate is not None

    def test_names_and_templates_can_work_together(self, mapper: Mapper) -> None:
        """What ``dbb policy check`` finds would go wrong in a job or its harvest."""
        assert check_policy(mapper) == []

    def test_synonyms_stand_for_columns(self, mapper: Mapper) -> None:
        """A synonym of nothing would be an unknown name in every query."""
        columns = {name.lower() for filetype in mapper.filetypes.values() for name in filetype.types}
        assert {name.lower() for name in mapper.synonyms.values()} <= columns


class TranslateHeaderContract:
    """What every translation of raw headers must do."""

    @pytest.fixture
    def translate(self) -> Callable[..., dict[str, object] | None]:
        """Return the plug-in's `dbb_translate_header`."""
        raise NotImplementedError

    @pytest.fixture
    def filetype(self) -> Filetype:
        """Return the filetype that it translates."""
        raise NotImplementedError

    @pytest.fixture
    def header(self) -> Mapping[str, object]:
        """Return a good header."""
        raise NotImplementedError

    def test_a_good_header_gives_every_key(
        self, translate: Callable[..., Any], filetype: Filetype, header: Mapping[str, object]
    ) -> None:
        """The values are of the columns' types, and the data id is whole."""
        found = translate(header=header, filetype=filetype.name)
        assert set(filetype.keys) <= {name for name, value in found.items() if value is not None}
        for name, value in found.items():
            assert value is None or CONVERTERS[filetype.types[name]](value) == value, name

    def test_an_empty_header_is_an_error_and_not_passed_on(
        self, translate: Callable[..., Any], filetype: Filetype
    ) -> None:
        """Passing it on would hide the fault."""
        with pytest.raises(HeaderError):
            translate(header={}, filetype=filetype.name)

    def test_other_filetypes_are_passed_on(self, translate: Callable[..., Any], header: Mapping[str, object]) -> None:
        """Another camera may know them."""
        assert translate(header=header, filetype="another_cameras_raw") is None


class GatherMetadataContract:
    """What everything that looks into files must do."""

    @pytest.fixture
    def gather(self) -> Callable[..., dict[str, object] | None]:
        """Return the plug-in's `dbb_gather_metadata`."""
        raise NotImplementedError

    @pytest.fixture
    def filetype(self) -> Filetype:
        """Return a filetype with columns that the file has."""
        raise NotImplementedError

    @pytest.fixture
    def path(self) -> Path:
        """Return a good file."""
        raise NotImplementedError

    def test_values_have_the_types_of_their_columns(
        self, gather: Callable[..., Any], filetype: Filetype, path: Path
    ) -> None:
        """What is found can be stored as it is."""
        found = gather(uri=str(path), filetype=filetype)
        assert found
        for name, value in found.items():
            if name != "corners":
                assert CONVERTERS[filetype.types[name]](value) == value, name

    def test_a_file_of_another_kind_is_passed_on(
        self, gather: Callable[..., Any], filetype: Filetype, tmp_path: Path
    ) -> None:
        """Another plug-in may know it."""
        other = tmp_path / "notes.some-other-kind"
        other.write_bytes(b"nothing that you know")
        assert gather(uri=str(other), filetype=filetype) is None


class ReadPipelineContract:
    """What everything that reads submit files must do."""

    @pytest.fixture
    def read_pipeline(self) -> Callable[..., Pipeline | None]:
        """Return the plug-in's `dbb_read_pipeline`."""
        raise NotImplementedError

    @pytest.fixture
    def submit_file(self) -> Path:
        """Return a file that says ``reqnum`` is 1 at its top, and ``a`` is 1 in the section ``m`` of ``module``."""
        raise NotImplementedError

    @pytest.fixture
    def broken(self) -> Path:
        """Return a file that is of the plug-in's language, but wrong."""
        raise NotImplementedError

    def test_settings_win_over_the_file(self, read_pipeline: Callable[..., Any], submit_file: Path) -> None:
        """A dotted setting reaches into sections."""
        assert read_pipeline(path=submit_file, settings={}).tree == {"reqnum": "1", "module": {"m": {"a": "1"}}}
        pipeline = read_pipeline(path=submit_file, settings={"reqnum": "2", "module.m.a": "3", "b": "4"})
        assert pipeline.tree == {"reqnum": "2", "module": {"m": {"a": "3"}}, "b": "4"}

    def test_relative_names_begin_at_the_file(self, read_pipeline: Callable[..., Any], submit_file: Path) -> None:
        """There query programs are looked for first."""
        assert read_pipeline(path=submit_file, settings={}).folder == submit_file.parent

    def test_an_error_names_the_file(self, read_pipeline: Callable[..., Any], broken: Path) -> None:
        """And no other exception comes out."""
        with pytest.raises(PipelineError, match=broken.name):
            read_pipeline(path=broken, settings={})

    def test_other_files_are_passed_on(self, read_pipeline: Callable[..., Any], tmp_path: Path) -> None:
        """Another plug-in may know them."""
        path = tmp_path / "submit.unheard-of"
        path.write_bytes(b"\x00\xff")
        assert read_pipeline(path=path, settings={}) is None


class StageInContract:
    """What everything that brings remote files here must do."""

    @pytest.fixture
    def stage_in(self) -> Callable[..., Sequence[StageOutcome] | None]:
        """Return the plug-in's `dbb_stage_in`."""
        raise NotImplementedError

    @pytest.fixture
    def served(self) -> tuple[str, bytes]:
        """Return a URL that works, and the bytes that it gives."""
        raise NotImplementedError

    @pytest.fixture
    def absent(self) -> str:
        """Return a URL of the same kind at which there is nothing."""
        raise NotImplementedError

    def _requests(self, served: tuple[str, bytes], absent: str, folder: Path) -> list[StageRequest]:
        url, content = served
        md5sum = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return [
            StageRequest(url, str(folder / "good"), len(content), md5sum),
            StageRequest(absent, str(folder / "absent")),
            StageRequest(url, str(folder / "wrong"), len(content), "0" * 32),
            StageRequest(url, str(folder / "unchecked")),
        ]

    def test_outcomes_come_in_the_order_of_the_requests(
        self, stage_in: Callable[..., Any], served: tuple[str, bytes], absent: str, tmp_path: Path
    ) -> None:
        """A failure is an outcome with a reason; the other files arrive all the same."""
        requests = self._requests(served, absent, tmp_path)
        outcomes = stage_in(requests=requests)
        assert [outcome.request for outcome in outcomes] == requests
        assert [bool(outcome.error) for outcome in outcomes] == [False, True, True, False]
        assert [outcome.copied for outcome in outcomes if not outcome.error] == [len(served[1])] * 2

    def test_a_target_is_there_whole_or_not_at_all(
        self, stage_in: Callable[..., Any], served: tuple[str, bytes], absent: str, tmp_path: Path
    ) -> None:
        """What failed its check must not be mistaken for the file."""
        stage_in(requests=self._requests(served, absent, tmp_path))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            "good": served[1],
            "unchecked": served[1],
        }

    def test_of_a_request_with_an_offset_only_that_part_comes(
        self, stage_in: Callable[..., Any], served: tuple[str, bytes], tmp_path: Path
    ) -> None:
        """Of a large tar a job needs little; a store that cannot give parts says so in the outcome."""
        url, content = served
        (outcome,) = stage_in(requests=[StageRequest(url, str(tmp_path / "part"), 4, offset=2)])
        assert outcome.error or (tmp_path / "part").read_bytes() == content[2:6]

    def test_sources_of_another_kind_are_passed_on(self, stage_in: Callable[..., Any], tmp_path: Path) -> None:
        """Another plug-in may know them."""
        assert stage_in(requests=[StageRequest("unheard-of://a/b", str(tmp_path / "b"))]) is None


class CommandsContract:
    """What every command that a plug-in adds must have."""

    @pytest.fixture
    def commands(self) -> Sequence[click.Command]:
        """Return what `dbb_commands` returns."""
        raise NotImplementedError

    def test_every_command_teaches_by_example(self, commands: Sequence[click.Command]) -> None:
        """Help says what it does and shows it."""
        for command in commands:
            assert command.name
            assert command.help, command.name
            assert "Example" in command.help, command.name
