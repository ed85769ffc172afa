"""Polygons overlap, touch and are near each other exactly when they do; lsst-sphgeom is the judge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sky_shapes import PLACES, SIZES, TURNS, disjoint, distance, move, polygon, rectangle, ring

from dbb.sky.polygons import bounding_circles, corner_polygons, overlapping, unit_vectors

SQUARE = unit_vectors([10, 11, 11, 10], [0, 0, 1, 1])


def one(region: np.ndarray, other: np.ndarray, margin: float = 0.0) -> bool:
    return bool(overlapping(region, other[None], margin)[0])


def test_unit_vectors_point_where_they_should() -> None:
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]]
    assert unit_vectors([0, 90, 12, 34], [0, 0, 90, -90]) == pytest.approx(np.array(expected), abs=1e-15)


def test_corners_become_a_polygon_in_their_order() -> None:
    polygons = corner_polygons([[10.5, 0.5, 10, 0, 11, 0, 11, 1, 10, 1]])
    assert (polygons == SQUARE[None]).all()


@given(PLACES, SIZES, TURNS)
def test_a_bounding_circle_holds_its_polygon(place: tuple[float, float], size: float, turn: float) -> None:
    shape = rectangle(*place, size, turn)
    centres, radii = bounding_circles(shape[None])
    assert radii[0] == pytest.approx(size)
    assert np.degrees(np.arccos(np.clip(shape @ centres[0], -1, 1))).max() <= radii[0] + 1e-5


def test_a_polygon_that_its_circle_could_not_hold_gets_the_whole_sky() -> None:
    lopsided = unit_vectors([0, 1, 1, 175], [0, 0, 1, 0.5])
    assert bounding_circles(lopsided[None])[1] == [180]


@given(PLACES, SIZES, TURNS, st.floats(0, 2.5), TURNS, st.floats(0.05, 1), TURNS, st.floats(0.05, 1))
def test_overlaps_are_those_that_sphgeom_finds(
    place: tuple[float, float],
    size: float,
    turn: float,
    away: float,
    angle: float,
    part: float,
    other: float,
    ratio: float,
) -> None:
    region = rectangle(*place, size, turn)
    shape = rectangle(*move(place, away * size, angle), size * part, other, ratio)
    expected = not disjoint(polygon(region), polygon(shape))
    if one(region, shape) != expected:  # only where a rounding decides
        assert distance(region, shape) < 1e-9
    assert one(shape, region) == one(region, shape)
    assert one(region[::-1], shape) == one(region, shape) == one(region, shape[::-1])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(45, 85), st.floats(45, 85))
def test_polygons_too_large_for_one_hemisphere_are_judged_rightly(seed: int, size: float, other: float) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform([0, -90], [360, 90], (50, 2))
    region = ring(*rng.uniform([0, -90], [360, 90]), size, np.sort(rng.uniform(0, 2 * np.pi, 5)))
    shapes = np.array([rectangle(*place, other, rng.uniform(0, 360), rng.uniform(0.02, 1)) for place in places])
    assert overlapping(region, shapes).tolist() == [not disjoint(polygon(region), polygon(shape)) for shape in shapes]


@settings(deadline=None)
@given(PLACES, st.floats(1e-3, 10), TURNS, st.floats(0.1, 3), TURNS, TURNS, st.floats(0.01, 2))
def test_with_a_margin_polygons_count_up_to_that_distance(
    place: tuple[float, float], size: float, turn: float, away: float, angle: float, other: float, part: float
) -> None:
    region, margin = rectangle(*place, size, turn), size * part
    shape = rectangle(*move(place, away * size, angle), size / 3, other)
    found = distance(region, shape)
    if one(region, shape):
        assert one(region, shape, margin)
    elif abs(found - margin) > size / 500:  # outlines are sampled
        assert one(region, shape, margin) == (found < margin)


@given(PLACES, st.floats(1e-4, 30), TURNS)
def test_polygons_that_share_an_edge_or_a_corner_touch(place: tuple[float, float], size: float, turn: float) -> None:
    shape = rectangle(*place, size, turn)
    beyond = shape[:2].sum(axis=0) - shape.mean(axis=0)
    beyond /= np.linalg.norm(beyond)
    assert one(shape, np.stack([shape[0], shape[1], beyond]))
    outward = 2 * shape[0] - shape.mean(axis=0)
    side = np.cross(outward, shape[0])
    corner = np.stack([shape[0], outward + side / 4, outward - side / 4])
    assert one(shape, corner / np.linalg.norm(corner, axis=1)[:, None])


@pytest.mark.parametrize("gap", [1e-10, 1e-6, 1e-2])
def test_the_least_gap_separates(gap: float) -> None:
    beside = unit_vectors([11 + gap, 12, 12, 11 + gap], [0, 0, 1, 1])
    assert not one(SQUARE, beside)
    assert one(SQUARE, beside, gap * 1.01)


def test_patches_on_both_sides_of_ra_0_touch_at_it() -> None:
    west, east = unit_vectors([359, 360, 360, 359], [0, 0, 1, 1]), unit_vectors([0, 1, 1, 0], [0, 0, 1, 1])
    assert one(west, east)


def test_a_polygon_round_a_pole_holds_the_pole() -> None:
    cap = unit_vectors([0, 90, 180, 270], [89, 89, 89, 89])
    assert one(cap, unit_vectors([5], [90]))
    assert not one(cap, unit_vectors([5], [-90]))


def test_a_cross_overlaps_though_no_vertex_is_inside() -> None:
    wide, tall = unit_vectors([0, 9, 9, 0], [4, 4, 5, 5]), unit_vectors([4, 5, 5, 4], [0, 0, 9, 9])
    assert one(wide, tall)


def test_repeated_vertices_change_nothing() -> None:
    padded = np.concatenate([SQUARE[:3], SQUARE[2:], SQUARE[3:]])
    for place, expected in (((10.5, 0.5), True), ((12, 0.5), False), ((10.5, -0.01), False)):
        assert one(padded, rectangle(*place, 0.005)) == expected
        assert one(rectangle(*place, 0.005), padded) == expected


def test_points_and_arcs_are_polygons_too() -> None:
    arc = unit_vectors([0, 1], [0, 0])
    assert one(arc, unit_vectors([0.5], [0]))
    assert not one(arc, unit_vectors([1.5], [0]))
    assert one(arc, unit_vectors([1.5], [0]), 0.5)
    assert not one(arc, unit_vectors([2, 3], [0, 0]))
    assert one(arc, unit_vectors([0.5, 0.5], [-1, 1]))
    assert not one(arc, unit_vectors([1.5, 1.5], [-1, 1]))


def test_nothing_overlaps_nothing() -> None:
    assert overlapping(SQUARE, np.empty((0, 4, 3))).tolist() == []
