"""What the programs that ``run.py`` starts as parts have in common: sizes to choose from, and what they conclude."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from report import Bar, Target, verdicts

SIZES = ("small", "normal", "large")
"""A minute for all parts together, as CI runs them; some minutes; up to an hour, with ten million files."""
BUILD = Path(__file__).parent.parent / "build" / "benchmarks"


def parser_of(description: str | None, **numbers: tuple[int, int, int]) -> argparse.ArgumentParser:
    """Return the command line of a part.

    Parameters
    ----------
    description
        Its docstring.
    numbers
        What it can be told by an option, with the defaults for each of `SIZES`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="normal", help="of everything that no option says")
    for name, defaults in numbers.items():
        said = ", ".join(f"{size} {number}" for size, number in zip(SIZES, defaults, strict=True))
        parser.add_argument(f"--{name}", type=int, help=f"default: {said}")
    parser.add_argument("--work", type=Path, default=BUILD, help="where files are put; some are kept for the next run")
    parser.add_argument("--conclusion", type=Path, help="write targets and bars of the chart there, as JSON")
    parser.set_defaults(numbers=numbers)
    return parser


def options(description: str | None, **numbers: tuple[int, int, int]) -> argparse.Namespace:
    """Read the command line of a part; see `parser_of`."""
    return filled(parser_of(description, **numbers).parse_args())


def filled(given: argparse.Namespace) -> argparse.Namespace:
    """Give each number that was not said what the size says."""
    for name, defaults in given.numbers.items():
        if getattr(given, name) is None:
            setattr(given, name, defaults[SIZES.index(given.size)])
    given.work = given.work.absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    return given


def conclude(given: argparse.Namespace, held: Sequence[Target], bars: Sequence[Bar] = ()) -> None:
    """Print what is held against a limit; write it, and the bars of the chart, where ``run.py`` wants them."""
    sys.stdout.write(f"\n{verdicts(held)}")
    if given.conclusion is not None:
        whole = {"targets": [asdict(one) for one in held], "bars": [asdict(one) for one in bars]}
        given.conclusion.write_text(json.dumps(whole))
