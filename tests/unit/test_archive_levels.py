"""The settings of archives mean what DESDM's do, and contradictions are told."""

from __future__ import annotations

import pytest

from dbb.pipeline.levels import ArchiveLevels, LevelsError, archive_levels

BOTH = {"home_archive": "home", "target_archive": "near"}


def test_without_a_target_there_is_one_level() -> None:
    assert archive_levels({}) == ArchiveLevels()
    assert archive_levels({"home_archive": "home"}) == ArchiveLevels("home", saves="home")
    never = {"home_archive": "home", "use_home_archive_output": "Never", "use_target_archive_input": "never"}
    assert archive_levels(never) == ArchiveLevels("home")


def test_a_target_is_used_for_inputs_and_outputs() -> None:
    levels = archive_levels(BOTH)
    assert levels == ArchiveLevels("home", "near", "target_archive", ("home", "near"), "near", "job", 4)
    assert levels.stages


@pytest.mark.parametrize(
    ("more", "inputs", "prefers", "saves", "after"),
    [
        ({"use_home_archive_input": "all"}, "all", ("home", "near"), "near", "job"),
        ({"use_home_archive_input": "wrapper"}, "wrapper", ("near", "home"), "near", "job"),
        ({"use_home_archive_input": "never"}, "never", ("near", "home"), "near", "job"),
        (
            {"use_home_archive_input": "wrapper", "use_target_archive_input": "never"},
            *("wrapper", ("home",), "near", "job"),
        ),
        ({"use_target_archive_output": "never"}, "target_archive", ("home", "near"), "home", None),
        (
            {"use_target_archive_output": "never", "use_home_archive_output": "never"},
            *("target_archive", ("home", "near"), None, None),
        ),
        (
            {"use_target_archive_output": "never", "use_home_archive_output": "wrapper"},
            *("target_archive", ("home", "near"), "home", None),
        ),
        ({"use_home_archive_output": "run"}, "target_archive", ("home", "near"), "near", "run"),
        ({"use_home_archive_output": "never"}, "target_archive", ("home", "near"), "near", None),
    ],
)
def test_settings_say_how_both_are_used(
    more: dict[str, str], inputs: str, prefers: tuple[str, ...], saves: str | None, after: str | None
) -> None:
    assert archive_levels(BOTH | more) == ArchiveLevels("home", "near", inputs, prefers, saves, after)


def test_a_target_does_without_a_home() -> None:
    assert archive_levels({"target_archive": "near"}) == ArchiveLevels(
        None, "near", "target_archive", ("near",), "near", None
    )


@pytest.mark.parametrize(
    ("settings", "key", "why"),
    [
        ({"use_home_archive_input": "all"}, "use_home_archive_input", "there is no target_archive"),
        ({"use_target_archive_input": "job"}, "use_target_archive_input", "there is no target_archive"),
        ({"use_target_archive_output": "job"}, "use_target_archive_output", "there is no target_archive"),
        ({"use_home_archive_output": "block"}, "use_home_archive_output", "there is no target_archive"),
        (BOTH | {"target_archive": "home"}, "target_archive", "it is the home archive too"),
        (BOTH | {"use_target_archive_input": "never"}, "use_target_archive_input", "nobody would read the copies"),
        (
            BOTH | {"use_target_archive_input": "never", "use_home_archive_input": "never"},
            *("use_target_archive_input", "jobs would get no inputs"),
        ),
        (BOTH | {"use_home_archive_output": "wrapper"}, "use_home_archive_output", "copied home after the job"),
        (
            BOTH | {"use_home_archive_output": "run", "use_target_archive_output": "never"},
            *("use_home_archive_output", "say job"),
        ),
        ({"target_archive": "near", "use_home_archive_output": "job"}, "use_home_archive_output", "no home_archive"),
        (BOTH | {"use_home_archive_output": "sometimes"}, "use_home_archive_output", "expected wrapper, job, block"),
        (BOTH | {"max_transfers": "0"}, "max_transfers", "expected a number from 1 to 64"),
        (BOTH | {"max_transfers": "many"}, "max_transfers", "expected a number from 1 to 64"),
    ],
)
def test_contradictions_are_told(settings: dict[str, str], key: str, why: str) -> None:
    with pytest.raises(LevelsError, match=why) as caught:
        archive_levels(settings)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key} = ")
