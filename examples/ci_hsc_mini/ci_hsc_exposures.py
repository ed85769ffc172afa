"""The 33 exposures of LSST's ci_hsc test data: names, data ids, headers and places on the sky.

The names and data ids are those of the real data set. Its README says which ccds each visit has, not which file holds
which ccd; only ``HSCA90333426`` (visit 903334, ccd 23) is known from its header. The table below is the assignment of
this miniature: the last two digits of a name always mean the same ccd, which the visits that share ccds almost
determine (26 is 23, so 30 is 16, 31 is 100 and 27 is 22); what they leave open is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from astropy.io import fits

_CCD_OF_SUFFIX = {
    24: 25,
    25: 24,
    26: 23,
    27: 22,
    28: 18,
    29: 17,
    30: 16,
    31: 100,
    36: 10,
    37: 11,
    38: 12,
    42: 4,
    43: 5,
    44: 6,
    53: 0,
    54: 1,
}

# A second half of the camera is numbered as the odd exposure after the visit: HSCA90334336 belongs to visit 903342.
_SUFFIXES = {
    "HSCA903334": (26, 27, 30, 31),
    "HSCA903336": (25, 29),
    "HSCA903338": (24, 28),
    "HSCA903342": (31,),
    "HSCA903343": (36, 42),
    "HSCA903345": (37, 43, 53),
    "HSCA903347": (38, 44, 54),
    "HSCA903986": (26, 27, 30, 31),
    "HSCA903988": (25, 26, 29, 30),
    "HSCA903990": (24, 28),
    "HSCA904010": (31,),
    "HSCA904011": (36, 42),
    "HSCA904015": (38, 44, 54),
}


@dataclass(frozen=True, slots=True)
class Visit:
    """What the ccds of one visit share.

    Parameters
    ----------
    number
        The visit, an even exposure number.
    filter
        Physical filter as the registry spells it, such as ``HSC-R``.
    mjd
        Whole Modified Julian Date of the exposure.
    date
        The same day as ``YYYY-MM-DD``.
    seconds
        UTC seconds of that day at which the shutter opened.
    ra, dec
        Boresight in degrees.
    """

    number: int
    filter: str
    mjd: int
    date: str
    seconds: float
    ra: float
    dec: float

    @property
    def pointing(self) -> int:
        """Days since 2012-01-01, which HSC calls the pointing."""
        return self.mjd - 55927


@dataclass(frozen=True, slots=True)
class Exposure:
    """One raw file of one ccd."""

    name: str
    visit: Visit
    ccd: int


_R_DAY = ("HSC-R", 56460, "2013-06-17")
_I_DAY = ("HSC-I", 56598, "2013-11-02")

# Day, start and boresight of 903334 are real. The other starts and boresights are ours: they bring the ccds that each
# visit has to the neighbourhood that 903334 covers, off by some arcminutes as a dither is; 904010 is placed so that
# patch 8,7 gets its ccds 10 and 4 but not 100.
VISITS: dict[int, Visit] = {
    visit.number: visit
    for visit in (
        Visit(903334, *_R_DAY, 48516.107, 320.249933333, 1.94444444444e-05),
        Visit(903336, *_R_DAY, 48591.2, 320.6660, 0.0200),
        Visit(903338, *_R_DAY, 48666.4, 320.6580, -0.0150),
        Visit(903342, *_R_DAY, 48817.3, 320.3050, 0.1350),
        Visit(903344, *_R_DAY, 48892.5, 320.5310, 0.2750),
        Visit(903346, *_R_DAY, 48967.8, 320.7920, 0.2350),
        Visit(903986, *_I_DAY, 20412.5, 320.2550, 0.0040),
        Visit(903988, *_I_DAY, 20487.7, 320.4650, -0.0060),
        Visit(903990, *_I_DAY, 20562.9, 320.6600, 0.0120),
        Visit(904010, *_I_DAY, 21316.4, 320.3140, 0.1750),
        Visit(904014, *_I_DAY, 21467.1, 320.8050, 0.2650),
    )
}


def _exposure(stem: str, suffix: int) -> Exposure:
    number = int(stem.removeprefix("HSCA"))
    return Exposure(f"{stem}{suffix}", VISITS[number - number % 2], _CCD_OF_SUFFIX[suffix])


EXPOSURES: tuple[Exposure, ...] = tuple(
    _exposure(stem, suffix) for stem, suffixes in _SUFFIXES.items() for suffix in suffixes
)

# Row and column of each ccd, counted from the optical axis in ccd widths and heights. The steps between them are such
# that ccd 23 has exactly its real reference pixel.
_GRID = {
    0: (-7, -1.5),
    1: (-7, -0.5),
    4: (-6, -2.5),
    5: (-6, -1.5),
    6: (-6, -0.5),
    10: (-5, -2.5),
    11: (-5, -1.5),
    12: (-5, -0.5),
    16: (-4, -2.5),
    17: (-4, -1.5),
    18: (-4, -0.5),
    22: (-3, -3.5),
    23: (-3, -2.5),
    24: (-3, -1.5),
    25: (-3, -0.5),
    100: (-4, -3.5),
}
_STEP = (6368.5 / 3, 11017.833 / 2.5)
_DEGREES_PER_PIXEL = 4.72222222222222e-05

# Columns and rows of a mini raw, and how many real pixels each of its pixels spans along either axis.
RAW_SIZE = (64, 128)
RAW_BIN = 32
_SIZE = (RAW_SIZE[0] * RAW_BIN, RAW_SIZE[1] * RAW_BIN)


def _reference_pixel(ccd: int) -> tuple[float, float]:
    row, column = _GRID[ccd]
    return _SIZE[0] / 2 - row * _STEP[0], _SIZE[1] / 2 - column * _STEP[1]


def footprint(exposure: Exposure) -> tuple[float, float, float, float]:
    """Find the box on the sky that one exposure covers.

    Parameters
    ----------
    exposure
        Any of `EXPOSURES`.

    Returns
    -------
    tuple of float
        Least and greatest right ascension, least and greatest declination, in degrees.

    Notes
    -----
    So near the equator the sides of a ccd run along right ascension and declination to far less than a pixel.
    """
    x0, y0 = _reference_pixel(exposure.ccd)
    corners = [
        _deproject(exposure.visit, -_DEGREES_PER_PIXEL * (y - y0), _DEGREES_PER_PIXEL * (x - x0))
        for x in (0.5, _SIZE[0] + 0.5)
        for y in (0.5, _SIZE[1] + 0.5)
    ]
    ras, decs = zip(*corners, strict=True)
    return min(ras), max(ras), min(decs), max(decs)


def _deproject(visit: Visit, xi: float, eta: float) -> tuple[float, float]:
    """Turn tangent-plane degrees into right ascension and declination."""
    xi, eta, dec0 = math.radians(xi), math.radians(eta), math.radians(visit.dec)
    denominator = math.cos(dec0) - eta * math.sin(dec0)
    dec = math.atan2(math.sin(dec0) + eta * math.cos(dec0), math.hypot(xi, denominator))
    return visit.ra + math.degrees(math.atan2(xi, denominator)), math.degrees(dec)


def raw_header(exposure: Exposure, bin_size: int) -> fits.Header:
    """Write the header that HSC gives a raw, with a world coordinate system for larger pixels.

    Parameters
    ----------
    exposure
        Any of `EXPOSURES`.
    bin_size
        How many real pixels one pixel of the image spans, along either axis.

    Returns
    -------
    astropy.io.fits.Header
        All cards but those that describe the array.
    """
    return fits.Header([*_time_cards(exposure), *_sky_cards(exposure, bin_size), *_camera_cards(exposure)])


def _time_cards(exposure: Exposure) -> list[tuple[str, object]]:
    visit = exposure.visit
    start, end = visit.seconds - 0.068, visit.seconds + 32.388
    altitude = 68.80710558 - (visit.number - 903334) / 100
    return [
        ("BUNIT", "ADU"),
        ("TIMESYS", "UTC"),
        ("DATE-OBS", visit.date),
        ("UT-STR", _sexagesimal(start)),
        ("MJD-STR", _mjd(visit, start)),
        ("UT", _sexagesimal(visit.seconds)),
        ("MJD", _mjd(visit, visit.seconds)),
        ("UT-END", _sexagesimal(end)),
        ("MJD-END", _mjd(visit, end)),
        ("AIRMASS", round(1 / math.sin(math.radians(altitude)), 9)),
        ("AZIMUTH", 157.95888945),
        ("ALTITUDE", round(altitude, 8)),
        ("PROP-ID", "o13015"),
        ("FRAMEID", exposure.name),
        ("EXP-ID", f"HSCA{visit.number}00"),
        ("DATASET", "##NODATA##"),
        ("OBS-MOD", "IMAG"),
        ("OBS-ALOC", "Observation"),
        ("DATA-TYP", "OBJECT"),
        ("OBJECT", "STRIPE82L"),
    ]


def _sky_cards(exposure: Exposure, bin_size: int) -> list[tuple[str, object]]:
    visit = exposure.visit
    ra = _sexagesimal(visit.ra / 15 * 3600)
    dec = ("-" if visit.dec < 0 else "+") + _sexagesimal(abs(visit.dec) * 3600, digits=2)
    x0, y0 = ((pixel - 0.5) / bin_size + 0.5 for pixel in _reference_pixel(exposure.ccd))
    scale = float(f"{_DEGREES_PER_PIXEL * bin_size:.12e}")
    return [
        ("RA", ra),
        ("DEC", dec),
        ("RA2000", ra),
        ("DEC2000", dec),
        ("RADECSYS", "FK5"),
        ("EQUINOX", 2000.0),
        ("WCSAXES", 2),
        ("CTYPE1", "RA---TAN"),
        ("CRPIX1", round(x0, 6)),
        ("CRVAL1", visit.ra),
        ("CUNIT1", "degree"),
        ("CTYPE2", "DEC--TAN"),
        ("CRPIX2", round(y0, 6)),
        ("CRVAL2", visit.dec),
        ("CUNIT2", "degree"),
        ("CD1_1", 0.0),
        ("CD1_2", -scale),
        ("CD2_1", scale),
        ("CD2_2", 0.0),
        ("LONGPOLE", 180.0),
        ("WCS-ORIG", "Rough estimation"),
    ]


def _camera_cards(exposure: Exposure) -> list[tuple[str, object]]:
    visit = exposure.visit
    return [
        ("OBSERVAT", "NAOJ"),
        ("TELESCOP", "Subaru"),
        ("FOC-POS", "PRIME"),
        ("TELFOCUS", "P_OPT2"),
        ("FOC-VAL", 3.9),
        ("FILTER01", visit.filter[:4] + visit.filter[4:].lower()),
        ("EXPTIME", 30.0),
        ("INSTRUME", "Hyper Suprime-Cam"),
        ("DET-ID", exposure.ccd),
        ("DET-TMED", 0.0),
        ("GAIN", 0.0),
        ("BIN-FCT1", 1),
        ("BIN-FCT2", 1),
        ("WEATHER", "Fine"),
        ("SEEING", "0.00"),
        ("INR-STR", -20.645009),
        ("INST-PA", "0.000"),
        ("T_AG", False),
        ("T_CCDTV", -99.5),
        ("T_CFGFIL", "20130327.cfg"),
        ("T_SDOID", int(exposure.name[10:])),
        ("T_CCDSN", f"{exposure.ccd + 53:03d}"),
        ("T_GAIN1", 3.35),
        ("T_GAIN2", 3.29),
        ("T_GAIN3", 3.42),
        ("T_GAIN4", 3.29),
    ]


def _mjd(visit: Visit, seconds: float) -> float:
    return round(visit.mjd + seconds / 86400, 10)


def _sexagesimal(seconds: float, digits: int = 3) -> str:
    """Write seconds of time, or of arc, as hours (degrees), minutes and seconds."""
    ticks = round(seconds * 10**digits)
    whole, fraction = divmod(ticks, 10**digits)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{fraction:0{digits}d}"
