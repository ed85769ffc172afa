"""Parsl's interchange as a process that Ctrl-C at the terminal does not reach, and that ends with ``dbb submit``."""

from __future__ import annotations

import os
import runpy
import sys

from dbb_plugins.parsl.worker import die_with_parent

if __name__ == "__main__":
    os.setsid()
    die_with_parent(int(sys.argv.pop()))
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__", alter_sys=True)
