"""Shapes on the sky for tests, and the opinion of lsst-sphgeom about them."""

from __future__ import annotations

import lsst.sphgeom as sg
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from dbb.sky.polygons import unit_vectors

Vectors = npt.NDArray[np.float64]

# everywhere, and more often where things go wrong
PLACES = st.tuples(
    st.one_of(st.sampled_from([0.0, 90.0, 180.0, 270.0, 359.9999]), st.floats(0, 360)),
    st.one_of(st.sampled_from([-90.0, -89.99, 0.0, 89.99, 90.0]), st.floats(-90, 90)),
)
SIZES = st.one_of(st.floats(1e-4, 1), st.floats(1, 40))  # degrees from the centre to a vertex
TURNS = st.floats(0, 360)


def rectangle(ra: float, dec: float, size: float, turn: float = 0.0, ratio: float = 0.5) -> Vectors:
    """A rectangle on the plane that touches the sky at its centre: its vertices, `size` degrees from the centre."""
    angles = np.radians(turn) + np.arctan(ratio) * np.array([1, -1, 1, -1]) + np.pi * np.array([0, 1, 1, 2])
    return ring(ra, dec, size, angles)


def ring(ra: float, dec: float, size: float, angles: Vectors) -> Vectors:
    """The convex polygon with vertices `size` degrees from its centre, at some position angles in radians."""
    centre = unit_vectors(ra, dec)
    north = unit_vectors(ra, dec + 90)
    east = np.cross(north, centre)
    tilt = np.radians(size)
    return np.cos(tilt) * centre + np.sin(tilt) * (np.cos(angles)[:, None] * north + np.sin(angles)[:, None] * east)


def move(start: tuple[float, float], distance: float, angle: float) -> tuple[float, float]:
    """The place so many degrees from another one."""
    x, y, z = ring(start[0], start[1], distance, np.radians([angle]))[0]
    return float(np.degrees(np.arctan2(y, x))) % 360, float(np.degrees(np.arcsin(np.clip(z, -1, 1))))


def vector(one: Vectors) -> sg.UnitVector3d:
    return sg.UnitVector3d(*(float(part) for part in one))


def polygon(vertices: Vectors) -> sg.ConvexPolygon:
    return sg.ConvexPolygon.convexHull([vector(one) for one in vertices])


def disjoint(one: sg.Region, other: sg.Region) -> bool:
    return bool(one.relate(other) & sg.DISJOINT)


def distance(one: Vectors, other: Vectors, steps: int = 150) -> float:
    """Degrees between the outlines of two polygons, by points along them: a little too much, never too little."""
    along = np.linspace(0, 1, steps)[:, None]

    def points(vertices: Vectors) -> Vectors:
        sides = [(1 - along) * p + along * q for p, q in zip(vertices, np.roll(vertices, -1, axis=0), strict=True)]
        every = np.concatenate(sides)
        return np.asarray(every / np.linalg.norm(every, axis=1)[:, None])

    a, b = points(one), points(other)
    chords = np.sqrt(np.maximum(((a[:, None] - b[None]) ** 2).sum(axis=2).min(), 0))
    return float(np.degrees(2 * np.arcsin(min(chords / 2, 1))))
