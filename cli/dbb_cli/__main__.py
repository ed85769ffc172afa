"""``python -m dbb_cli`` is ``dbb``."""

from __future__ import annotations

from dbb_cli.main import main

if __name__ == "__main__":
    main()
