"""The index of images leads to every image near a region."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sky_shapes import PLACES, TURNS, move, rectangle

from dbb.sky.cells import DEPTHS, cell_ranges, depth_ids, image_cells
from dbb.sky.htm import depth_of
from dbb.sky.polygons import Floats, corner_polygons, overlapping

SIZES = st.integers(-8, 6).map(lambda power: 0.9 * 2.0**power)


def corners_of(shape: Floats) -> list[float]:
    ra, dec = np.degrees(np.arctan2(shape[:, 1], shape[:, 0])) % 360, np.degrees(np.arcsin(np.clip(shape[:, 2], -1, 1)))
    return [0.0, 0.0, *np.stack([ra, dec], axis=1).ravel()]


@given(PLACES, SIZES, TURNS, st.floats(0, 1.5), TURNS, SIZES, TURNS, st.sampled_from([0.0, 0.05, 3.0]))
def test_an_image_near_a_region_has_its_cell_in_a_range(
    place: tuple[float, float],
    size: float,
    turn: float,
    away: float,
    angle: float,
    other: float,
    tilt: float,
    margin: float,
) -> None:
    region = rectangle(*place, size, turn)
    corners = [corners_of(rectangle(*move(place, away * (size + other), angle), other, tilt))]
    near = overlapping(region, corner_polygons(corners), margin)[0]
    cell = int(image_cells(corners)[0])
    ranges = cell_ranges(region, depth_of(cell), margin)
    assert len(ranges) <= 64
    assert not near or any(first <= cell <= last for first, last in ranges)


@pytest.mark.parametrize("depth", DEPTHS)
def test_ranges_stay_in_their_depth_and_apart(depth: int) -> None:
    lowest, highest = depth_ids(depth)
    ranges = cell_ranges(rectangle(150, 2, 20), depth)
    bounds = [bound for pair in ranges for bound in pair]
    assert bounds == sorted(bounds)
    assert lowest <= bounds[0]
    assert bounds[-1] <= highest


def test_larger_images_have_shallower_cells() -> None:
    cells = image_cells([corners_of(rectangle(150, 2, size)) for size in (60, 10, 1, 0.1, 0.01, 1e-6)])
    assert [depth_of(int(cell)) for cell in cells] == [0, 3, 6, 9, 12, 12]


def test_the_cells_of_a_patch_of_ccds_are_few() -> None:
    ranges = cell_ranges(rectangle(150, 2, 0.14, 45, 1.0), 9)
    assert sum(last - first + 1 for first, last in ranges) <= 40


def test_ids_of_different_depths_differ() -> None:
    bounds = [bound for depth in DEPTHS for bound in depth_ids(depth)]
    assert bounds == sorted(set(bounds))


def test_no_image_has_no_cell() -> None:
    assert image_cells(np.empty((0, 10))).tolist() == []
