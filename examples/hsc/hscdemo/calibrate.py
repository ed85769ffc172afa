"""processCcd: from a raw to a calibrated exposure and its sources."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS

from hscdemo import catalogues
from hscdemo.detrend import Detrended, detrend
from hscdemo.exposure import BAD, CR, INTRP, SAT, Exposure, Input, wcs_of
from hscdemo.matching import Astrometry, fit_wcs, zero_point
from hscdemo.photometry import flux_columns, magnitude_columns, measure, place_columns
from hscdemo.psf import Floats, Psf, fit_psf, gaussian
from hscdemo.refcat import RefStars, load_stars
from hscdemo.repair import filled, find_cosmic_rays
from hscdemo.sources import Detections, detect, mark, stamps, subtract_background
from hscdemo.taskline import Request, StepError

CONFIG: dict[str, object] = {
    "isr.doBias": True,
    "isr.doDark": True,
    "isr.doFlat": True,
    "isr.readNoise": 4.5,  # electrons
    "isr.saturation": 65535,  # ADU
    "repair.doCosmicRay": True,
    "background.binSize": 128,  # pixels
    "detection.thresholdValue": 5.0,
    "refObjLoader.name": "simstars",
    "refObjLoader.depth": 7,
    "refObjLoader.margin": 0.005,  # degrees
    "astrometry.maxOffset": 20.0,  # pixels
}
_GUESSED_FWHM = 4.0  # pixels
_LEAST_FOR_PSF = 25.0  # signal to noise

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


@dataclass(slots=True)
class _Work:
    """An image on its way, with its noise between stars."""

    image: Floats
    sigma: Floats
    mask: npt.NDArray[np.int32]
    sky: float
    psf: Psf


def process_ccd(request: Request) -> None:
    """Detrend a raw, find its PSF, place and zero point, and write ``calexp`` and ``src``."""
    catalogues.check_schema(request, "src")
    raw = detrend(request)
    work = _repaired(raw, request)
    found = _detected(work, request)
    filter_name = str(raw.header["FILTER01"]).upper().strip()
    place, stars = _placed(raw.header, found, request, filter_name)
    chosen = place.sources[(found.signal[place.sources] > _LEAST_FOR_PSF) & ~found.blended[place.sources]]
    used_for_psf = _fit_psf(work, found, chosen)
    exposure = _exposure(request, raw, work, place.wcs, filter_name)
    mark(exposure, found)
    measured = measure(exposure, found.x, found.y, rounds=1)
    fluxes = flux_columns(exposure, measured.x, measured.y, measured.shape)
    usable = ~found.blended[place.sources] & ~measured.extended[place.sources]
    own, theirs = place.sources[usable], place.stars[usable]
    zero = zero_point(stars.magnitude[theirs], fluxes["psf_flux"][own], fluxes["psf_flux_sigma"][own])
    exposure.zero_point = zero.magnitude
    exposure.header["ZPERR"], exposure.header["ZPSTARS"] = round(zero.error, 5), zero.stars
    exposure.header["ASTSCAT"] = (round(place.scatter, 4), "median distance of matches (arcsec)")
    request.put("calexp", exposure.to_bytes())
    columns = place_columns(exposure, measured.x, measured.y)
    columns |= fluxes | magnitude_columns(fluxes, exposure.zero_point)
    columns |= {f"shape_{name}": measured.shape[:, i] for i, name in enumerate(("xx", "xy", "yy"))}
    rows = np.arange(len(found))
    columns |= {"id": rows + 1, "extended": measured.extended, "matched": np.isin(rows, place.sources)}
    columns["used_for_psf"] = np.isin(rows, used_for_psf)
    catalogues.write(request, "src", columns, _cards(request, filter_name))
    print(
        f"{len(found)} sources, {len(used_for_psf)} of them for the PSF of {work.psf.fwhm:.2f} pixels; "
        f"{len(own)} stars within {place.scatter:.3f} arcsec; zero point {zero.magnitude:.4f} +- {zero.error:.4f}"
    )


def _repaired(raw: Detrended, request: Request) -> _Work:
    """Take the background away, and fill bad pixels and those that cosmic rays hit."""
    image = filled(raw.image, raw.bad)
    box = int(str(request.config["background.binSize"]))
    sigma = np.sqrt(raw.variance)
    # what is far above the median in this first look is taken as an object
    objects = image > np.median(image) + 3 * sigma
    image, sky = subtract_background(image, raw.bad | raw.saturated, objects, box)
    mask = np.where(raw.bad, BAD | INTRP, 0) | np.where(raw.saturated, SAT, 0)
    if request.config["repair.doCosmicRay"]:
        hit = find_cosmic_rays(image, sigma, raw.bad | raw.saturated)
        mask |= np.where(hit, CR | INTRP, 0)
        image = filled(image, hit | raw.bad)
    good = (mask == 0) & ~objects
    # the noise between stars: that of the sky, in the proportions that the flat makes
    between = float(np.median(raw.variance[good]))
    return _Work(
        image,
        np.full(image.shape, np.sqrt(between)),
        mask.astype(np.int32),
        float(np.median(sky)),
        gaussian(_GUESSED_FWHM),
    )


def _detected(work: _Work, request: Request) -> Detections:
    """Find sources, with a first PSF from those that look like stars, and improve the background."""
    bad = (work.mask & (BAD | SAT | CR)) != 0
    threshold, box = (
        float(str(request.config["detection.thresholdValue"])),
        int(str(request.config["background.binSize"])),
    )
    for _ in range(2):
        found = detect(work.image, work.sigma, bad, work.psf, threshold)
        work.image, more = subtract_background(work.image, bad, _wide(found.footprint), box)
        work.sky += float(np.median(more))
        _fit_psf(work, found, _psf_candidates(found))
    return detect(work.image, work.sigma, bad, work.psf, threshold)


def _placed(header: fits.Header, found: Detections, request: Request, filter_name: str) -> tuple[Astrometry, RefStars]:
    """Find the place of the image by reference stars; the rows of sources are those of `found`."""
    size, rough = found.footprint.shape, wcs_of(header)
    stars = load_stars(request, rough.calc_footprint(axes=size[::-1]), filter_name)
    order, reach = np.argsort(-found.signal), float(str(request.config["astrometry.maxOffset"]))
    place = fit_wcs(rough, found.x[order], found.y[order], stars.ra, stars.dec, size, reach)
    return replace(place, sources=order[place.sources]), stars


def _fit_psf(work: _Work, found: Detections, chosen: Rows) -> Rows:
    """Fit the PSF to chosen sources and return those of them that were used."""
    bad = (work.mask & (BAD | SAT | CR)) != 0
    half = round(2.8 * _GUESSED_FWHM)
    cut, kept, dx, dy = stamps(work.image, found.x[chosen], found.y[chosen], half)
    good = ~stamps(bad, found.x[chosen], found.y[chosen], half)[0] & ~_others(found, chosen[kept], half)
    whole = good.mean(axis=(1, 2)) > 0.6
    if whole.sum() < 3:
        raise StepError(f"only {whole.sum()} of {len(found)} sources can tell the PSF")
    work.psf, used = fit_psf(cut[whole], good[whole], dx[whole], dy[whole], work.psf)
    return np.asarray(chosen[kept[whole][used]])


def _psf_candidates(found: Detections) -> Rows:
    """Return bright sources that are as wide as most bright ones are, the brightest first."""
    size = np.sqrt(found.shape[:, 0] + found.shape[:, 2])
    bright = np.flatnonzero((found.signal > _LEAST_FOR_PSF) & ~found.blended)
    if not len(bright):
        return bright
    usual = np.percentile(size[bright], 30)  # the narrow half are the stars
    alike = bright[np.abs(size[bright] - usual) < 0.12 * usual]
    return alike[np.argsort(-found.signal[alike])][:60]


def _others(found: Detections, chosen: Rows, half: int) -> Flags:
    """Return, in the stamps of chosen sources, the pixels near any other source."""
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    near = np.zeros((len(chosen), 2 * half + 1, 2 * half + 1), dtype=bool)
    for row, i in enumerate(chosen):
        x, y = found.x - np.rint(found.x[i]), found.y - np.rint(found.y[i])
        for j in np.flatnonzero((np.abs(x) < half + 8) & (np.abs(y) < half + 8)):
            if j != i:
                reach = 3.0 + 2.0 * np.sqrt(found.shape[j, 0] + found.shape[j, 2])
                near[row] |= np.hypot(dx - x[j], dy - y[j]) < reach
    return near


def _wide(footprint: Flags, reach: int = 6) -> Flags:
    """Return the footprint with all pixels within `reach` rows and columns of it."""
    wide = footprint
    for axis in (0, 1):
        sums = np.cumsum(np.pad(wide.astype(int), [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)]), axis)
        size = footprint.shape[axis]
        wide = np.take(sums, np.arange(2 * reach + 1, 2 * reach + 1 + size), axis) > np.take(
            sums, np.arange(size), axis
        )
    return np.asarray(wide)


def _exposure(request: Request, raw: Detrended, work: _Work, wcs: WCS, filter_name: str) -> Exposure:
    header = fits.Header()
    for key in ("DATE-OBS", "MJD", "EXPTIME", "AIRMASS", "OBJECT", "FRAMEID", "INSTRUME", "DET-ID"):
        if key in raw.header:
            header[key] = raw.header[key]
    header.update(_cards(request, filter_name))
    header.update(wcs.to_header())
    header["SKY"], header["SEEING"] = work.sky, (work.psf.fwhm, "FWHM (pixels)")
    noise = float(work.sigma[0, 0])
    one = Input(int(request.id["visit"]), int(request.id["ccd"]), noise**-2, work.psf)
    variance = raw.variance.astype(np.float32)
    return Exposure(work.image.astype(np.float32), work.mask, variance, header, 0.0, [one])


def _cards(request: Request, filter_name: str) -> dict[str, object]:
    return {"VISIT": int(request.id["visit"]), "CCD": int(request.id["ccd"]), "FILTER": filter_name}
