#!/usr/bin/env python3
"""Measure fluxes in one filter where the reference sources are: to deepCoadd_forced_src."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.multiband import forced_photometry
from hscdemo.taskline import main

if __name__ == "__main__":
    main(forced_photometry, __doc__, {})
