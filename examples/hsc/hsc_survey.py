"""What was observed: eight visits of two ccds each, where they looked, and the four patches that they cover.

Visits, ccds and names of raws are among those of LSST's ci_hsc test data; the ccds that a visit has here are neighbours
in the camera. Where they look is ours: at the edge between the trixels 189584 and 189648, so that a job needs two
shards of the reference catalogue. Everything scales with the size of a ccd, so that a small survey has the same counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from astropy.io import fits
from astropy.wcs import WCS

FILTERS = ("HSC-R", "HSC-I")
PIXEL_SCALE = 0.168  # arcseconds, as HSC has it
EXPOSURE_TIME = 30.0
TRACT = 0
PATCHES = ("8x6", "9x6", "8x7", "9x7")  # the last ones of a tract of 10 x 8
FIELD_CENTRE = (320.9, -0.382)  # where the four patches meet, in degrees
GAINS = (3.35, 3.29, 3.42, 3.29)  # electrons per ADU of the four amplifiers, side by side along the first axis

# Row and column of each ccd, counted from the optical axis in ccd widths and heights. Rows go north, columns west.
_PLACES = {
    4: (-6, -2.5),
    5: (-6, -1.5),
    6: (-6, -0.5),
    10: (-5, -2.5),
    11: (-5, -1.5),
    12: (-5, -0.5),
    16: (-4, -2.5),
    17: (-4, -1.5),
    23: (-3, -2.5),
    24: (-3, -1.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What the ccds of one visit share.

    Parameters
    ----------
    number
        The visit, an even exposure number.
    filter
        Physical filter, such as ``HSC-R``.
    mjd, date, seconds
        Day of the exposure, twice, and UTC seconds of that day at which the shutter opened.
    raws
        Name of the raw of each ccd, the southern one first.
    dither
        Where the camera looked within the allowed range, two fractions from 0 to 1: west and north.
    rotation
        Degrees from north through east, besides the quarter turn that all visits have.
    wcs_error
        By how many arcseconds the header's coordinates are too far east and north.
    seeing
        Full width at half maximum of the PSF in arcseconds.
    ellipticity
        Stretch of the PSF along the first axis of the ccd and along its diagonal.
    extinction
        Magnitudes that clouds take.
    sky
        Electrons in a pixel.
    """

    number: int
    filter: str
    mjd: int
    date: str
    seconds: float
    raws: dict[int, str]
    dither: tuple[float, float]
    rotation: float
    wcs_error: tuple[float, float]
    seeing: float
    ellipticity: tuple[float, float]
    extinction: float
    sky: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """One ccd of one visit."""

    visit: Visit
    ccd: int

    @property
    def name(self) -> str:
        """What the raw is called, without suffix."""
        return self.visit.raws[self.ccd]


def _visit(number: int, seconds: float, raws: dict[int, str], *conditions: object) -> Visit:
    first = {"filter": "HSC-R", "mjd": 56460, "date": "2013-06-17"}
    second = {"filter": "HSC-I", "mjd": 56598, "date": "2013-11-02"}
    names = ("dither", "rotation", "wcs_error", "seeing", "ellipticity", "extinction", "sky")
    given = dict(zip(names, conditions, strict=True)) | (first if number < 903900 else second)
    return Visit(number=number, seconds=seconds, raws=raws, **given)  # type: ignore[arg-type]


# No two visits of a filter have the gap between their ccds at one place, and all have it above the lower patches.
VISITS = (
    _visit(903334, 48516.107, {16: "HSCA90333430", 23: "HSCA90333426"},
           (0.1, 0.1), 0.35, (0.52, -0.31), 0.62, (0.010, -0.006), 0.02, 372.0),
    _visit(903342, 48817.3, {4: "HSCA90334342", 10: "HSCA90334336"},
           (1.0, 0.4), -0.80, (-0.43, 0.71), 0.68, (-0.012, 0.009), 0.11, 361.0),
    _visit(903344, 48892.5, {5: "HSCA90334543", 11: "HSCA90334537"},
           (0.0, 0.7), 0.90, (0.28, 0.25), 0.58, (0.015, 0.004), 0.05, 355.0),
    _visit(903346, 48967.8, {6: "HSCA90334744", 12: "HSCA90334738"},
           (0.6, 1.0), -0.20, (-0.36, -0.82), 0.74, (-0.004, -0.014), 0.28, 390.0),
    _visit(903986, 20412.5, {16: "HSCA90398630", 23: "HSCA90398626"},
           (0.9, 0.1), -0.55, (0.61, 0.47), 0.56, (0.006, 0.012), 0.00, 910.0),
    _visit(903988, 20487.7, {17: "HSCA90398829", 24: "HSCA90398825"},
           (0.0, 1.0), 0.15, (-0.29, -0.22), 0.60, (-0.011, 0.003), 0.07, 875.0),
    _visit(904010, 21316.4, {4: "HSCA90401142", 10: "HSCA90401136"},
           (0.4, 0.4), 0.75, (0.09, -0.64), 0.66, (0.008, -0.010), 0.19, 940.0),
    _visit(904014, 21467.1, {6: "HSCA90401544", 12: "HSCA90401538"},
           (1.0, 0.7), -1.00, (-0.74, 0.38), 0.71, (-0.014, -0.005), 0.09, 890.0),
)  # fmt: skip

EXPOSURES = tuple(Exposure(visit, ccd) for visit in VISITS for ccd in visit.raws)


@dataclass(frozen=True)
class Geometry:
    """Sizes and places of everything, from the width of a ccd.

    Parameters
    ----------
    size
        Width of a ccd in pixels, a multiple of 64; it is twice as high.
    """

    size: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a ccd."""
        return 2 * self.size, self.size

    @property
    def gap(self) -> int:
        """Pixels between neighbouring ccds."""
        return self.size // 32

    @property
    def patch_inner(self) -> int:
        """Pixels of a patch's inner region along each axis."""
        return self.size * 17 // 16

    @property
    def patch_border(self) -> int:
        """Pixels by which a patch goes beyond that."""
        return self.size * 3 // 64

    @property
    def footprint(self) -> tuple[float, float, float, float]:
        """First and last column, and first and last row, in the tract's pixels, that any ccd may reach."""
        left, bottom = 8 * self.patch_inner + self.patch_border, 6 * self.patch_inner + self.patch_border
        side = 2 * self.size + 2 * self._margin + self._dither
        return left, left + side, bottom, bottom + side + self.gap

    # Visits stay clear of the patches 7x6 and 8x5, whatever their rotation and the error of their coordinates.
    @property
    def _margin(self) -> float:
        return 8 + self.size / 48

    @property
    def _dither(self) -> float:
        return self.size * 70 / 512

    @cached_property
    def tract(self) -> WCS:
        """The tract's plane; its first pixel is at 0."""
        ra, dec = self._tract_centre
        scale = PIXEL_SCALE / 3600
        return _tan((ra, dec), (5 * self.patch_inner + 0.5, 4 * self.patch_inner + 0.5), ((-scale, 0.0), (0.0, scale)))

    @property
    def _tract_centre(self) -> tuple[float, float]:
        step = self.patch_inner * PIXEL_SCALE / 3600
        ra, dec = FIELD_CENTRE
        return round(ra + 4 * step / math.cos(math.radians(dec)), 6), round(dec - 3 * step, 6)

    def skymap(self) -> str:
        """Return the sky map as ``dbb overlaps compute --skymap`` reads it."""
        ra, dec = self._tract_centre
        return f"""\
# One tract of 10 x 8 patches. The visits cover its last four, 8x6, 9x6, 8x7 and 9x7, and touch no other.
name = "4patch"
type = "explicit"
pixel_scale = {PIXEL_SCALE}
patch_inner = {self.patch_inner}
patch_border = {self.patch_border}

[[tracts]]
id = {TRACT}
ra = {ra}
dec = {dec}
patches = [10, 8]
"""

    def offset(self, ccd: int) -> tuple[float, float]:
        """Return where the middle of a ccd is in the camera, in pixels from the optical axis along both axes."""
        row, column = _PLACES[ccd]
        return row * (self.size + self.gap), column * (2 * self.size + self.gap)

    def true_wcs(self, exposure: Exposure) -> WCS:
        """Return where an exposure really looked."""
        return self._wcs(exposure, self._boresight(exposure.visit))

    def header_wcs(self, exposure: Exposure) -> WCS:
        """Return where its header says that it looked."""
        ra, dec = self._boresight(exposure.visit)
        east, north = exposure.visit.wcs_error
        return self._wcs(exposure, (ra + east / 3600 / math.cos(math.radians(dec)), dec + north / 3600))

    def _wcs(self, exposure: Exposure, boresight: tuple[float, float]) -> WCS:
        across, up = self.offset(exposure.ccd)
        reference = (self.size / 2 + 0.5 - across, self.size + 0.5 - up)
        return _tan(boresight, reference, _turned(exposure.visit.rotation))

    def _boresight(self, visit: Visit) -> tuple[float, float]:
        """Point the camera such that the middle between the two ccds is where the dither wants it."""
        left, _, bottom, _ = self.footprint
        side = self._margin + self.size
        west, north = (fraction * self._dither for fraction in visit.dither)
        wanted = self.tract.wcs_pix2world([[left + side + west, bottom + side + self.gap / 2 + north]], 0)[0]
        places = [self.offset(ccd) for ccd in visit.raws]
        middle = [sum(axis) / len(places) for axis in zip(*places, strict=True)]
        ra, dec = wanted
        for _ in range(6):  # each step takes the error down by the square of the distance in radians
            found = _tan((ra, dec), (0.0, 0.0), _turned(visit.rotation)).wcs_pix2world([middle], 1)[0]
            ra, dec = ra + wanted[0] - found[0], dec + wanted[1] - found[1]
        return round(float(ra), 9), round(float(dec), 9)


def _turned(rotation: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return degrees per pixel: the first axis goes north and the second west, turned from north through east."""
    scale = PIXEL_SCALE / 3600
    sine, cosine = math.sin(math.radians(rotation)), math.cos(math.radians(rotation))
    return (scale * sine, -scale * cosine), (scale * cosine, scale * sine)


def _tan(crval: tuple[float, float], crpix: tuple[float, float], cd: tuple[tuple[float, float], ...]) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = crval
    wcs.wcs.crpix = crpix
    wcs.wcs.cd = cd
    wcs.wcs.set()
    return wcs


def raw_header(geometry: Geometry, exposure: Exposure) -> fits.Header:
    """Write the cards that HSC gives a raw, but those that describe the array."""
    return fits.Header([*_time_cards(exposure), *_sky_cards(geometry, exposure), *_camera_cards(exposure)])


def _time_cards(exposure: Exposure) -> list[tuple[str, object]]:
    visit = exposure.visit
    start, end = visit.seconds - 0.068, visit.seconds + 32.388
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
        ("AIRMASS", round(1.07 + (visit.number - 903334) / 1e4, 4)),
        ("PROP-ID", "o13015"),
        ("FRAMEID", exposure.name),
        ("EXP-ID", f"HSCA{visit.number}00"),
        ("DATASET", "##NODATA##"),
        ("OBS-MOD", "IMAG"),
        ("OBS-ALOC", "Observation"),
        ("DATA-TYP", "OBJECT"),
        ("OBJECT", "STRIPE82L"),
    ]


def _sky_cards(geometry: Geometry, exposure: Exposure) -> list[tuple[str, object]]:
    wcs = geometry.header_wcs(exposure).wcs
    ra = _sexagesimal(wcs.crval[0] / 15 * 3600)
    dec = ("-" if wcs.crval[1] < 0 else "+") + _sexagesimal(abs(wcs.crval[1]) * 3600, digits=2)
    cards: list[tuple[str, object]] = [
        ("RA", ra),
        ("DEC", dec),
        ("RA2000", ra),
        ("DEC2000", dec),
        ("RADECSYS", "FK5"),
        ("EQUINOX", 2000.0),
        ("WCSAXES", 2),
        ("LONGPOLE", 180.0),
        ("WCS-ORIG", "Rough estimation"),
    ]
    for axis, name in enumerate(("RA---TAN", "DEC--TAN")):
        cards += [
            (f"CTYPE{axis + 1}", name),
            (f"CRPIX{axis + 1}", float(wcs.crpix[axis])),
            (f"CRVAL{axis + 1}", round(float(wcs.crval[axis]), 9)),
            (f"CUNIT{axis + 1}", "degree"),
            (f"CD{axis + 1}_1", float(f"{wcs.cd[axis][0]:.12e}")),
            (f"CD{axis + 1}_2", float(f"{wcs.cd[axis][1]:.12e}")),
        ]
    return cards


def _camera_cards(exposure: Exposure) -> list[tuple[str, object]]:
    visit = exposure.visit
    return [
        ("OBSERVAT", "NAOJ"),
        ("TELESCOP", "Subaru"),
        ("FOC-POS", "PRIME"),
        ("TELFOCUS", "P_OPT2"),
        ("FILTER01", visit.filter[:4] + visit.filter[4:].lower()),
        ("EXPTIME", EXPOSURE_TIME),
        ("INSTRUME", "Hyper Suprime-Cam"),
        ("DET-ID", exposure.ccd),
        ("DET-TMED", 0.0),
        ("GAIN", 0.0),  # as HSC writes it: the gains are those of the amplifiers
        ("BIN-FCT1", 1),
        ("BIN-FCT2", 1),
        ("WEATHER", "Fine"),
        ("SEEING", "0.00"),
        ("INST-PA", f"{visit.rotation:.3f}"),
        ("T_AG", False),
        ("T_CCDTV", -99.5),
        ("T_CFGFIL", "20130327.cfg"),
        ("T_SDOID", int(exposure.name[10:])),
        ("T_CCDSN", f"{exposure.ccd + 53:03d}"),
        *((f"T_GAIN{number}", gain) for number, gain in enumerate(GAINS, start=1)),
    ]


def _mjd(visit: Visit, seconds: float) -> float:
    return round(visit.mjd + seconds / 86400, 10)


def _sexagesimal(seconds: float, digits: int = 3) -> str:
    """Write seconds of time, or of arc, as hours (degrees), minutes and seconds."""
    ticks = round(seconds * 10**digits)
    whole, fraction = divmod(ticks, 10**digits)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{fraction:0{digits}d}"
