"""The engine ``parsl``: jobs run on workers of Parsl, here, through Slurm, or as a Config of yours says."""

from dbb_plugins.parsl.plugin import ParslEngine, dbb_engines

__all__ = ["ParslEngine", "dbb_engines"]
