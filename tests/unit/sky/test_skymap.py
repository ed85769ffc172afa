"""Sky maps read from TOML have the tracts and patches of LSST's.

The numbers marked "lsst.skymap" were printed by its sources at 22.0.0, with astropy's WCS in the place of afw's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sky_shapes import rectangle

from dbb.errors import NotFoundError, UsageError
from dbb.sky.polygons import Floats, overlapping, unit_vectors
from dbb.sky.skymap import SkyMap, parse_skymap, read_skymap

COMMON = 'name = "some"\npixel_scale = 0.168\npatch_inner = [4000, 4000]\npatch_border = 100\n'
# skymap.py of lsst/testdata_ci_hsc
CI_HSC = COMMON + (
    'type = "discrete"\ntract_overlap = 0.0\n'
    "ra_list = [320.36749197602893]\ndec_list = [0.3131554006070023]\nradius_list = [1.4388796242707318]\n"
)
# the configuration of the HSC survey
HSC = COMMON + 'type = "rings"\ntract_overlap = 0.016666666666666666\nnum_rings = 120\n'
TRACT = "[[tracts]]\nid = 7\nra = 0.0\ndec = 89.9\npatches = [3, 2]\n"
EXPLICIT = COMMON + 'type = "explicit"\n' + TRACT


def degrees(polygon: Floats) -> list[tuple[float, float]]:
    ra, dec = np.degrees(np.arctan2(polygon[:, 1], polygon[:, 0])) % 360, np.degrees(np.arcsin(polygon[:, 2]))
    return list(zip(ra.tolist(), dec.tolist(), strict=True))


def small_map(version: int = 1) -> SkyMap:
    text = COMMON.replace("0.168", "10").replace("[4000, 4000]", "2000")
    return parse_skymap(f'{text}type = "rings"\ntract_overlap = 1.0\nnum_rings = 3\nversion = {version}\n', "here")


@pytest.mark.parametrize(
    ("text", "tract", "patch", "corners"),
    [  # lsst.skymap
        (
            CI_HSC, 0, "8,6",
            [(320.3721352, -0.0648158), (320.1761401, -0.0648154), (320.1761365, 0.1311786), (320.3721353, 0.1311793)],
        ),
        (
            CI_HSC, 0, "5x4",
            [(320.932085, -0.4380903), (320.7361093, -0.4381025), (320.7361162, -0.2421322), (320.9320956, -0.2421255)],
        ),
        (
            HSC, 9813, "8x6",
            [(149.5986578, 2.5065988), (149.407176, 2.50649), (149.4070639, 2.7024604), (149.5985713, 2.7025777)],
        ),
        (
            HSC, 1, "0x0",
            [(52.3626177, -88.9394453), (45.0398088, -89.0834346), (37.7077623, -88.9395668), (45.0329379, -88.812895)],
        ),
        (
            HSC, 0, "0x0",
            [(135.0, -88.8122638), (142.3241096, -88.938849), (135.0, -89.0827582), (127.6758904, -88.938849)],
        ),
        (
            HSC, 18937, "0x0",
            [(225.0, 88.8122638), (217.6758904, 88.938849), (225.0, 89.0827582), (232.3241096, 88.938849)],
        ),
    ],
)  # fmt: skip
def test_a_patch_is_where_lsst_has_it(text: str, tract: int, patch: str, corners: list[tuple[float, float]]) -> None:
    found = degrees(parse_skymap(text, "here").tract(tract).patch(patch))
    assert np.array(found) == pytest.approx(np.array(corners), abs=5e-7)


@pytest.mark.parametrize(
    ("version", "tract", "ra", "dec"),
    [  # lsst.skymap
        (1, 0, 0.0, -90.0),
        (1, 1, 0.0, -88.51239669421487),
        (1, 7, 216.0, -88.51239669421487),
        (0, 7, 216.0, -88.51239669421487),
        (1, 9813, 150.2479338842975, 2.2314049586776834),
        (0, 9813, 150.2479338842975, 2.2314049586776834),
        (1, 18937, 0.0, 90.0),
        (0, 18937, 0.0, 90.0),
    ],
)
def test_a_tract_of_the_hsc_survey_is_where_lsst_has_it(version: int, tract: int, ra: float, dec: float) -> None:
    found = parse_skymap(f"{HSC}version = {version}\n", "here").tract(tract)
    assert (found.ra, found.dec) == pytest.approx((ra, dec))
    assert len(found.patches()) == 81


def test_version_0_has_the_first_tract_of_a_ring_after_its_last() -> None:
    now, before = small_map(1), small_map(0)
    assert (now.ra[1:].tolist().count(0.0), len(now.ids)) == (4, 26)
    rings = np.flatnonzero(now.ra[1:-1] == 0) + 1
    assert (before.ra[1], before.dec[1]) == (now.ra[1], now.dec[1])
    assert before.dec[rings[1:]].tolist() == now.dec[rings[:-1]].tolist()
    others = np.setdiff1d(np.arange(len(now.ids)), rings)
    assert (before.ra[others] == now.ra[others]).all()
    assert (before.dec[others] == now.dec[others]).all()


def test_the_tract_of_ci_hsc_has_16_patches_a_side() -> None:
    patches = parse_skymap(CI_HSC, "here").tract(0).patches()
    assert (len(patches), patches[:2], patches[16], patches[-1]) == (256, ["0x0", "1x0"], "0x1", "15x15")


def test_ci_hsc_can_be_said_explicitly() -> None:
    text = COMMON + 'type = "explicit"\n[[tracts]]\nid = 0\nra = 320.36749197602893\ndec = 0.3131554006070023\n'
    explicit = parse_skymap(text + "patches = [16, 16]\n", "here").tract(0)
    discrete = parse_skymap(CI_HSC, "here").tract(0)
    pixel = np.radians(0.168 / 3600)
    for patch in ("0x0", "8x6", "15x15"):
        assert np.abs(explicit.patch(patch) - discrete.patch(patch)).max() < pixel  # LSST rounds to half a pixel


def test_a_tract_may_differ_from_the_others() -> None:
    text = EXPLICIT + "[[tracts]]\nid = 3\nra = 10\ndec = 0\npatches = [1, 1]\npixel_scale = 0.9\npatch_inner = 100\n"
    tract = parse_skymap(text, "here").tract(3)
    assert degrees(tract.outer)[1] == pytest.approx((9.9875, -0.0125), abs=1e-6)
    assert (tract.patch("0,0") == tract.outer).all()


def test_the_border_ends_at_the_edge_of_the_tract() -> None:
    tract = parse_skymap(EXPLICIT, "here").tract(7)
    assert tract.patch("0x0")[0] == pytest.approx(tract.outer[0])
    assert tract.patch("2x1")[2] == pytest.approx(tract.outer[2])
    sides = [
        np.degrees(np.linalg.norm(tract.patch(name)[1] - tract.patch(name)[0])) * 3600 / 0.168
        for name in ("0x0", "1x0")
    ]
    assert sides == pytest.approx([4100, 4200], rel=1e-4)


def test_rotation_turns_the_second_axis_from_north_to_east() -> None:
    tract = parse_skymap(EXPLICIT.replace("89.9", "0.0") + "rotation = 90.0\n", "here").tract(7)
    (first_ra, first_dec), (second_ra, second_dec) = degrees(tract.outer)[0], degrees(tract.outer)[3]
    assert (second_ra - first_ra) % 360 == pytest.approx(2 * 4000 * 0.168 / 3600, rel=1e-3)
    assert second_dec == pytest.approx(first_dec, abs=1e-3)


@given(st.integers(0, 2**32), st.sampled_from([0.01, 0.5, 3.0, 20.0]), st.integers(0, 1))
@settings(max_examples=10, deadline=None)
def test_overlaps_are_all_pairs_that_overlap(seed: int, size: float, version: int) -> None:
    rng, skymap = np.random.default_rng(seed), small_map(version)
    places = np.concatenate([rng.uniform([0, -90], [360, 90], (12, 2)), [[0, 90], [10, -89.99], [359.999, 0]]])
    images = np.array([rectangle(*place, size, rng.uniform(0, 360)) for place in places])
    tracts = [skymap.tract(number) for number in skymap.tract_ids()]
    names = [(tract.id, patch) for tract in tracts for patch in tract.patches()]
    patches = np.array([tract.patch(patch) for tract in tracts for patch in tract.patches()])
    hits = np.array([overlapping(image, patches) for image in images]).T
    expected = [(row, *name) for hit, name in zip(hits, names, strict=True) for row in np.flatnonzero(hit)]
    assert list(zip(*skymap.overlaps(images), strict=True)) == expected


def test_no_image_overlaps_nothing() -> None:
    assert [len(part) for part in small_map().overlaps(np.empty((0, 4, 3)))] == [0, 0, 0]


def test_the_tracts_near_a_place_are_found() -> None:
    skymap = parse_skymap(HSC, "here")
    assert skymap.tracts_near(unit_vectors([150.1], [2.2])) == [9813]
    assert 18937 in skymap.tracts_near(unit_vectors([77], [89.9]))
    assert len(skymap.tracts_near(unit_vectors([150.1], [2.2]), 1.0)) > 1


@pytest.mark.parametrize(("text", "said"), [(CI_HSC, "has 0 to 0"), (HSC, "has 0 to 18937"), (EXPLICIT, "has 7")])
def test_an_unknown_tract_is_refused_with_those_that_exist(text: str, said: str) -> None:
    with pytest.raises(NotFoundError, match=said) as error:
        parse_skymap(text, "here").tract(20000)
    assert (error.value.kind, error.value.name) == ("tract", "20000")


@pytest.mark.parametrize("patch", ["3x0", "0,2", "99x99"])
def test_a_patch_outside_its_tract_is_refused_with_the_size(patch: str) -> None:
    with pytest.raises(NotFoundError, match="tract 7 is 3 x 2 patches") as error:
        parse_skymap(EXPLICIT, "here").tract(7).patch(patch)
    assert error.value.kind == "patch"


def test_what_is_no_patch_name_is_refused() -> None:
    with pytest.raises(UsageError, match="no patch name"):
        parse_skymap(EXPLICIT, "here").tract(7).patch("middle")


def test_a_file_is_read_and_its_text_kept(tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(CI_HSC, encoding="utf-8")
    skymap = read_skymap(tmp_path / "map.toml")
    assert (skymap.name, skymap.text, list(skymap.tract_ids())) == ("some", CI_HSC, [0])


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "map.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"map\.toml cannot be read"):
        read_skymap(path)


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        (CI_HSC, "name =", "nom =", "here: name: missing"),
        (CI_HSC, '"some"', "3", "here: name: expected a text"),
        (CI_HSC, "name", "[", "here is no TOML"),
        (CI_HSC, '"discrete"', '"dodeca"', "here: type: expected one of explicit, discrete, rings"),
        (CI_HSC, "pixel_scale", "pixelScale", "here: pixelScale: unknown key"),
        (CI_HSC, "pixel_scale = 0.168\n", "", "here: pixel_scale: missing"),
        (CI_HSC, "0.168", "0", "here: pixel_scale: 0 is not at least 1e-06"),
        (EXPLICIT, "id = 7", "id = 7\npixel_scale = 1e-300", "here: tracts 1: pixel_scale: 1e-300 is not at least"),
        (CI_HSC, "0.168", "nan", "here: pixel_scale: expected a number"),
        (CI_HSC, "0.168", "true", "here: pixel_scale: expected a number"),
        (CI_HSC, "0.168", "1e-5", "here: patch_inner: more than 1000000 patches"),
        (CI_HSC, "[4000, 4000]", "[4000, -1]", "here: patch_inner: -1 is not between 1 and"),
        (CI_HSC, "[4000, 4000]", "[4000]", "here: patch_inner: expected two whole numbers"),
        (CI_HSC, "[4000, 4000]", "4000.5", "here: patch_inner: expected a whole number"),
        (CI_HSC, "border = 100", "border = -1", "here: patch_border: -1 is not between 0 and"),
        (CI_HSC, "overlap = 0.0", "overlap = -0.5", "here: tract_overlap: -0.5 is not between 0 and 80"),
        (CI_HSC, "overlap = 0.0", "overlap = 79", "here: tract_overlap: a tract would reach 80.4"),
        (CI_HSC, "[0.3131554006070023]", "[]", "here: dec_list: expected a list of numbers"),
        (CI_HSC, "[0.3131554006070023]", "[1, 2]", "here: dec_list: 2 values for the 1 of ra_list"),
        (CI_HSC, "[0.3131554006070023]", "[91]", "here: dec_list: 91 is not between -90 and 90"),
        (CI_HSC, 'type = "discrete"', 'type = "discrete"\nprojection = "STG"', "here: projection: only TAN is known"),
        (HSC, "num_rings = 120", "num_rings = 0", "here: num_rings: 0 is not between 1 and 2000"),
        (HSC, "num_rings = 120", "num_rings = 120\nversion = 2", "here: version: 2 is not between 0 and 1"),
        (CI_HSC, "border = 100", f"border = {10**30}", "here: patch_border: 1000000000000000000000000000000 is not"),
        (CI_HSC, "name = ", "deep = " + "[" * 3000 + "]" * 3000 + "\nname = ", "here is no TOML"),
        (CI_HSC, '"some"', '"so\\u0000me"', "here: name: expected a text of one line"),
        (EXPLICIT, "id = 7", f"id = {2**63}", "here: tracts 1: id: 9223372036854775808 is not between"),
        (EXPLICIT, "[3, 2]", "[3, 0]", "here: tracts 1: patches: 0 is not at least 1"),
        (EXPLICIT, "[3, 2]", "[3000, 2000]", "here: tracts 1: patches: more than 1000000 patches"),
        (EXPLICIT, "[3, 2]", "[9999, 9]", "here: tracts 1: pixel_scale: a tract would be larger"),
        (EXPLICIT, "ra = 0.0\n", "", "here: tracts 1: ra: missing"),
        (EXPLICIT, "id = 7", "id = 7\nradius = 1", "here: tracts 1: radius: unknown key"),
        (EXPLICIT, "[[tracts]]", "tracts = 1\n", "unknown key|expected one or more"),
        (EXPLICIT, "[[tracts]]", TRACT + "[[tracts]]", "here: tracts 2: id: tract 7 is there twice"),
    ],
)  # fmt: skip
def test_a_malformed_sky_map_is_refused_with_file_and_key(text: str, old: str, new: str, said: str) -> None:
    assert old in text
    with pytest.raises(UsageError, match=said):
        parse_skymap(text.replace(old, new, 1), "here")
