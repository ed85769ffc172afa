#!/usr/bin/env python3
"""Make one list of the sources of all filters: deepCoadd_det to deepCoadd_mergeDet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.multiband import MERGE_CONFIG, merge_detections
from hscdemo.taskline import main

if __name__ == "__main__":
    main(merge_detections, __doc__, MERGE_CONFIG, merges="filter")
