"""What a camera calls the keys of exposures and calibrations. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CameraKeys:
    """Names of keys and columns; the defaults hold where no camera says otherwise.

    Parameters
    ----------
    visit, detector
        The keys of one exposure of one detector.
    filter
        What flat fields and the like are chosen by besides the detector.
    calib_date
        What tells calibrations of one detector and filter apart; it plays no part in the choice by date.
    no_filter
        What the Butler's own ingest writes as the filter of calibrations that have none.
    """

    visit: str = "visit"
    detector: str = "ccd"
    filter: str = "filter"
    calib_date: str = "calibDate"
    no_filter: str = "NONE"
