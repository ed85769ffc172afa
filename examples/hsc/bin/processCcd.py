#!/usr/bin/env python3
"""Calibrate one exposure of one CCD: raw, bias, dark, flat and reference stars to calexp and src."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.calibrate import CONFIG, process_ccd
from hscdemo.taskline import main

if __name__ == "__main__":
    main(process_ccd, __doc__, CONFIG, registry_type="raw")
