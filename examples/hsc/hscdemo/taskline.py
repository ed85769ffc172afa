"""The command line of a Gen2 task: its arguments, its data ids, and what it does with failures."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dbb.butler import Repository
from dbb.errors import DbbError
from dbb.query.ids import expand_id
from hscdemo import VERSION

DataId = dict[str, str]


class StepError(DbbError):
    """The data do not allow the step."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one execution of a program is asked to do.

    Parameters
    ----------
    butler
        The repository that is read, through its parents, and written.
    ids
        Data ids of one unit of work: one, or for steps that merge, those of all filters.
    selected
        Data ids given by ``--selectId``.
    config
        All settings of the step.
    """

    butler: Repository
    ids: list[DataId]
    selected: list[DataId]
    config: Mapping[str, object]

    @property
    def id(self) -> DataId:
        """The first data id."""
        return self.ids[0]

    def get(self, dataset: str, data_id: Mapping[str, object] | None = None) -> str:
        """Return the path of a dataset; the errors are those of `dbb.butler.Repository.get_uri`."""
        return self.butler.get_uri(dataset, **(self.id if data_id is None else data_id))

    def put(self, dataset: str, content: bytes, data_id: Mapping[str, object] | None = None) -> None:
        """Write a dataset and say so."""
        place = self.butler.put(dataset, content, **(self.id if data_id is None else data_id))
        print(f"{dataset}: {place}")


def main(
    run: Callable[[Request], None],
    description: str,
    config: Mapping[str, object],
    merges: str = "",
    registry_type: str = "",
) -> None:
    """Run a step as the command line says, and exit.

    Parameters
    ----------
    run
        Does one unit of work.
    description
        Of the program, for ``--help``.
    config
        Settings and their defaults, whose types ``-c`` keeps to.
    merges
        The key whose alternatives make up one unit of work instead of several.
    registry_type
        The dataset type by which the registry completes partial data ids; none if they must be complete.

    Notes
    -----
    The exit code is 0, or 1 if any unit of work failed. With ``--doraise`` the first failure is the last.
    """
    parser = _parser(description)
    arguments = parser.parse_args()
    try:
        settings = _settings(config, itertools.chain.from_iterable(arguments.config))
        with Repository(arguments.repo), Repository(arguments.output or arguments.repo) as butler:
            ids = _expanded(arguments.id, butler, registry_type)
            selected = _expanded(arguments.selectId, butler, registry_type)
            failed = False
            for unit in _units(ids, merges):
                failed |= not _succeeds(run, Request(butler, unit, selected, settings))
                if failed and arguments.doraise:
                    break
    except (DbbError, OSError) as error:
        _complain(error)
        failed = True
    sys.exit(int(failed))


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("repo", help="the Gen2 repository to read")
    parser.add_argument("--output", help="the repository to write, of which REPO is a parent or which is REPO itself")
    ids = {"nargs": "+", "action": "append", "metavar": "KEY=VALUE", "default": []}
    parser.add_argument("--id", **ids, help="what to process: keys and values, alternatives parted by ^")
    parser.add_argument("--selectId", **ids, help="which exposures to use; may be repeated")
    parser.add_argument("-c", "--config", **ids, help="settings")
    parser.add_argument("--doraise", action="store_true", help="stop at the first failure")
    for flag in ("--clobber-config", "--clobber-versions", "--no-versions"):
        parser.add_argument(flag, action="store_true", help="accepted: settings and versions are not kept")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


def _settings(defaults: Mapping[str, object], given: Iterable[str]) -> dict[str, object]:
    settings = dict(defaults)
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in defaults:
            raise StepError(f"there is no setting {key!r}; there are: {', '.join(sorted(defaults)) or 'none'}")
        kind = type(defaults[key])
        try:
            settings[key] = {"True": True, "False": False}[value] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise StepError(f"the setting {key} must be a {kind.__name__}, not {value!r}") from None
    return settings


def _expanded(groups: Sequence[Sequence[str]], butler: Repository, registry_type: str) -> list[DataId]:
    found: list[DataId] = []
    for group in groups:
        for one in expand_id(" ".join(group)):
            if registry_type and not {"visit", "ccd"} <= one.keys():
                rows = butler.query_metadata(registry_type, ["visit", "ccd"], **one)
                found += [{"visit": str(visit), "ccd": str(ccd)} for visit, ccd in rows]
            else:
                found.append(one)
    return found


def _units(ids: Sequence[DataId], merges: str) -> list[list[DataId]]:
    if not ids:
        raise StepError("nothing to do: give --id")
    if not merges:
        return [[one] for one in ids]
    units: dict[tuple[tuple[str, str], ...], list[DataId]] = {}
    for one in ids:
        units.setdefault(tuple((key, value) for key, value in one.items() if key != merges), []).append(one)
    return list(units.values())


def _succeeds(run: Callable[[Request], None], request: Request) -> bool:
    try:
        run(request)
    except (DbbError, OSError) as error:
        _complain(error, request.ids)
        return False
    return True


def _complain(error: Exception, ids: Sequence[DataId] = ()) -> None:
    shown = "; ".join(" ".join(f"{key}={value}" for key, value in one.items()) for one in ids)
    print(f"FATAL: {'failed on ' + shown + ': ' if shown else ''}{error}", file=sys.stderr)
