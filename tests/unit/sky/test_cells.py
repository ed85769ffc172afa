"""The index of images leads to every image near a region."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sky_shapes import PLACES, TURNS, move, rectangle

from dbb.sky.cells import CLASSES, cell_ranges, class_cells, image_cells
from dbb.sky.polygons import Floats, bounding_circles, corner_polygons, overlapping

SIZES = st.integers(-8, 6).map(lambda power: 0.9 * 2.0**power)


def circle_around(shape: Floats, margin: float = 0.0) -> tuple[float, float, float]:
    [[x, y, z]], [radius] = bounding_circles(shape[None])
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arcsin(z))), float(radius) + margin


def class_of(cell: int) -> int:
    [number] = [one for one in CLASSES if class_cells(one)[0] <= cell <= class_cells(one)[1]]
    return number


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
    ranges = cell_ranges(*circle_around(region, margin), class_of(cell))
    assert len(ranges) <= 400
    assert not near or any(first <= cell <= last for first, last in ranges)


@pytest.mark.parametrize("number", CLASSES)
@pytest.mark.parametrize("place", [(150, 2), (359.99, -0.01), (20, 89.5), (200, -90)])
def test_ranges_stay_in_their_class_and_apart(number: int, place: tuple[float, float]) -> None:
    lowest, highest = class_cells(number)
    ranges = cell_ranges(*place, 20.0, number)
    bounds = [bound for pair in ranges for bound in pair]
    assert bounds == sorted(bounds)
    assert lowest <= bounds[0]
    assert bounds[-1] <= highest


def test_larger_images_have_lower_classes() -> None:
    cells = image_cells([corners_of(rectangle(150, 2, size)) for size in (60, 10, 1, 0.1, 0.01, 1e-6)])
    assert [class_of(int(cell)) for cell in cells] == [2, 12, 25, 39, 48, 48]


def test_the_cells_of_a_patch_of_ccds_are_those_of_its_surroundings() -> None:
    ranges = cell_ranges(*circle_around(rectangle(150, 2, 0.14)), 39)
    assert len(ranges) <= 7
    widest = max(last - first for first, last in ranges) / 2**28 * 360
    assert 0.4 < widest < 0.6


def test_across_right_ascension_0_there_are_two_ranges_a_zone() -> None:
    away, across = (cell_ranges(ra, 0.0, 0.1, 39) for ra in (180.0, 0.0))
    assert len(across) == 2 * len(away)


def test_cells_of_different_classes_differ() -> None:
    bounds = [bound for number in CLASSES for bound in class_cells(number)]
    assert bounds == sorted(set(bounds))


def test_no_image_has_no_cell() -> None:
    assert image_cells(np.empty((0, 10))).tolist() == []
