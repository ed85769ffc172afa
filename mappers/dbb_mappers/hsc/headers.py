"""What the header of an HSC raw means, and what follows from metadata once they are known."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping

from dbb.errors import HeaderError

_EXPOSURE = re.compile(r"HSCE([0-9]{8})")  # since 2016-06-14
_OLD_EXPOSURE = re.compile(r"HSC([A-Z])([0-9]{6})00")
_FRAME = re.compile(r"HSC([A-Z])([0-9]{6})[0-9]{2}")
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T.*)?")
_FILTER = re.compile(r"[A-Z0-9.+_-]+")
_FIRST_DAY = dt.date(2012, 1, 1)  # pointings count days from here
_FIRST_MJD = 55927  # the same day
_CCDS = range(112)
# In the second commissioning run, pointings 391 to 404, the readout gave these CCDs wrong numbers.
_SECOND_RUN = range(391, 405)
_SECOND_RUN_CCDS = {107: 105, 108: 110, 112: 106, 113: 107, 114: 108, 115: 109}


def translate(header: Mapping[str, object]) -> dict[str, object]:
    """Return the metadata of a raw, one value for each column of the filetype ``hsc_raw``.

    Parameters
    ----------
    header
        Cards of the primary and of the image header, as one.

    Returns
    -------
    dict
        By column name. Dates are texts ``YYYY-MM-DD``; exposure time in seconds, position angle in degrees,
        temperature in degrees Celsius.

    Raises
    ------
    HeaderError
        If a card is missing or holds what it must not; ``key`` names it.
    """
    date = _date(header)
    pointing = _pointing(header, date)
    return {
        "field": _field(header),
        "visit": _visit(header),
        "ccd": _ccd(header, pointing),
        "pointing": pointing,
        "filter": _filter(header),
        "proposal": _text(header, "PROP-ID"),
        "dateObs": date.isoformat(),
        "taiObs": date.isoformat(),
        "expTime": _number(header, "EXPTIME"),
        "pa": _number(header, "INST-PA"),
        "autoguider": _integer(header, "T_AG", default=0),
        "ccdTemp": _number(header, "T_CCDTV", default=0.0),  # since the third commissioning run
        "config": _text(header, "T_CFGFIL"),
        "frameId": _text(header, "FRAMEID"),
        "expId": _text(header, "EXP-ID"),
        "dataType": _text(header, "DATA-TYP"),
    }


def derive(known: Mapping[str, object]) -> dict[str, object]:
    """Return the columns that follow from `known` and are not in it: taiObs and pointing from dateObs.

    Examples
    --------
    >>> derive({"visit": 903334, "dateObs": "2013-06-17"})
    {'taiObs': '2013-06-17', 'pointing': 533}
    """
    given = known.get("dateObs")
    if given is None:
        return {}
    date = dt.date.fromisoformat(str(given)[:10])
    found = {"taiObs": date.isoformat(), "pointing": (date - _FIRST_DAY).days}
    return {name: value for name, value in found.items() if known.get(name) is None}


def _card(header: Mapping[str, object], key: str) -> object:
    value = header.get(key)
    if value is None:
        raise HeaderError(key, "is missing")
    return value


def _text(header: Mapping[str, object], key: str) -> str:
    value = str(_card(header, key)).strip()
    if not value:
        raise HeaderError(key, "is empty")
    return value


def _number(header: Mapping[str, object], key: str, default: float | None = None) -> float:
    if default is not None and header.get(key) is None:
        return default
    value = _card(header, key)
    try:
        number = float(str(value))
    except ValueError:
        raise HeaderError(key, f"expected a number, not {value!r}") from None
    if not math.isfinite(number):
        raise HeaderError(key, f"expected a finite number, not {value!r}")
    return number


def _integer(header: Mapping[str, object], key: str, default: int | None = None) -> int:
    if default is not None and header.get(key) is None:
        return default
    value = _card(header, key)
    if isinstance(value, bool):  # T_AG is a logical in some headers
        return int(value)
    number = _number(header, key)
    if not number.is_integer():
        raise HeaderError(key, f"expected an integer, not {value!r}")
    return int(number)


def _field(header: Mapping[str, object]) -> str:
    target = _text(header, "OBJECT")
    return "UNKNOWN" if target == "#" else re.sub(r"[^A-Za-z0-9_]", "_", target).upper()


def _visit(header: Mapping[str, object]) -> int:
    exposure = _text(header, "EXP-ID")
    match = _EXPOSURE.fullmatch(exposure)
    if match is not None:
        return int(match[1])
    match = _OLD_EXPOSURE.fullmatch(exposure)
    if match is None:
        raise HeaderError(
            "EXP-ID", f"{exposure!r} is no exposure: expected HSCE and 8 digits, or HSC, letter, 6 digits, 00"
        )
    number = int(match[2])
    if number == 0:  # not filled in; the 112 frames of a visit take two hundreds, the even one names it
        frame = _text(header, "FRAMEID")
        match = _FRAME.fullmatch(frame)
        if match is None:
            raise HeaderError("FRAMEID", f"{frame!r} is no frame: expected HSC, a letter and 8 digits")
        number = int(match[2]) // 2 * 2
    return number + 1_000_000 * (ord(match[1]) - ord("A"))


def _date(header: Mapping[str, object]) -> dt.date:
    value = _text(header, "DATE-OBS")
    match = _DATE.fullmatch(value)
    try:
        return dt.date.fromisoformat(match[1] if match else "")
    except ValueError:
        raise HeaderError("DATE-OBS", f"expected a date YYYY-MM-DD, not {value!r}") from None


def _pointing(header: Mapping[str, object], date: dt.date) -> int:
    if header.get("MJD") is None:
        return (date - _FIRST_DAY).days
    return int(_number(header, "MJD")) - _FIRST_MJD


def _ccd(header: Mapping[str, object], pointing: int) -> int:
    written = _integer(header, "DET-ID")
    ccd = _SECOND_RUN_CCDS.get(written, written) if pointing in _SECOND_RUN else written
    if ccd not in _CCDS:
        raise HeaderError("DET-ID", f"{written} is no CCD of HSC: expected 0 to {_CCDS[-1]}")
    return ccd


def _filter(header: Mapping[str, object]) -> str:
    name = _text(header, "FILTER01").upper()
    if not _FILTER.fullmatch(name):
        raise HeaderError("FILTER01", f"{name!r} cannot be a filter: it becomes part of file names")
    return name
