#!/usr/bin/env python3
"""Measure the merged sources in one filter: to deepCoadd_meas."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.multiband import measure_coadd
from hscdemo.taskline import main

if __name__ == "__main__":
    main(measure_coadd, __doc__, {})
