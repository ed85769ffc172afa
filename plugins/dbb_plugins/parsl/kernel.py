"""Parsl under way: its workers begin, take tries of jobs, are looked after, and end."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dbb.errors import DbbError
from dbb_plugins.parsl.worker import run_try

if TYPE_CHECKING:
    from parsl import Config

__all__ = ["Parsl"]

_LOG = logging.getLogger("parsl")
_NUMBERED = re.compile(r"Error \d+:")
"""What Parsl puts before each of several reasons, of which the last will do."""


class Parsl:
    """Parsl under way; all of its methods but `check` are for one thread.

    Parameters
    ----------
    config
        What it is told.

    Raises
    ------
    DbbError
        If it cannot begin.
    """

    def __init__(self, config: Config) -> None:
        from parsl import python_app
        from parsl.dataflow.dflow import DataFlowKernel

        _LOG.propagate = False  # it keeps a log in its folder
        try:
            self._kernel = DataFlowKernel(config)
        except Exception as error:  # whatever an executor of the user's finds wrong
            raise DbbError(f"Parsl does not begin: {type(error).__name__}: {error}") from error
        self._folder = self._kernel.run_dir
        self._run_try = python_app(run_try, data_flow_kernel=self._kernel, cache=False)

    def submit(self, command: Sequence[str], log: Path, stop: Path) -> Future[int]:
        """Let a worker run a try of a job; see `run_try`.

        What goes wrong is told by the future.
        """
        submitter = (os.uname().nodename, os.getpid())
        return cast("Future[int]", self._run_try(list(command), str(log), str(stop), submitter))

    def check(self) -> None:
        """Make sure that there is any use in waiting for workers.

        Raises
        ------
        DbbError
            If all workers come to nothing, or what speaks with them is gone.
        """
        for executor in self._executors():
            interchange = getattr(executor, "interchange_proc", None)
            if interchange is not None and interchange.poll() is not None and not executor.bad_state_is_set:
                executor.set_bad_state_and_fail_all(RuntimeError("Parsl's interchange has ended"))
            if executor.bad_state_is_set:
                why = " ".join(_NUMBERED.split(str(executor.executor_exception))[-1].split())
                raise DbbError(f"Parsl has no workers any more: {why}; see {self._folder}, then resume the run")

    def close(self) -> None:
        """End the workers, and all that goes with them."""
        hopeless = False
        for executor in self._executors():
            interchange = getattr(executor, "interchange_proc", None)
            hopeless |= interchange is not None and interchange.poll() is not None
            if executor.bad_state_is_set or hopeless:  # Parsl then leaves its blocks alone
                with contextlib.suppress(Exception):  # the queue may be what is gone
                    executor.provider.cancel(list(executor.blocks_to_job_id.values()))
        if hopeless:  # Parsl would wait for its answer for ever
            atexit.unregister(self._kernel.atexit_cleanup)
        else:
            logs = [one for one in _LOG.handlers if isinstance(one, logging.FileHandler)]
            self._kernel.cleanup()
            for one in logs:
                if one not in _LOG.handlers:  # Parsl forgets them open
                    one.close()

    def _executors(self) -> list[Any]:
        from parsl.executors.status_handling import BlockProviderExecutor

        return [one for one in self._kernel.executors.values() if isinstance(one, BlockProviderExecutor)]
