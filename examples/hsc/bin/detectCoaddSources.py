#!/usr/bin/env python3
"""Find the sources of a coadd: deepCoadd to deepCoadd_calexp and deepCoadd_det."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.multiband import DETECT_CONFIG, detect_coadd
from hscdemo.taskline import main

if __name__ == "__main__":
    main(detect_coadd, __doc__, DETECT_CONFIG)
