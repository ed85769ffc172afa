"""The coarse index of images: the column ``cell`` of ``image_corners``.

Images are put into classes by size, and for each class the sky is cut into zones of declination that are as high as its
largest images. An image's cell is one number made of its class, the zone of the centre of its bounding circle, and that
centre's right ascension. The images near a region are then, for each class in use and each zone in reach, those whose
cell is in a range; the exact test comes after. One column with an ordinary index serves images of all sizes. This is
the zones algorithm (Gray, Nieto-Santisteban and Szalay 2007, MSR-TR-2006-52) in a single integer.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dbb.sky.polygons import bounding_circles, corner_polygons

Cells = npt.NDArray[np.int64]

CLASSES = range(49)  # the last is for images up to 80 arcseconds; smaller ones gain nothing from lower zones
CLASS_BITS = 44  # below a cell's class

_RA_BITS = 28
_ZONE_BITS = CLASS_BITS - _RA_BITS
_RA_STEPS = 1 << _RA_BITS
_MOST_ZONES = 200
_SLACK = 1e-9  # degrees, far above the rounding of what is computed here


def image_cells(corners: npt.ArrayLike) -> Cells:
    """Return the cells of images.

    Parameters
    ----------
    corners
        Shape (N, 10): the fields of `dbb.sky.Corners` in their order, in degrees.

    Returns
    -------
    Cells
        Shape (N,), each of the last of `CLASSES` whose `largest_radius` is not less than the image's.
    """
    centres, radii = bounding_circles(corner_polygons(corners))
    largest = np.array([largest_radius(one) for one in CLASSES])
    classes = CLASSES[-1] - np.searchsorted(largest[:0:-1], radii).astype(np.int64)
    x, y, z = centres.T
    ra = np.degrees(np.arctan2(y, x)) % 360.0
    zones = ((np.degrees(np.arctan2(z, np.hypot(x, y))) + 90.0) / largest[classes]).astype(np.int64)
    steps = np.minimum((ra / 360.0 * _RA_STEPS).astype(np.int64), _RA_STEPS - 1)
    cells: Cells = ((classes << _ZONE_BITS | zones) << _RA_BITS) | steps
    return cells


def largest_radius(number: int) -> float:
    """Return the bounding radius, in degrees, of the largest images of a class; also the height of its zones.

    Four classes halve it: the ccds of a camera, which are about equally large, then are in one or two, and the radius
    that must be allowed for them is a tenth larger than theirs on average.
    """
    return 90 / 2 ** (number / 4) if number else 180.0


def class_cells(number: int) -> tuple[int, int]:
    """Return the first and last cell of a class.

    Examples
    --------
    >>> class_cells(0), class_cells(1)[0]
    ((0, 17592186044415), 17592186044416)
    """
    size = 1 << CLASS_BITS
    return number * size, (number + 1) * size - 1


def cell_ranges(ra: float, dec: float, radius: float, number: int) -> list[tuple[int, int]]:
    """Return where the images near a circle are in the index.

    Parameters
    ----------
    ra, dec, radius
        The circle, in degrees.
    number
        One of `CLASSES`.

    Returns
    -------
    list
        First and last cell of ranges that do not overlap, in order. Every image of this class that is no farther from
        the circle's centre than the radius has its cell in one of them; that of an image farther away may be, too.

    Notes
    -----
    Microseconds for each zone in reach; beyond 200 zones, which only a region much larger than the images has, these
    are taken whole.
    """
    # a point of such an image is within the radius, and the centre of its bounding circle as much farther at most
    height = largest_radius(number)
    reach = radius + height + _SLACK
    first = max(math.floor((dec - reach + 90.0) / height), 0)
    last = math.floor((min(dec + reach, 90.0) + 90.0) / height)
    base = number << _ZONE_BITS
    if last - first >= _MOST_ZONES:
        return [(base + first << _RA_BITS, (base + last + 1 << _RA_BITS) - 1)]
    ranges = []
    for zone in range(first, last + 1):
        low = zone * height - 90.0
        half = _half_width(dec, reach, low - _SLACK, low + height + _SLACK)
        start = base + zone << _RA_BITS
        ranges += [(start + begin, start + end) for begin, end in _steps(ra, half)]
    return ranges


def _half_width(dec: float, radius: float, low: float, high: float) -> float:
    """Return by how many degrees of right ascension a circle reaches from its centre between two declinations."""
    if abs(dec) + radius >= 90.0 - _SLACK:
        return 180.0
    # it is widest where a meridian touches it, which is nearer to the pole than its centre
    widest = math.degrees(math.asin(math.sin(math.radians(dec)) / math.cos(math.radians(radius))))
    at = math.radians(min(max(widest, low, dec - radius), high, dec + radius))
    centre, reach = math.radians(dec), math.radians(radius)
    cosine = (math.cos(reach) - math.sin(centre) * math.sin(at)) / (math.cos(centre) * math.cos(at))
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0))) + 1e-6


def _steps(ra: float, half: float) -> list[tuple[int, int]]:
    """Return the steps of right ascension around `ra`, in two parts where they go across 0."""
    if half >= 180.0:
        return [(0, _RA_STEPS - 1)]
    begin, end = (math.floor((ra + side) / 360.0 * _RA_STEPS) for side in (-half, half))
    begin, end = begin % _RA_STEPS, end % _RA_STEPS
    return [(begin, end)] if begin <= end else [(0, end), (begin, _RA_STEPS - 1)]
