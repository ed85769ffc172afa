"""Which archives a run takes its inputs from and puts its outputs into: home, and a target near the machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbb.errors import UsageError

HOME, TARGET = "home_archive", "target_archive"
_HOME_INPUT, _TARGET_INPUT = "use_home_archive_input", "use_target_archive_input"
_HOME_OUTPUT, _TARGET_OUTPUT = "use_home_archive_output", "use_target_archive_output"
_WORDS: Mapping[str, tuple[str, ...]] = {
    _HOME_INPUT: ("target_archive", "all", "wrapper", "never"),
    _TARGET_INPUT: ("job", "never"),
    _HOME_OUTPUT: ("wrapper", "job", "block", "run", "never"),
    _TARGET_OUTPUT: ("wrapper", "job", "never"),
}
LEVEL_KEYS = (HOME, TARGET, *_WORDS, "max_transfers")
"""The settings that `archive_levels` reads."""
_MOST_AT_ONCE = 64
_AT_ONCE = 4


class LevelsError(UsageError):
    """A setting of archives that makes no sense; `key` is its name."""

    def __init__(self, key: str, said: str, why: str) -> None:
        super().__init__(f"{key} = {said}{why}")
        self.key = key


@dataclass(frozen=True, slots=True)
class ArchiveLevels:
    """Where a run's files come from and go to.

    Parameters
    ----------
    home, target
        The archive that keeps things, and the one near the machines that run jobs; None if the run has none.
    inputs
        What becomes of inputs that the target lacks: ``target_archive``, they are copied there before the job begins;
        ``all``, that too, and where it fails the job takes them from where they are; ``wrapper``, it does so always;
        ``never``, they are missing.
    prefers
        The archives whose copies are taken first, in order. Where inputs are copied to the target it is home: that
        keeps what the target may have lost.
    saves
        The archive that jobs save to, or None.
    after
        When outputs are copied from the target to home: after each ``job``, ``block``, or the ``run``; None if never.
    at_once
        How many files are copied at the same time.
    """

    home: str | None = None
    target: str | None = None
    inputs: str = "wrapper"
    prefers: tuple[str, ...] = ()
    saves: str | None = None
    after: str | None = None
    at_once: int = _AT_ONCE

    @property
    def stages(self) -> bool:
        """Whether inputs are copied to the target before jobs begin."""
        return self.inputs in {"target_archive", "all"}


def archive_levels(settings: Mapping[str, str]) -> ArchiveLevels:
    """Return what a pipeline's values at top level say of archives.

    Raises
    ------
    LevelsError
        If a value is none, or values contradict each other; it says which and why.
    """
    words = {key: _word(key, settings[key]) for key in _WORDS if key in settings}
    home, target = settings.get(HOME), settings.get(TARGET)
    at_once = _number("max_transfers", settings.get("max_transfers", str(_AT_ONCE)))
    if target is None:
        return _one_level(home, words, at_once)
    if target == home:
        raise LevelsError(TARGET, target, ": it is the home archive too; leave it out, or name another")
    inputs = words.get(_HOME_INPUT, "target_archive")
    reads = words.get(_TARGET_INPUT, "job") != "never"
    saves = words.get(_TARGET_OUTPUT, "job") != "never"
    if not reads and inputs != "wrapper":
        why = "nobody would read the copies" if inputs != "never" else "jobs would get no inputs"
        raise LevelsError(_TARGET_INPUT, "never", f" with {_HOME_INPUT} = {inputs}: {why}; say {_HOME_INPUT} = wrapper")
    first = (home, target) if inputs in {"target_archive", "all"} else (target, home) if reads else (home,)
    after = _after(words, home, saves=saves)
    keeps_home = words.get(_HOME_OUTPUT, "job") != "never"
    saved = target if saves else home if keeps_home else None
    return ArchiveLevels(home, target, inputs, tuple(one for one in first if one), saved, after, at_once)


def _one_level(home: str | None, words: Mapping[str, str], at_once: int) -> ArchiveLevels:
    wrong = {
        _HOME_INPUT: ("target_archive", "all"),
        _TARGET_INPUT: ("job",),
        _HOME_OUTPUT: ("block", "run"),
        _TARGET_OUTPUT: ("wrapper", "job"),
    }
    for key, refused in wrong.items():
        if words.get(key) in refused:
            raise LevelsError(key, words[key], f": there is no {TARGET}; name one, or leave this out")
    keeps = words.get(_HOME_OUTPUT, "job") != "never"
    return ArchiveLevels(home, saves=home if keeps else None, at_once=at_once)


def _after(words: Mapping[str, str], home: str | None, *, saves: bool) -> str | None:
    """Return when outputs go from the target to home."""
    said = words.get(_HOME_OUTPUT)
    if said in {"block", "run"} and not saves:
        raise LevelsError(
            _HOME_OUTPUT,
            said or "",
            f" with {_TARGET_OUTPUT} = never: what is copied after a {said} comes from the target archive; say job",
        )
    if said == "wrapper" and saves:
        raise LevelsError(
            _HOME_OUTPUT,
            said,
            " with a target archive: steps save to that, and what they saved is copied home after the job; say job,"
            f" block or run, or {_TARGET_OUTPUT} = never",
        )
    if home is None and said not in {None, "never"}:
        raise LevelsError(_HOME_OUTPUT, said or "", f": there is no {HOME}; name one, or say never")
    if not saves or home is None or said == "never":
        return None
    return said or "job"


def _word(key: str, text: str) -> str:
    word = text.strip().lower()
    if word not in _WORDS[key]:
        raise LevelsError(key, text, f": expected {', '.join(_WORDS[key])}")
    return word


def _number(key: str, text: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit() or not 1 <= int(text) <= _MOST_AT_ONCE:
        raise LevelsError(key, text, f": expected a number from 1 to {_MOST_AT_ONCE}")
    return int(text)
