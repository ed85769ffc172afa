"""Draw what the run made: ``python plots.py FOLDER`` writes FOLDER/coadd.png and FOLDER/magnitudes.png.

The files are those that the registry has of the run, in FOLDER/archive.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from dbb import Registry
from dbb.errors import DbbError, MissingError

mpl.use("Agg")
import matplotlib.pyplot as plt

FILTERS = ("HSC-R", "HSC-I")
ZERO_POINT = 27.0
RUN = "Ht0_r11p95"
_STRETCH = 0.8  # flux per pixel, over the noise, at which the stretch turns from linear to logarithmic
_BRIGHT = 200.0  # flux per pixel that is white
_NEAR = 0.4  # arcseconds from a true source to the same one in the catalogue

Pixels = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a run has left in an archive.

    Parameters
    ----------
    registry
        Knows the files.
    run
        Which run.
    archive
        The folder of the archive.
    """

    registry: Registry
    run: str
    archive: Path

    def paths(self, filetype: str, filter_name: str) -> list[Path]:
        """Return where the files of a type in one filter are."""
        rows = self.registry.query(filetype, where="filter = :name", binds={"name": filter_name}, runs=(self.run,))
        kept = [self.archive / row.relpath for row in rows if row.relpath is not None]
        if not kept:
            raise MissingError(f"run {self.run} has no {filetype} in {filter_name}")
        return kept


def mosaic(files: list[Path]) -> Pixels:
    """Return coadds of patches as one image; they are parts of one plane, so that this needs no interpolation."""
    parts = []
    for path in files:
        with fits.open(path) as hdus, warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            image = np.where(hdus["CONTRIB"].data != 0, hdus["IMAGE"].data, np.nan)
            parts.append((image, -np.rint(WCS(hdus["IMAGE"].header).wcs.crpix - 0.5).astype(int)))
    first = np.min([corner for _, corner in parts], axis=0)
    width, height = np.max([corner + image.shape[::-1] for image, corner in parts], axis=0) - first
    whole = np.full((height, width), np.nan)
    for image, corner in parts:
        left, bottom = corner - first
        place = whole[bottom : bottom + image.shape[0], left : left + image.shape[1]]
        np.copyto(place, image, where=np.isnan(place))
    return whole


def colours(red: Pixels, blue: Pixels) -> Pixels:
    """Return an image in colours that keep in bright places: all colours are stretched by one factor."""
    planes = np.stack([np.nan_to_num(plane) for plane in (red, (red + 1.25 * blue) / 2, 1.25 * blue)], axis=-1)
    light = np.maximum(planes.mean(axis=-1), 1e-6)
    stretched = np.arcsinh(light / _STRETCH) / np.arcsinh(_BRIGHT / _STRETCH)
    picture = np.maximum(planes, 0) * (stretched / light)[..., None] + 0.03
    return np.asarray(picture / np.maximum(picture.max(axis=-1, keepdims=True), 1))


def draw_sky(outputs: Outputs, target: Path) -> None:
    """Draw the four patches."""
    blue, red = (mosaic(outputs.paths("deepCoadd_calexp", name)) for name in FILTERS)
    picture = colours(red, blue)
    picture[np.isnan(red) & np.isnan(blue)] = 0
    plt.imsave(target, picture[::-1])


def draw_magnitudes(outputs: Outputs, truth: npt.NDArray[np.void], target: Path) -> None:
    """Draw how recovered magnitudes of stars differ from the true ones, and whether their errors tell by how much."""
    figure, axes = plt.subplots(2, len(FILTERS), figsize=(11, 7), sharex=True, sharey="row", layout="constrained")
    for column, name in zip(axes.T, FILTERS, strict=True):
        magnitude, error, true = recovered(outputs.paths("deepCoadd_forced_src", name), truth, name)
        difference, bright = magnitude - true, error < 1.0857 / 20
        rms = np.sqrt(np.mean(difference[bright] ** 2))
        column[0].errorbar(true, difference, error, fmt=".", color="0.6", ecolor="0.8", zorder=1)
        column[0].plot(
            true[bright], difference[bright], ".", color="C0", zorder=3, label=f"> 20 sigma: rms {rms:.4f} mag"
        )
        column[0].set(title=f"{name}, {len(true)} stars", ylim=(-0.3, 0.3))
        column[0].legend(loc="upper left")
        column[1].plot(true, difference / error, ".", color="C1")
        column[1].set(xlabel="true magnitude", ylim=(-5, 5))
        for axis in column:
            axis.axhline(0, color="k", linewidth=0.6)
    axes[0, 0].set_ylabel("recovered - true magnitude")
    axes[1, 0].set_ylabel("difference in units of its error")
    figure.savefig(target, dpi=110)


def recovered(files: list[Path], truth: npt.NDArray[np.void], name: str) -> tuple[Pixels, Pixels, Pixels]:
    """Return magnitudes, their errors, and the true ones, of stars in the inner regions of patches."""
    rows = [fits.getdata(path, 1) for path in files]
    columns = ("coord_ra", "coord_dec", "psf_mag", "psf_mag_sigma", "is_primary")
    ra, dec, magnitude, error, own = (np.concatenate([np.array(one[key]) for one in rows]) for key in columns)
    across = (np.degrees(ra)[:, None] - truth["ra"]) * np.cos(dec)[:, None]
    distance = 3600 * np.hypot(across, np.degrees(dec)[:, None] - truth["dec"])
    nearest = distance.argmin(axis=1)
    fit = own & np.isfinite(magnitude) & (distance.min(axis=1) < _NEAR) & (truth["type"][nearest] == "star")
    fit &= truth["nearest"][nearest] > 1.0  # closer ones cannot be told apart
    return magnitude[fit], error[fit], np.asarray(truth[f"mag_{name[-1].lower()}"][nearest][fit])


def main() -> None:
    """Draw as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="what make.py was given, after the run")
    parser.add_argument("--run", default=RUN, help=f"which run; {RUN}")
    given = parser.parse_args()
    try:
        truth = fits.getdata(given.folder / "truth.fits", 1)
        with Registry(f"sqlite:///{(given.folder / 'survey.db').absolute()}") as registry:
            outputs = Outputs(registry, given.run, given.folder / "archive")
            draw_sky(outputs, given.folder / "coadd.png")
            draw_magnitudes(outputs, truth, given.folder / "magnitudes.png")
    except (DbbError, OSError) as error:
        sys.exit(f"plots: {error}")
    print(f"{given.folder / 'coadd.png'}\n{given.folder / 'magnitudes.png'}")


if __name__ == "__main__":
    main()
