"""What operators say of HTCondor at the top of a submit file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dbb.errors import UsageError

_PREFIX = "condor_"
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ENVIRONMENT = "PATH, HOME, USER, LOGNAME, LANG, LC_*, TZ, PYTHONPATH, LD_LIBRARY_PATH, VIRTUAL_ENV, CONDA_*"
"""What jobs get of the environment. No ``*``: what is in a job's ad can be read by all users of the pool."""


@dataclass(frozen=True, slots=True)
class CondorSettings:
    """What operators choose.

    Parameters
    ----------
    transfers
        Whether files travel with the jobs, for there is no file system that all machines see.
    python
        dbb's Python on the machines that run jobs; None: the same as here.
    commands
        Commands of submit files, which win over ours: ``condor_requirements = …`` gives ``requirements = …``.
    """

    transfers: bool = False
    python: str | None = None
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def getenv(self) -> str:
        """Names of the environment variables that jobs get, as submit files list them."""
        return self.commands.get("getenv", _ENVIRONMENT)


def read_settings(settings: Mapping[str, str]) -> CondorSettings:
    """Read the settings that begin with ``condor_``.

    Raises
    ------
    UsageError
        If a value makes no sense.
    """
    said = {key.removeprefix(_PREFIX): value for key, value in settings.items() if key.startswith(_PREFIX)}
    transfers = said.pop("file_transfer", "False")
    if transfers.strip().lower() not in _TRUTHS:
        raise UsageError(f"condor_file_transfer = {transfers}: expected True or False")
    python = said.pop("python", None)
    for key, value in said.items():
        if "\n" in value:
            raise UsageError(f"condor_{key} has more than one line: submit files take one")
    return CondorSettings(_TRUTHS[transfers.strip().lower()], python, said)
