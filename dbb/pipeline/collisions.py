"""Two quanta that would write one file: found over the whole plan, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dbb.errors import CollidingOutputsError
from dbb.pipeline.workflow import Instance, Job


@dataclass(slots=True)
class NameBook:
    """All names that a plan has given out.

    Parameters
    ----------
    patterns
        For messages: the text that names a file section's files, by module and nickname.
    """

    patterns: Mapping[tuple[str, str], str]
    _relpaths: dict[str, tuple[Instance, str]] = field(default_factory=dict)
    _logs: dict[str, Instance] = field(default_factory=dict)

    def enter(self, instance: Instance) -> None:
        """Add the outputs and the log of a quantum.

        Raises
        ------
        CollidingOutputsError
            If another one has the same.
        """
        for output in instance.outputs:
            other = self._relpaths.setdefault(output.relpath, (instance, output.nick))
            if other[0] is not instance or other[1] != output.nick:
                raise self._error(output.relpath, output.nick, other[0], instance)
        earlier = self._logs.setdefault(instance.log, instance)
        if earlier is not instance:
            raise self._error(instance.log, "log", earlier, instance)

    def check_job(self, job: Job, instances: Sequence[Instance]) -> None:
        """Refuse two outputs of one job at one path, and of quanta that run at once two different lists.

        Raises
        ------
        CollidingOutputsError
            If there are any; their places in the archive may still differ.
        """
        # one after the other each may write its list anew; at the same time they may not
        self._check_lists(job, [instance for instance in instances if instance.module in job.parallel])
        paths = [output.fullname for instance in instances for output in instance.outputs]
        if len(set(paths)) == len(paths):
            return
        seen: dict[str, tuple[Instance, str]] = {}
        for instance in instances:
            for output in instance.outputs:
                other = seen.setdefault(output.fullname, (instance, output.nick))
                if other[0] is not instance or other[1] != output.nick:
                    raise self._error(f"{output.fullname} in job {job.name}", output.nick, other[0], instance)

    def _check_lists(self, job: Job, instances: Sequence[Instance]) -> None:
        seen: dict[str, tuple[Instance, str]] = {}
        for instance in instances:
            for one in instance.lists:
                other, text = seen.setdefault(one.fullname, (instance, one.text))
                if text is not one.text and text != one.text:
                    raise self._error(f"{one.fullname} in job {job.name}", f"list {one.name}", other, instance)

    def _error(self, path: str, nick: str, first: Instance, second: Instance) -> CollidingOutputsError:
        what = nick if nick == "log" or nick.startswith("list ") else f"output {nick}"
        text = f"two quanta would write one {what}, {path}:\n    {first.title}\n    {second.title}\n"
        differing = [key for key in second.loop if first.loop.get(key) != second.loop[key]]
        pattern = self.patterns.get((second.module, nick), "")
        named = f" {pattern!r}" if pattern else ""
        if first.module == second.module and differing:
            keys = " and ".join(f"${{{key}}}" for key in differing)
            text += f"They differ in {', '.join(differing)}, which its name{named} lacks: add {keys} to it."
        else:
            text += f"Give one of them another name{named}."
        return CollidingOutputsError(text)
