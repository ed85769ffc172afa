"""Tile compression of FITS images, as fpack does it, without loss."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

from dbb.errors import DbbError


def compress_file(source: Path, target: Path) -> list[str]:
    """Write the FITS file `source` with its images compressed to `target`; return what stands for a command line.

    Integers are compressed with Rice's method, other pixels with gzip: neither loses anything. Tables stay as they are.

    Raises
    ------
    DbbError
        If it is no FITS file, has no image, or `target` cannot be written.
    """
    import astropy
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about its header are the business of whoever wrote the file
            with fits.open(source, disable_image_compression=True, do_not_scale_image_data=True) as hdus:
                packed, count = _packed(hdus)
                if not count:
                    raise DbbError("it has no image")
                with contextlib.ExitStack() as undo:
                    undo.callback(target.unlink, missing_ok=True)
                    packed.writeto(target, output_verify="silentfix")
                    undo.pop_all()
    except DbbError:
        raise
    except Exception as error:  # arbitrary bytes make astropy raise all sorts of errors
        raise DbbError(f"it cannot be compressed: {str(error) or type(error).__name__}") from error
    return [f"astropy-{astropy.__version__}", "CompImageHDU", source.name, target.name]


def _packed(hdus: Any) -> tuple[Any, int]:
    from astropy.io import fits

    packed, count = fits.HDUList(), 0
    for number, hdu in enumerate(hdus):
        is_image = isinstance(hdu, (fits.PrimaryHDU, fits.ImageHDU)) and hdu.data is not None and hdu.data.size
        if is_image and number == 0:
            packed.append(fits.PrimaryHDU())
        if not is_image:
            packed.append(hdu.copy())
            continue
        kind = "RICE_1" if hdu.data.dtype.kind in "iu" and hdu.data.dtype.itemsize <= 4 else "GZIP_2"
        packed.append(
            fits.CompImageHDU(hdu.data, hdu.header, compression_type=kind, quantize_level=0, name=hdu.name or None)
        )
        count += 1
    return packed, count
