"""Butler templates read backwards: expanded and inverted is the identity, and what is ambiguous is said to be so."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.butler.camera import output_entries
from dbb.butler.inversion import Inverter, inverter_of
from dbb.butler.typedids import DataIdReader
from dbb.errors import AmbiguousError, MissingError, UsageError
from dbb.mapper import ERAS, Dataset, Mapper
from dbb.plugins import plugins

CAMERAS = list(plugins().mappers().values())
HSC = plugins().mapper("hsc")
RUN: dict[str, object] = {"unitname": "Ht0", "reqnum": 20, "attnum": 1}
TYPES = {"visit": "int", "ccd": "int", "patch": "patch"}

SAFE = st.characters(min_codepoint=32, max_codepoint=0x2FF, blacklist_characters="/[]*?\\\x7f")
DATES = st.dates().map(lambda day: day.isoformat())
VALUES = {
    "int": st.integers(0, 10**9),
    "patch": st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda xy: f"{xy[0]},{xy[1]}"),
    "str": st.one_of(st.sampled_from(["HSC-R", "NB0921", "STRIPE82L", "g"]), DATES),
}
STRANGE = VALUES | {"str": st.text(SAFE, min_size=1, max_size=12).filter(lambda text: text not in {".", ".."})}


def output_templates(camera: Mapper, era: str) -> dict[str, str]:
    """Return the template with the run's names of every dataset type that can be an output."""
    found = {}
    for dataset in camera.datasets:
        if dataset.era == era:
            try:
                found |= {one["dataset"]: one["template"] for one in output_entries(camera, era, [dataset.name], RUN)}
            except UsageError:  # its archive name asks for what the Butler does not have
                continue
    return found


INVERTERS: dict[object, Inverter] = {
    (camera.name, era, kind): inverter_of(camera, era, output_templates(camera, era) if kind == "run's" else {})
    for camera in CAMERAS
    for era in ERAS
    for kind in ("camera's", "run's")
}
CASES = [(camera, dataset, kind) for camera in CAMERAS for dataset in camera.datasets for kind in ("camera's", "run's")]
TEMPLATES = {key: output_templates(*key) for key in ((camera, era) for camera in CAMERAS for era in ERAS)}
Values = dict[str, st.SearchStrategy[object]]


def template_of(camera: Mapper, dataset: Dataset, kind: str) -> str:
    return TEMPLATES[camera, dataset.era].get(dataset.name, dataset.template) if kind == "run's" else dataset.template


def is_shared(camera: Mapper, dataset: Dataset, kind: str) -> bool:
    """Whether the camera gives another filetype the same template, so that no name can tell them apart."""
    others = [one for one in camera.datasets if one.era == dataset.era and one.filetype != dataset.filetype]
    return template_of(camera, dataset, kind) in {template_of(camera, other, kind) for other in others}


def drawn(
    data: st.DataObject, camera: Mapper, values: Values, *, shared: bool | None = None
) -> tuple[str, object, str, dict[str, object]]:
    """Return a path, the key of its inverter, its filetype, and the data id that it was made from."""
    cases = [case for case in CASES if case[0] is camera and shared in {None, is_shared(*case)}]
    _, dataset, kind = data.draw(st.sampled_from(cases), label="case")
    template, types = template_of(camera, dataset, kind), DataIdReader(camera).types
    keys = dict.fromkeys(re.findall(r"%\((\w+)\)", template))
    data_id = {key: data.draw(values[types[key]], label=key) for key in keys}
    return template % data_id, (camera.name, dataset.era, kind), dataset.filetype, data_id


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
@given(data=st.data())
def test_a_path_made_from_a_data_id_gives_that_data_id_back(camera: Mapper, data: st.DataObject) -> None:
    path, key, filetype, data_id = drawn(data, camera, VALUES, shared=False)
    reading = INVERTERS[key].read(path)
    assert (reading.dataset.filetype, dict(reading.data_id), reading.compression) == (filetype, data_id, "")


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
@given(data=st.data())
def test_whatever_the_texts_are_the_reading_is_right_or_said_to_be_ambiguous(
    camera: Mapper, data: st.DataObject
) -> None:
    path, key, filetype, data_id = drawn(data, camera, STRANGE)
    readings = INVERTERS[key].readings(path)
    assert readings
    if len(readings) == 1:
        assert (readings[0].dataset.filetype, dict(readings[0].data_id)) == (filetype, data_id)


@pytest.mark.parametrize(
    ("camera", "dataset", "kind"), CASES, ids=[f"{c.name}-{d.name}-{d.era}-{k}" for c, d, k in CASES]
)
def test_each_dataset_type_is_recognised_unless_another_has_its_template(
    camera: Mapper, dataset: Dataset, kind: str
) -> None:
    template, types = template_of(camera, dataset, kind), DataIdReader(camera).types
    keys = re.findall(r"%\((\w+)\)", template)
    values = {key: {"int": 12, "patch": "8,6"}.get(types[key], "2013-06-17") for key in keys}
    readings = INVERTERS[camera.name, dataset.era, kind].readings(template % values)
    assert (dataset.filetype, values) in [(one.dataset.filetype, dict(one.data_id)) for one in readings]
    assert (len(readings) > 1) == is_shared(camera, dataset, kind)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_no_two_outputs_of_a_run_share_a_name(camera: Mapper) -> None:
    outputs = [case for case in CASES if case[0] is camera and case[2] == "run's"]
    named = [case for case in outputs if case[1].name in TEMPLATES[camera, case[1].era]]
    assert named
    assert [dataset.name for _, dataset, _ in filter(lambda case: is_shared(*case), named)] == []


def test_a_type_that_the_eras_call_differently_is_one_filetype() -> None:
    path = "deepCoadd/HSC-R/0/8,6/warp-HSC-R-0-8,6-903334.fits"
    assert inverter_of(HSC, "both").read(path).dataset.filetype == "deepcoadd_tempexp"
    assert inverter_of(HSC, "2021").read(path).dataset.name == "deepCoadd_directWarp"


@pytest.mark.parametrize("suffix", [".gz", ".fz"])
def test_the_suffix_of_a_compression_is_told_apart(suffix: str) -> None:
    reading = inverter_of(HSC, "both").read(f"00533/HSC-R/corr/CORR-0903334-016.fits{suffix}")
    assert (reading.dataset.name, reading.data_id["visit"], reading.compression) == ("calexp", 903334, suffix)


def test_both_spellings_of_a_patch_are_read() -> None:
    for patch in ("8,6", "8x6"):
        reading = inverter_of(HSC, "both").read(f"deepCoadd/HSC-R/0/{patch}.fits")
        assert reading.data_id == {"filter": "HSC-R", "tract": 0, "patch": "8,6"}


@pytest.mark.parametrize(
    "path",
    [
        "00533/HSC-R/corr/CORR-903334-016.fits",  # the Butler pads to seven digits
        "00533/HSC-R/corr/CORR-00903334-016.fits",  # and never beyond
        "00533/HSC-R/corr/CORR-0903334-016.txt",
        "deepCoadd/HSC-R/0/8,6/warp-HSC-I-0-8,6-903334.fits",  # two filters
        "deepCoadd/HSC-R/00/8,6.fits",
        "",
        "CORR-0903334-016.fits",
    ],
)
def test_what_the_butler_never_writes_fits_nothing(path: str) -> None:
    assert inverter_of(HSC, "both").readings(path) == []
    with pytest.raises(MissingError, match="fits no template"):
        inverter_of(HSC, "both").read(path)


def test_a_repositorys_own_template_replaces_the_cameras() -> None:
    inverter = inverter_of(HSC, "both", {"calexp": "r20/CORR-%(visit)07d-%(ccd)03d-r20p01.fits"})
    assert inverter.read("r20/CORR-0903334-016-r20p01.fits").data_id == {"visit": 903334, "ccd": 16}
    assert inverter.readings("00533/HSC-R/corr/CORR-0903334-016.fits") == []


def test_calibrations_can_be_read_apart() -> None:
    path = "BIAS/2013-11-03/NONE/BIAS-2013-11-03-016.fits"
    assert inverter_of(HSC, "2021", calibrations=True).read(path).data_id == {"calibDate": "2013-11-03", "ccd": 16}
    assert inverter_of(HSC, "2021", calibrations=False).readings(path) == []


def dataset(name: str, template: str) -> Dataset:
    return Dataset(name, "2021", "datasets", template, (), name, "", "", "")


def test_a_name_of_two_dataset_types_is_ambiguous_and_both_are_named() -> None:
    inverter = Inverter([dataset("one", "a/%(visit)d.fits"), dataset("two", "a/%(ccd)d.fits")], TYPES)
    assert {reading.dataset.name for reading in inverter.readings("a/7.fits")} == {"one", "two"}
    with pytest.raises(AmbiguousError, match=r"one \(visit=7\) and two \(ccd=7\)"):
        inverter.read("a/7.fits")


def test_a_name_with_two_readings_by_one_template_is_ambiguous() -> None:
    inverter = Inverter([dataset("one", "%(name)s-%(other)s.fits")], TYPES)
    assert inverter.read("a-b.fits").data_id == {"name": "a", "other": "b"}
    with pytest.raises(AmbiguousError, match=r"name=a-b other=c\).*name=a other=b-c"):
        inverter.read("a-b-c.fits")


def test_characters_that_mean_something_in_an_expression_or_a_format_are_plain() -> None:
    inverter = Inverter([dataset("one", "a.b+c/100%%-%(visit)d(1).fits")], TYPES)
    assert inverter.read("a.b+c/100%-7(1).fits").data_id == {"visit": 7}
    assert inverter.readings("aXb+c/100%-7(1).fits") == []


def test_a_template_of_many_texts_is_read_or_refused_in_bounded_time() -> None:
    texts = [f"%(k{number})s" for number in range(12)]
    inverter = Inverter([dataset("t", "-".join(texts) + ".fits")], {})
    assert inverter.readings("-" * 100 + "[" + "-" * 100 + ".fits") == []
    assert len(inverter.readings("-" * 200 + ".fits")) == 2
    inverter = Inverter([dataset("t", "".join([*texts, *texts]) + ".fits")], {})
    for _ in range(1000):
        with pytest.raises(UsageError, match="too many ways"):
            inverter.read("ab" * 60 + ".fits")
