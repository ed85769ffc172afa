"""Where an image looked: its four corners and centre on the sky."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Corners:
    """Centre and corners of an image in ICRS degrees, right ascension 0 to 360.

    Corners go round the image from its first pixel, along the first axis first. The names follow DESDM's image table.
    """

    ra_cent: float
    dec_cent: float
    rac1: float
    decc1: float
    rac2: float
    decc2: float
    rac3: float
    decc3: float
    rac4: float
    decc4: float
