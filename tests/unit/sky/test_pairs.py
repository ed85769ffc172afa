"""Circles on the sky find those of another set that they meet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.sky.pairs import Circles, circle_pairs
from dbb.sky.polygons import circles_near, unit_vectors

SPECIAL = [(0.0, 0.0), (359.9999, 0.01), (10.0, 90.0), (200.0, -90.0), (180.0, 89.9), (0.0, -60.0)]


def circles(chance: np.random.Generator, number: int, largest: float) -> Circles:
    places = np.concatenate([np.stack([chance.uniform(0, 360, number), chance.uniform(-90, 90, number)], 1), SPECIAL])
    return unit_vectors(*places.T), chance.uniform(0, largest, len(places))


@given(st.integers(0, 2**32), st.sampled_from([0.01, 1.0, 30.0, 180.0]), st.sampled_from([0.1, 2.0, 50.0]))
def test_the_pairs_are_all_that_meet_each_once(seed: int, largest: float, other_largest: float) -> None:
    chance = np.random.default_rng(seed)
    one, other = circles(chance, 30, largest), circles(chance, 20, other_largest)
    met = circles_near((one[0][:, None], one[1][:, None]), (other[0], other[1]), 0.0)
    found = [
        pair for here, there in circle_pairs(one, other) for pair in zip(here.tolist(), there.tolist(), strict=True)
    ]
    assert sorted(found) == [(int(here), int(there)) for here, there in np.argwhere(met)]


@pytest.mark.parametrize("ra", [-1e-18, 0.0, 360.0, 180.0])
def test_a_centre_on_the_meridian_where_right_ascension_begins_is_found(ra: float) -> None:
    vector = unit_vectors([ra], [0.0])
    [(here, there)] = circle_pairs((vector, np.array([0.1])), (vector, np.array([0.5])))
    assert (here.tolist(), there.tolist()) == ([0], [0])


def test_no_circle_has_no_pair() -> None:
    nothing = np.empty((0, 3)), np.empty(0)
    some = unit_vectors([0.0], [0.0]), np.array([1.0])
    assert list(circle_pairs(nothing, some)) == []
    assert list(circle_pairs(some, nothing)) == []
