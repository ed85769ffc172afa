"""Where things are on the sky, and what touches what: pure geometry, without database or commands."""

from dbb.sky.corners import Corners

__all__ = ["Corners"]
