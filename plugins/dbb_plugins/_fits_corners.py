"""Where on the sky an image lies, from the world coordinates in its header."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dbb.sky import Corners
from dbb_plugins._fits_cards import CARD, Header, astropy_card

_WCS_TEXT = re.compile(
    r"(CTYPE|CUNIT|CPDIS|CQDIS|D2IMDIS)\d|RADESYS|RADECSYS|WAT\d_\d+|(D[PQ]|D2IM)\d.*|PS\d_\d+|DATE-OBS"
)
_WCS_NUMBER = re.compile(
    r"WCSAXES|(CRPIX|CRVAL|CDELT|CROTA)\d|(CD|PC|PV)\d_\d+|PC\d{6}|LONPOLE|LATPOLE|EQUINOX|EPOCH|MJD-OBS"
    r"|[AB]P?_(ORDER|DMAX|\d_\d)"
)
_DISTORTED = re.compile(r"[AB]P?_|CPDIS|CQDIS|D[PQ]\d|D2IM|WAT\d|PV|PS\d")
_log = logging.getLogger(__name__)


@lru_cache(maxsize=4096)  # the headers of a job's files have the same keywords
def is_wcs(key: str) -> bool:
    """Return whether a card of this name has to do with world coordinates."""
    return _is_wcs_number(key) or bool(_WCS_TEXT.fullmatch(key))


@lru_cache(maxsize=4096)
def _is_wcs_number(key: str) -> bool:
    return bool(_WCS_NUMBER.fullmatch(key))


def corners_of(primary: Header, image: Header | None, name: str) -> Corners | None:
    """Return the corners of the image, or None if the headers do not tell them."""
    try:
        with quiet():
            return _on_sky(primary, image)
    except Exception as error:  # noqa: BLE001  # wcslib, astropy and its units each have errors of their own
        _log.debug("%s has no usable world coordinates: %s", name, error)
        return None


def _on_sky(primary: Header, image: Header | None) -> Corners | None:
    import numpy as np

    header = primary if image is None else image
    axis = "ZNAXIS" if header.is_compressed else "NAXIS"
    n1, n2 = header.number(f"{axis}1", 0), header.number(f"{axis}2", 0)
    if image is not None and "CTYPE1" not in image.cards:
        header = Header({**primary.cards, **image.cards}, {**primary.values, **image.values})
    needed = _wcs_cards(header) if n1 > 0 and n2 > 0 else None
    if needed is None:
        return None
    edges = [(0.5, 0.5), (n1 + 0.5, 0.5), (n1 + 0.5, n2 + 0.5), (0.5, n2 + 0.5)]
    pixels = np.array([((n1 + 1) / 2, (n2 + 1) / 2), *edges])
    found = _plain_world(header, needed, pixels) if all(isinstance(one, str) for one in needed) else None
    if found is None:
        wcs = _wcs(needed)
        if wcs is None:
            return None
        world = wcs.all_pix2world(pixels, 1)
        found = _icrs(wcs, world[:, wcs.wcs.lng], world[:, wcs.wcs.lat])
    ra, dec = found
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        return None
    ra = ra % 360.0 % 360.0  # the first of a tiny negative angle is 360
    return Corners(*np.column_stack([ra, dec]).ravel().tolist())


def _wcs_cards(header: Header) -> list[Any] | None:
    """Return the cards that tell where the image lies, or None.

    wcslib takes its defaults for what it cannot read: an image would land at (0, 0) or have pixels of a degree. So
    every number must be one, and position and scale must be there. It gets its own cards only, which is quicker.
    """
    needed = {key for key in header.cards if _is_wcs_number(key)}
    has_scale = any(key.startswith(("CD", "PC")) for key in needed)
    if not (has_scale and {"CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"} <= needed):
        return None
    numbers = {key: header.values.get(key) for key in needed}
    if not all(map(_is_number, numbers.values())) or _is_flat(numbers):
        return None
    return [card for key, card in header.cards.items() if is_wcs(key)]


def _plain_world(header: Header, cards: Sequence[str], pixels: Any) -> tuple[Any, Any] | None:
    """Return ICRS positions of pixels where wcslib alone can tell them: astropy's own layer takes ten times as long."""
    from astropy.wcs import Wcsprm

    kinds = {str(header.values.get(key, ""))[:5] for key in ("CTYPE1", "CTYPE2")}
    # without a frame and an equinox positions are ICRS
    frame = header.values.get("RADESYS", "" if {"RADECSYS", "EQUINOX", "EPOCH"} & set(header.cards) else "ICRS")
    axes = header.values.get("WCSAXES", 2)
    if kinds != {"RA---", "DEC--"} or frame != "ICRS" or axes != 2 or any(map(_DISTORTED.match, cards)):
        return None
    wcs = Wcsprm("".join([*cards, "END".ljust(CARD)]).encode("ascii"), relax=True)
    wcs.fix()
    wcs.set()
    if wcs.naxis != 2:
        return None
    world = wcs.p2s(pixels, 1)["world"]
    return world[:, wcs.lng], world[:, wcs.lat]


def _wcs(cards: Iterable[Any]) -> Any | None:
    """Return the celestial WCS of the first two axes, or None."""
    from astropy.io import fits
    from astropy.wcs import WCS

    wcs = WCS(fits.Header([astropy_card(card) for card in cards], copy=False))
    if {wcs.wcs.lng, wcs.wcs.lat} != {0, 1}:
        return None
    return wcs if wcs.naxis == 2 else wcs.sub([1, 2])


def _is_flat(numbers: Mapping[str, Any]) -> bool:
    """Whether the CD matrix is there and singular; astropy would quietly put ones into an empty row."""
    if not any(key.startswith("CD") and not key.startswith("CDELT") for key in numbers):
        return False
    matrix = [numbers.get(key, 0.0) for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
    return bool(matrix[0] * matrix[3] == matrix[1] * matrix[2])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _icrs(wcs: Any, lon: Any, lat: Any) -> tuple[Any, Any]:
    """Turn positions (degrees) in the frame of `wcs` into ICRS right ascension and declination."""
    import numpy as np
    from astropy import units as u
    from astropy.coordinates import FK4, FK5, ICRS, FK4NoETerms, Galactic, UnitSphericalRepresentation
    from astropy.wcs.utils import wcs_to_celestial_frame

    frame = wcs_to_celestial_frame(wcs)
    if isinstance(frame, ICRS):
        return lon, lat
    if isinstance(frame, FK5):
        a, d = np.radians(lon), np.radians(lat)
        x, y, z = _fk5_to_icrs(frame.equinox.jyear) @ [np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)]
        return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    if not isinstance(frame, FK4 | FK4NoETerms | Galactic):
        raise ValueError(f"positions in the frame {frame.name} need more than a header to be found on the sky")
    there = frame.realize_frame(UnitSphericalRepresentation(lon * u.deg, lat * u.deg)).transform_to(ICRS())
    return there.ra.deg, there.dec.deg


@lru_cache(maxsize=64)
def _fk5_to_icrs(equinox: float) -> Any:
    """Return the rotation matrix; going through astropy for each file would take a third of its time."""
    import numpy as np
    from astropy.coordinates import FK5, ICRS, CartesianRepresentation
    from astropy.time import Time

    axes = FK5(CartesianRepresentation(np.eye(3)), equinox=Time(equinox, format="jyear"))
    return axes.transform_to(ICRS()).cartesian.xyz.value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence astropy: cards of old or odd spelling are common, and what it cannot use counts as missing."""
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        yield
