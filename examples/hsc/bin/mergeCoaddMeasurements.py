#!/usr/bin/env python3
"""Choose the filter whose place and shape a source has: deepCoadd_meas to deepCoadd_ref."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.multiband import REF_CONFIG, merge_measurements
from hscdemo.taskline import main

if __name__ == "__main__":
    main(merge_measurements, __doc__, REF_CONFIG, merges="filter")
