"""Metadata and corners on the sky from the headers of FITS files; no pixel is read."""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar, cast

from dbb.errors import HeaderError, IntegrityError, PluginError
from dbb.filetypes import CONVERTERS, Column, Filetype
from dbb.hookspecs import hookimpl
from dbb.plugins import translate_header
from dbb.storage import is_local, local_path
from dbb_plugins._fits_cards import CARD, Header, parsed_header, plain_header
from dbb_plugins._fits_corners import corners_of, is_wcs, quiet

__all__ = ["dbb_gather_metadata"]

_NAME = re.compile(r"\.fits?(\.[gf]z)?$", re.IGNORECASE)
_BLOCK = 2880
_END = re.compile(rb"(?s:.{%d})*?END {%d}" % (CARD, CARD - 3))
_LONGEST_HEADER = 16 << 20
_STRUCTURAL = re.compile(
    r"XTENSION|BITPIX|NAXIS\d*|[PG]COUNT|BSCALE|BZERO|BLANK|EXTNAME|EXTVER|EXTLEVEL|INHERIT|CHECKSUM|DATASUM"
)
_COMPRESSED = re.compile(r"Z(BITPIX|NAXIS\d*)")
_T = TypeVar("_T")


@hookimpl
def dbb_gather_metadata(uri: str, filetype: Filetype) -> dict[str, object] | None:
    """Return what the headers of a FITS file say of its columns; files with other names are passed on.

    Where the primary HDU has no data, its header and that of the first image count as one: cards of the primary win,
    except those that describe the pixels (structure, scaling, world coordinates).

    Raises
    ------
    HeaderError
        If a required card is missing, or a card does not fit its column.
    IntegrityError
        If the file cannot be read as FITS, or its image is cut short.
    PluginError
        If the filetype wants a camera and none translates it.

    Notes
    -----
    About 1.5 ms for a header of 80 cards with world coordinates; only headers are read, and of them what is needed.
    """
    name = uri.rpartition("/")[2]
    if not _NAME.search(name):
        return None
    primary, image = _read(uri, name)
    found = _columns(primary, image, filetype, name) if any(one.source != "name" for one in filetype.columns) else {}
    found |= _of_each(uri, filetype, name)
    corners = corners_of(primary, image, name)
    return found if corners is None else found | {"corners": corners}


def _columns(primary: Header, image: Header | None, filetype: Filetype, name: str) -> dict[str, object]:
    header = _merged(primary, image)
    found = _translated(header, filetype)
    for column in filetype.columns:
        if column.source.startswith("header:"):
            value = _value(header, column, name)
            if value is not None:
                found[column.name] = value
    return found


def _of_each(uri: str, filetype: Filetype, name: str) -> dict[str, object]:
    """Return the columns that a card of every HDU gives, as ``value:HDU`` pairs."""
    cards = {
        one: one.source.removeprefix("each:").upper() for one in filetype.columns if one.source.startswith("each:")
    }
    if not cards:
        return {}
    headers = _guarded(uri, name, lambda stream, size: list(_all_headers(stream, size)))
    found: dict[str, object] = {}
    for column, card in cards.items():
        pairs = [f"{header.values[card]}:{number}" for number, header in enumerate(headers) if card in header.values]
        if not pairs and column.required:
            raise HeaderError(card, f"is missing in every HDU of {name}; column {column.name} needs it")
        found |= {column.name: " ".join(pairs)} if pairs else {}
    return found


def _translated(header: dict[str, object], filetype: Filetype) -> dict[str, object]:
    if all(column.source != "mapper" for column in filetype.columns):
        return {}
    found = translate_header(header, filetype)
    if found is None:
        raise PluginError(
            f"no camera translates headers of filetype {filetype.name}: see 'dbb plugins' for those that are loaded, "
            "or give its columns another source than mapper"
        )
    return dict(found)


def _value(header: Mapping[str, object], column: Column, name: str) -> object:
    keys = column.source.removeprefix("header:").upper().split("|")
    key = next((key for key in keys if key in header), None)
    if key is None:
        if column.required:
            raise HeaderError("|".join(keys), f"is missing in {name}; column {column.name} needs it")
        return None
    value = header[key]
    if column.type == "date" and isinstance(value, str):
        value = value.partition("T")[0]  # FITS writes dates with or without the time of day
    try:
        return CONVERTERS[column.type](value)
    except (ValueError, TypeError, OverflowError) as error:
        raise HeaderError(key, f"{value!r} in {name} does not fit column {column.name}: {error}") from error


def _read(uri: str, name: str) -> tuple[Header, Header | None]:
    """Return the primary header and, if the primary HDU has no data, the header of the first image if there is one."""
    return _guarded(uri, name, _headers)


def _guarded(uri: str, name: str, read: Callable[[BinaryIO, int | None], _T]) -> _T:
    try:
        with _opened(uri) as (stream, size), quiet():
            return read(stream, size)
    except ImportError:
        raise
    except Exception as error:  # arbitrary bytes make astropy, zlib and fsspec raise all sorts of errors
        raise IntegrityError(f"{name} cannot be read as FITS: {str(error) or type(error).__name__}") from error


@contextlib.contextmanager
def _opened(uri: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open the file; give its size too, where that is known without reading it."""
    with contextlib.ExitStack() as stack:
        if is_local(uri):
            stream: Any = stack.enter_context(open(local_path(uri), "rb"))  # noqa: PTH123  # called per file
            size: int | None = os.fstat(stream.fileno()).st_size
        else:
            import fsspec

            stream = stack.enter_context(fsspec.open(uri, "rb"))
            size = getattr(stream, "size", None)
        if uri.lower().endswith(".gz"):
            stream, size = stack.enter_context(gzip.GzipFile(fileobj=stream)), None
        yield cast("BinaryIO", stream), size


def _headers(stream: BinaryIO, size: int | None) -> tuple[Header, Header | None]:
    headers = _all_headers(stream, size)
    primary = next(headers)
    if primary.data_length:
        return primary, None
    return primary, next((header for header in headers if header.is_image), None)


def _all_headers(stream: BinaryIO, size: int | None) -> Iterator[Header]:
    header = _next_header(stream, b"SIMPLE  =")
    if header is None:
        raise ValueError("it does not begin with SIMPLE")
    while header is not None:
        length = header.data_length
        end = stream.tell() + length
        if size is not None and end > size:
            raise ValueError(f"it is cut short: it has {size} bytes, its headers tell of {end}")
        yield header
        stream.seek(math.ceil(length / _BLOCK) * _BLOCK, os.SEEK_CUR)
        header = _next_header(stream, b"XTENSION=")


def _next_header(stream: BinaryIO, start: bytes) -> Header | None:
    """Read one header; None if what follows does not begin with `start`."""
    from astropy.io import fits

    text = bytearray()
    while block := _read_fully(stream, _BLOCK):
        if not text and not block.startswith(start):
            return None
        text += block
        if _END.match(block):
            return plain_header(text) or parsed_header(fits.Header.fromstring(bytes(text)).cards)
        if len(text) > _LONGEST_HEADER:
            break
    if not text:
        return None
    raise ValueError("a header has no END card")


def _read_fully(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    while len(data) < count and (more := stream.read(count - len(data))):  # a web server's stream gives what it has
        data += more
    return data


def _merged(primary: Header, image: Header | None) -> dict[str, object]:
    if image is None:
        return dict(primary.values)
    own = dict(image.values)
    if image.is_compressed:  # the table that holds it is nobody's business
        own = own | {key[1:]: value for key, value in own.items() if _COMPRESSED.fullmatch(key)}
    pixels = {key: value for key, value in own.items() if _STRUCTURAL.fullmatch(key) or is_wcs(key)}
    return own | dict(primary.values) | pixels
