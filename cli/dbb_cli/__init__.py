"""The ``dbb`` command."""
