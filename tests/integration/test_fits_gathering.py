"""What FITS files say of themselves: metadata from their headers, and corners that astropy agrees with."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pluggy
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from dbb import hookspecs
from dbb.errors import HeaderError, IntegrityError, PluginError
from dbb.filetypes import Column, Filetype
from dbb.sky import Corners
from dbb_plugins import fits as plugin
from dbb_plugins.fits import dbb_gather_metadata

STRUCTURE = ("SIMPLE", "XTENSION", "BITPIX", "EXTEND", "NAXIS", "BLANK", "BZERO", "Z")
TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 10.0,
    "CRPIX2": 20.0,
    "CRVAL1": 150.0,
    "CRVAL2": 2.2,
    "CD1_1": -4.7e-5,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 4.7e-5,
}


def filetype(*columns: Column, name: str = "thing") -> Filetype:
    return Filetype(name, None, name, columns, ())


EXPOSURE = Column("expTime", "float", "header:EXPTIME", required=True)


def image(**cards: object) -> fits.PrimaryHDU:
    header = fits.Header([("EXPTIME", 30.0), *((key.replace("__", "-"), value) for key, value in cards.items())])
    return fits.PrimaryHDU(np.zeros((40, 20), "i2"), header)


def written(path: Path, *hdus: Any) -> str:
    fits.HDUList(list(hdus)).writeto(path)
    return str(path)


def gathered(uri: str, *columns: Column) -> dict[str, Any]:
    found = dbb_gather_metadata(uri, filetype(*(columns or (EXPOSURE,))))
    assert found is not None
    return found


def corners_of(hdu: Any, path: Path) -> Corners | None:
    found: Corners | None = gathered(written(path, hdu)).get("corners")
    return found


def positions(corners: Corners) -> SkyCoord:
    """Centre and the four corners."""
    values = [getattr(corners, name) for name in Corners.__dataclass_fields__]
    return SkyCoord(values[0::2], values[1::2], unit="deg")


def by_astropy(header: fits.Header, n1: int, n2: int) -> SkyCoord:
    x = np.array([(n1 + 1) / 2, 0.5, n1 + 0.5, n1 + 0.5, 0.5])
    y = np.array([(n2 + 1) / 2, 0.5, 0.5, n2 + 0.5, n2 + 0.5])
    return WCS(header).pixel_to_world(x - 1, y - 1).icrs


def assert_same(found: Corners | None, expected: SkyCoord) -> None:
    assert found is not None
    assert positions(found).separation(expected).max() < 1e-6 * u.arcsec


@pytest.fixture(scope="module")
def real(shared: Path) -> fits.Header:
    """Header of a real raw, without what says how its pixels were stored."""
    header = fits.Header.fromtextfile(shared / "data/ci_hsc/HSCA90333426.hdr")
    return fits.Header([card for card in header.cards if not card.keyword.startswith(STRUCTURE)])


def modern(header: fits.Header) -> fits.Header:
    """Spell a real header as astropy wants it, so that it reads the world coordinates without a warning."""
    clean = header.copy()
    clean.rename_keyword("RADECSYS", "RADESYS")
    clean["CUNIT1"] = clean["CUNIT2"] = "deg"
    clean.rename_keyword("LONGPOLE", "LONPOLE")
    for key in ("DATE-OBS", "MJD-STR", "MJD-END"):
        del clean[key]
    return clean


def test_the_plugin_fits_its_hook() -> None:
    manager = pluggy.PluginManager("dbb")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()
    assert manager.hook.dbb_gather_metadata(uri="catalogue.parquet", filetype=filetype()) is None


@pytest.mark.parametrize("name", ["a.fits.txt", "a.txt", "fits", "a.fitsx", "a.fits.bz2"])
def test_files_with_other_names_are_passed_on_unopened(name: str) -> None:
    assert dbb_gather_metadata(f"/nowhere/{name}", filetype(EXPOSURE)) is None


@pytest.mark.parametrize("name", ["a.fits", "a.fit", "A.FITS", "a.fits.fz", "a.fit.fz"])
def test_fits_files_are_known_by_name(name: str, tmp_path: Path) -> None:
    assert gathered(written(tmp_path / name, image())) == {"expTime": 30.0}


def test_a_local_file_may_be_named_by_url(tmp_path: Path) -> None:
    assert gathered("file://" + written(tmp_path / "a.fits", image())) == {"expTime": 30.0}


def test_a_gzipped_file_is_read_through(tmp_path: Path) -> None:
    plain = Path(written(tmp_path / "a.fits", image(**TAN)))
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert gathered(str(packed)) == gathered(str(plain))


def test_a_remote_file_is_read_through_fsspec(tmp_path: Path) -> None:
    plain = Path(written(tmp_path / "a.fits", image(**TAN)))
    fsspec.filesystem("memory").pipe("/fits-gathering/a.fits", plain.read_bytes())
    assert gathered("memory://fits-gathering/a.fits") == gathered(str(plain))


def test_values_get_the_types_of_their_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", image(CCD=16.0, DATE__OBS="2013-06-17T13:28:36", FILTER="HSC-R  ", GOOD=True))
    found = gathered(
        path,
        Column("ccd", "int", "header:CCD"),
        Column("night", "date", "header:DATE-OBS"),
        Column("filter", "str", "header:filter"),
        Column("good", "bool", "header:GOOD"),
    )
    assert found == {"ccd": 16, "night": "2013-06-17", "filter": "HSC-R", "good": True}
    assert isinstance(found["ccd"], int)


def test_the_first_card_that_is_there_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", image(DET__ID=7))
    assert gathered(path, Column("ccd", "int", "header:CCDNUM|DET-ID|EXPTIME")) == {"ccd": 7}


def test_an_optional_card_that_is_missing_leaves_its_column_out(tmp_path: Path) -> None:
    assert gathered(written(tmp_path / "a.fits", image()), Column("ccd", "int", "header:CCD")) == {}


def test_columns_with_other_sources_are_not_gathered(tmp_path: Path) -> None:
    assert gathered(written(tmp_path / "a.fits", image(VISIT=1)), Column("visit", "int")) == {}


def test_a_required_card_that_is_missing_is_named_with_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "CORR-1.fits", image())
    with pytest.raises(HeaderError, match=r"header key AIRMASS: is missing in CORR-1\.fits; column x") as caught:
        gathered(path, Column("x", "float", "header:AIRMASS", required=True))
    assert caught.value.key == "AIRMASS"


def test_a_card_without_a_value_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", image(AIRMASS=fits.card.UNDEFINED))
    with pytest.raises(HeaderError, match=r"AIRMASS: is missing"):
        gathered(path, Column("x", "float", "header:AIRMASS", required=True))


def test_a_card_that_cannot_be_read_is_missing_and_the_rest_is_there(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "a.fits", image(AIRMASS=1.5)))
    path.write_bytes(path.read_bytes().replace(b"AIRMASS =                  1.5", b"AIRMASS =                1.5 6"))
    assert gathered(str(path), EXPOSURE, Column("x", "float", "header:AIRMASS")) == {"expTime": 30.0}


def test_a_value_that_does_not_fit_is_refused_with_key_file_and_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", image(CCD="sixteen"))
    with pytest.raises(HeaderError, match=r"CCD: 'sixteen' in a\.fits does not fit column ccd"):
        gathered(path, Column("ccd", "int", "header:CCD"))


def test_comments_are_no_values(tmp_path: Path) -> None:
    hdu = image()
    hdu.header["HISTORY"] = "made by hand"
    path = written(tmp_path / "a.fits", hdu)
    assert gathered(path, Column("x", "str", "header:HISTORY"), EXPOSURE) == {"expTime": 30.0}


def test_of_a_card_given_twice_the_first_counts(tmp_path: Path) -> None:
    hdu = image(CCD=1)
    hdu.header.append(("CCD", 2), end=True)
    assert gathered(written(tmp_path / "a.fits", hdu), Column("ccd", "int", "header:CCD")) == {"ccd": 1}


def test_an_empty_primary_and_the_first_image_count_as_one(tmp_path: Path) -> None:
    primary = fits.PrimaryHDU(header=fits.Header([("EXPTIME", 30.0), ("OBJECT", "field"), ("CRVAL1", 1.0)]))
    table = fits.BinTableHDU(np.zeros(3, dtype=[("a", "f8")]), fits.Header([("CCD", 3), ("OBJECT", "table")]))
    pixels = fits.ImageHDU(np.zeros((40, 20), "f4"), fits.Header([("CCD", 4), ("OBJECT", "image"), *TAN.items()]))
    other = fits.ImageHDU(np.zeros((5, 5)), fits.Header([("CCD", 5)]))
    path = written(tmp_path / "a.fits", primary, table, pixels, other)
    wanted = {"OBJECT": "str", "CCD": "int", "NAXIS1": "int", "BITPIX": "int", "CRVAL1": "float"}
    found = gathered(path, *(Column(key, kind, f"header:{key}") for key, kind in wanted.items()))
    assert_same(found.pop("corners"), by_astropy(pixels.header, 20, 40))
    assert found == {"OBJECT": "field", "CCD": 4, "NAXIS1": 20, "BITPIX": -32, "CRVAL1": 150.0}


def test_a_primary_with_pixels_stands_alone(tmp_path: Path) -> None:
    other = fits.ImageHDU(np.zeros((5, 5)), fits.Header([("CCD", 5), *TAN.items()]))
    path = written(tmp_path / "a.fits", image(), other)
    assert gathered(path, EXPOSURE, Column("ccd", "int", "header:CCD")) == {"expTime": 30.0}


def test_a_compressed_image_reads_like_the_plain_one(tmp_path: Path, real: fits.Header) -> None:
    pixels = np.arange(800, dtype="i2").reshape(40, 20)
    columns = [EXPOSURE] + [Column(key, "int", f"header:{key}") for key in ("NAXIS", "NAXIS1", "NAXIS2", "BITPIX")]
    plain = gathered(written(tmp_path / "a.fits", fits.PrimaryHDU(pixels, real)), *columns)
    packed = written(
        tmp_path / "a.fits.fz", fits.PrimaryHDU(), fits.CompImageHDU(pixels, real, compression_type="RICE_1")
    )
    assert plain["NAXIS1"] == 20
    assert gathered(packed, *columns) == plain


def test_a_file_of_tables_has_the_cards_of_its_primary_and_no_corners(tmp_path: Path) -> None:
    table = fits.BinTableHDU(np.zeros(3, dtype=[("a", "f8")]))
    primary = fits.PrimaryHDU(header=fits.Header([("EXPTIME", 30.0)]))
    assert gathered(written(tmp_path / "a.fits", primary, table)) == {"expTime": 30.0}


def test_corners_of_a_real_header_are_those_of_astropy(tmp_path: Path, real: fits.Header) -> None:
    pixels = np.zeros((4241, 2144), "u1")
    compressed = fits.CompImageHDU(pixels, real, compression_type="GZIP_1")
    found = gathered(written(tmp_path / "a.fits", fits.PrimaryHDU(), compressed))
    assert_same(found["corners"], by_astropy(modern(real), 2144, 4241))


def test_a_raw_is_translated_by_its_camera(tmp_path: Path, real: fits.Header) -> None:
    path = written(tmp_path / "a.fits", fits.PrimaryHDU(np.zeros((40, 20), "i2"), real))
    columns = (Column("ccd", "int", "mapper", required=True), Column("exptime", "float", "header:EXPTIME"))
    found = dbb_gather_metadata(path, filetype(*columns, name="hsc_raw"))
    assert found is not None
    assert (found["ccd"], found["exptime"], found["frameId"]) == (23, 30.0, "HSCA90333426")


def test_a_raw_that_its_camera_cannot_translate_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", image())
    with pytest.raises(HeaderError, match=r"header key DATE-OBS: is missing"):
        dbb_gather_metadata(path, filetype(Column("ccd", "int", "mapper"), name="hsc_raw"))


def test_a_filetype_that_no_camera_translates_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", image())
    with pytest.raises(PluginError, match=r"no camera translates headers of filetype thing"):
        gathered(path, Column("ccd", "int", "mapper"))


def turned(ra: float, dec: float, degrees: float, scale: float = 4.7e-5) -> dict[str, object]:
    sine, cosine = np.sin(np.radians(degrees)) * scale, np.cos(np.radians(degrees)) * scale
    matrix = {"CD1_1": -cosine, "CD1_2": sine, "CD2_1": sine, "CD2_2": cosine}
    return {**TAN, "CRVAL1": ra, "CRVAL2": dec, **matrix}


@settings(max_examples=25, deadline=None)
@given(ra=st.floats(0, 360, exclude_max=True), dec=st.floats(-90, 90), angle=st.floats(0, 360))
def test_corners_are_those_of_astropy_wherever_an_image_looks(
    tmp_path_factory: pytest.TempPathFactory, ra: float, dec: float, angle: float
) -> None:
    hdu = image(**turned(ra, dec, angle))
    found = corners_of(hdu, tmp_path_factory.mktemp("sky") / "a.fits")
    assert_same(found, by_astropy(hdu.header, 20, 40))
    assert found is not None
    assert all(0 <= getattr(found, name) < 360 for name in ("ra_cent", "rac1", "rac2", "rac3", "rac4"))


def test_corners_across_ra_zero_lie_on_both_sides(tmp_path: Path) -> None:
    found = corners_of(image(**turned(0.0, 10.0, 0.0)), tmp_path / "a.fits")
    assert found is not None
    assert found.rac1 < 1 < 359 < found.rac2


def test_corners_around_the_pole_go_round_it(tmp_path: Path) -> None:
    found = corners_of(image(**turned(0.0, 90.0, 30.0) | {"CRPIX1": 10.5, "CRPIX2": 20.5}), tmp_path / "a.fits")
    assert found is not None
    assert found.dec_cent == pytest.approx(90)
    assert abs((found.rac3 - found.rac1) % 360) == pytest.approx(180)


@pytest.mark.parametrize(
    "frame",
    [
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {"RADESYS": "FK5", "EQUINOX": 1975.0},
        {"RADESYS": "FK4", "EQUINOX": 1950.0},
        {"RADESYS": "ICRS"},
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.2, "CRVAL2": 150.0},
    ],
    ids=lambda frame: "-".join(map(str, frame.values())),
)
def test_positions_are_turned_into_icrs(frame: dict[str, object], tmp_path: Path) -> None:
    hdu = image(**TAN | frame)
    assert_same(corners_of(hdu, tmp_path / "a.fits"), by_astropy(hdu.header, 20, 40))


def test_distortions_count(tmp_path: Path) -> None:
    sip = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "A_2_0": 1e-3, "B_ORDER": 2, "B_0_2": 2e-3}
    hdu = image(**TAN | sip)
    found = corners_of(hdu, tmp_path / "a.fits")
    assert_same(found, by_astropy(hdu.header, 20, 40))
    assert found != corners_of(image(**TAN), tmp_path / "b.fits")


def test_a_cube_has_the_corners_of_its_planes(tmp_path: Path) -> None:
    axis = {"CTYPE3": "WAVE", "CRPIX3": 1.0, "CRVAL3": 5e-7, "CDELT3": 1e-9, "CUNIT3": "m", "CD3_3": 1e-9}
    cube = fits.PrimaryHDU(np.zeros((3, 40, 20), "i2"), fits.Header([("EXPTIME", 30.0), *TAN.items(), *axis.items()]))
    assert_same(corners_of(cube, tmp_path / "a.fits"), by_astropy(image(**TAN).header, 20, 40))


def test_an_image_whose_coordinates_stand_in_the_primary_has_corners(tmp_path: Path) -> None:
    primary = fits.PrimaryHDU(header=fits.Header([("EXPTIME", 30.0), *TAN.items()]))
    path = written(tmp_path / "a.fits", primary, fits.ImageHDU(np.zeros((40, 20), "i2")))
    assert_same(gathered(path)["corners"], by_astropy(image(**TAN).header, 20, 40))


BROKEN: dict[str, Callable[[dict[str, object]], object]] = {
    "no matrix": lambda cards: [cards.pop(key) for key in [*cards] if key.startswith("CD")],
    "singular matrix": lambda cards: cards.update(CD1_1=0.0, CD2_2=0.0),
    "no position": lambda cards: cards.pop("CRVAL1"),
    "no reference pixel": lambda cards: cards.pop("CRPIX2"),
    "position as text": lambda cards: cards.update(CRVAL1="150.0"),
    "matrix as text": lambda cards: cards.update(CD1_2="0.0"),
    "empty position": lambda cards: cards.update(CRVAL2=fits.card.UNDEFINED),
    "unknown projection": lambda cards: cards.update(CTYPE1="RA---XYZ", CTYPE2="DEC--XYZ"),
    "unknown unit": lambda cards: cards.update(CUNIT1="furlong", CUNIT2="furlong"),
    "one axis": lambda cards: cards.update(CTYPE2="WAVE"),
    "not celestial": lambda cards: cards.update(CTYPE1="LINEAR", CTYPE2="LINEAR"),
    "beyond the projection": lambda cards: cards.update(CTYPE1="RA---SIN", CTYPE2="DEC--SIN", CD1_1=9.0, CD2_2=9.0),
    "frame of the Earth": lambda cards: cards.update(CTYPE1="TLON-TAN", CTYPE2="TLAT-TAN"),
    "unknown frame": lambda cards: cards.update(RADESYS="MINE"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_coordinates_give_no_corners_and_no_error(fault: str, tmp_path: Path) -> None:
    cards: dict[str, object] = dict(TAN)
    BROKEN[fault](cards)
    assert gathered(written(tmp_path / "a.fits", image(**cards))) == {"expTime": 30.0}


def test_a_file_cut_short_in_its_pixels_is_refused(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "a.fits", image()))
    path.write_bytes(path.read_bytes()[: 2880 + 1599])
    with pytest.raises(IntegrityError, match=r"a\.fits cannot be read as FITS: it is cut short: it has 4479 bytes"):
        gathered(str(path))


def test_the_fill_after_the_pixels_may_be_missing(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "a.fits", image()))
    path.write_bytes(path.read_bytes()[: 2880 + 1600])
    assert gathered(str(path)) == {"expTime": 30.0}


def test_a_file_cut_short_in_a_header_is_refused(tmp_path: Path) -> None:
    primary, pixels = fits.PrimaryHDU(), fits.ImageHDU(np.zeros((40, 20)), fits.Header([("EXPTIME", 30.0)]))
    path = Path(written(tmp_path / "a.fits", primary, pixels))
    path.write_bytes(path.read_bytes()[: 2880 + 240])
    with pytest.raises(IntegrityError, match=r"a header has no END card"):
        gathered(str(path))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x89PNG" * 1000, b"SIMPLE"], ids=["empty", "short", "long", "cut"])
def test_a_file_that_is_not_fits_is_refused_with_the_reason(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"a\.fits cannot be read as FITS: it does not begin with SIMPLE"):
        gathered(str(path))


@pytest.mark.parametrize(("old", "new"), [(b"NAXIS1", b"NAXISX"), (b"   20", b"  -20"), (b"   20", b" 20.5")])
def test_a_header_without_a_usable_size_is_refused(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = Path(written(tmp_path / "a.fits", image()))
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(IntegrityError, match=r"NAXIS1 is missing or no integer|negative size"):
        gathered(str(path))


def test_a_broken_gzip_file_is_refused(tmp_path: Path) -> None:
    plain = Path(written(tmp_path / "a.fits", image()))
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes())[:60])
    with pytest.raises(IntegrityError, match=r"b\.fits\.gz cannot be read as FITS"):
        gathered(str(packed))


@pytest.mark.parametrize("uri", ["{}/none.fits", "memory://fits-gathering/none.fits"])
def test_an_absent_file_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"none\.fits cannot be read"):
        gathered(uri.format(tmp_path))


def test_letters_that_fits_does_not_allow_do_no_harm(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "a.fits", image(OBSERVER="Jorg")))
    path.write_bytes(path.read_bytes().replace(b"Jorg", b"J\xf6rg"))
    assert gathered(str(path)) == {"expTime": 30.0}


def test_only_headers_are_read(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "a.fits", image(**TAN)))
    content = path.read_bytes()
    length = content.index(b"END" + b" " * 77) // 2880 * 2880 + 2880
    sparse = tmp_path / "b.fits"
    cards = content[:length].replace(b"NAXIS2  =                   40", b"NAXIS2  =         100000000000")
    with sparse.open("wb") as stream:  # four terabytes of pixels, none of them on the disk
        stream.write(cards)
        stream.truncate(length + 20 * 2 * 100_000_000_000)
    assert gathered(str(sparse))["expTime"] == 30.0
