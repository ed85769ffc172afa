#!/usr/bin/env python3
"""Average the warps of a patch in one filter: to deepCoadd."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo.taskline import main
from hscdemo.warps import COADD_CONFIG, assemble

if __name__ == "__main__":
    main(assemble, __doc__, COADD_CONFIG)
