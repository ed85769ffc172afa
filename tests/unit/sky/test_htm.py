"""Trixels are numbered and chosen as lsst-sphgeom does."""

from __future__ import annotations

import warnings
from pathlib import Path

import lsst.sphgeom as sg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sky_shapes import PLACES, SIZES, TURNS, disjoint, polygon, rectangle, vector

from dbb.sky.htm import depth_of, trixels, trixels_near
from dbb.sky.polygons import Floats, overlapping, unit_vectors

DEPTHS = st.integers(0, 12)


@pytest.fixture(scope="module")
def ccd(shared: Path) -> Floats:
    """The outline of the real raw of visit 903334, ccd 23, by the WCS of its header."""
    from astropy.io import fits
    from astropy.wcs import WCS

    header = fits.Header.fromtextfile(shared / "data/ci_hsc/HSCA90333426.hdr")
    wide, tall = header["ZNAXIS1"], header["ZNAXIS2"]
    sides = [[0.5, 0.5], [wide + 0.5, 0.5], [wide + 0.5, tall + 0.5], [0.5, tall + 0.5]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old spellings in the real header, about dates and frames
        return unit_vectors(*WCS(header).wcs_pix2world(sides, 1).T)


@given(st.lists(PLACES, min_size=1, max_size=5), DEPTHS)
def test_trixels_have_the_vertices_of_sphgeom(places: list[tuple[float, float]], depth: int) -> None:
    pixels = sg.HtmPixelization(depth)
    ids = [pixels.index(vector(at)) for at in unit_vectors(*np.array(places).T)]
    expected = [[[v.x(), v.y(), v.z()] for v in pixels.triangle(int(one)).getVertices()] for one in ids]
    assert trixels(ids) == pytest.approx(np.array(expected), abs=1e-14)


@given(st.lists(st.integers(8, 16 * 4**12 - 1).filter(lambda one: one.bit_length() % 2 == 0), max_size=10))
def test_the_middle_of_a_trixel_is_in_it(ids: list[int]) -> None:
    for one, triangle in zip(ids, trixels(ids), strict=True):
        middle = triangle.sum(axis=0) / np.linalg.norm(triangle.sum(axis=0))
        assert sg.HtmPixelization(depth_of(one)).index(vector(middle)) == one


@pytest.mark.parametrize("number", [-8, 0, 7, 16, 31])
def test_a_number_between_the_depths_is_no_trixel(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} is no HTM trixel"):
        depth_of(number)


@settings(deadline=None)
@given(st.lists(st.tuples(PLACES, SIZES, TURNS), min_size=1, max_size=4), st.integers(0, 3))
def test_the_trixels_near_polygons_are_those_that_sphgeom_finds(
    shapes: list[tuple[tuple[float, float], float, float]], depth: int
) -> None:
    regions = [rectangle(*place, size, turn) for place, size, turn in shapes]
    pixels = sg.HtmPixelization(depth)
    every = [(one, pixels.triangle(one)) for one in range(8 * 4**depth, 16 * 4**depth)]
    expected = {one for one, triangle in every if not all(disjoint(polygon(r), triangle) for r in regions)}
    found = trixels_near(regions, depth, 0.0)
    assert found == sorted(set(found))
    doubtful = sorted(set(found) ^ expected)
    if doubtful:  # only where a rounding decides
        assert all(any(one(region, triangle) for region in regions) for triangle in trixels(doubtful)), (
            "a trixel that sphgeom finds is missing"
        )


def one(region: Floats, triangle: Floats) -> bool:
    return bool(overlapping(region, triangle[None], 1e-9)[0])


@given(PLACES, SIZES, TURNS, st.floats(0, 5), st.integers(0, 5))
def test_the_trixels_within_a_margin_are_just_those_no_farther(
    place: tuple[float, float], size: float, turn: float, margin: float, depth: int
) -> None:
    region = rectangle(*place, size, turn)
    every = np.arange(8 * 4**depth, 16 * 4**depth)
    assert trixels_near([region], depth, margin) == every[overlapping(region, trixels(every), margin)].tolist()


def test_polygons_may_have_different_numbers_of_vertices() -> None:
    triangle, point = rectangle(10, 10, 0.1)[:3], unit_vectors([200], [-50])
    both = trixels_near([triangle, point], 7, 0.0)
    assert both == sorted({*trixels_near([triangle], 7, 0.0), *trixels_near([point], 7, 0.0)})


def test_no_polygon_needs_no_trixel() -> None:
    assert trixels_near([], 7, 0.0) == []


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        trixels_near([unit_vectors([200], [-50])], 7, -0.1)


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.05, 0.0912])
def test_the_real_raw_needs_the_two_shards_of_the_note(ccd: Floats, margin: float) -> None:
    assert trixels_near([ccd], 7, margin) == [189584, 189648]


def test_the_real_raw_needs_a_third_shard_with_a_larger_margin(ccd: Floats) -> None:
    assert trixels_near([ccd], 7, 0.0913) == [189472, 189584, 189648]
