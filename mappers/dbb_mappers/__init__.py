"""Cameras that come with dbb."""
