"""Plug-ins that come with dbb."""
