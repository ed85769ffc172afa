"""Settings and where each came from: the command line, the environment, or ``dbb.toml``."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from dbb.errors import UsageError

VARIABLE = "DBB_REGISTRY"
FILE = "dbb.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its origin, for messages."""

    value: str
    origin: str


def registry_setting(given: str | None = None, start: Path | None = None) -> Setting:
    """Return which registry to use: `given`, else ``$DBB_REGISTRY``, else ``registry`` in the nearest ``dbb.toml``.

    Parameters
    ----------
    given
        What the command line says.
    start
        Folder in which, and above which, ``dbb.toml`` is looked for; the current one if None.

    Raises
    ------
    UsageError
        If nothing names a registry, or ``dbb.toml`` cannot be read.

    Notes
    -----
    A relative ``sqlite:///`` path in ``dbb.toml`` is relative to that file's folder.
    """
    if given:
        return Setting(given, "--registry")
    if os.environ.get(VARIABLE):
        return Setting(os.environ[VARIABLE], f"${VARIABLE}")
    folder = (start or Path.cwd()).resolve()
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return _from_file(place / FILE)
    raise UsageError(
        f'no registry is named: give --registry URL, set ${VARIABLE}, or write registry = "URL" into {FILE}'
    )


def _from_file(path: Path) -> Setting:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    value = data.get("registry")
    if not isinstance(value, str) or data.keys() - {"registry"}:
        raise UsageError(f'{path}: expected one line, registry = "URL"')
    return Setting(absolute_url(value, path.parent), str(path))


def absolute_url(url: str, folder: Path) -> str:
    """Return a registry's URL as it can be used in any folder: a relative path of ``sqlite:///`` begins at `folder`."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url.startswith((f"{prefix}/", f"{prefix}:")):
        return url
    return f"{prefix}{folder.absolute() / url.removeprefix(prefix)}"
