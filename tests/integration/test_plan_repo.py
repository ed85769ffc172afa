"""The manifest of a repository that is made elsewhere is that of one made here."""

from __future__ import annotations
