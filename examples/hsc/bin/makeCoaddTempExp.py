#!/usr/bin/env python3
"""Bring the calexps of one visit on the pixels of a patch: to a warp."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.taskline import main
from hscdemo.warps import WARP_CONFIG, make_temp_exposures

if __name__ == "__main__":
    main(make_temp_exposures, __doc__, WARP_CONFIG)
