"""Where the Butler looks for a dataset: its template, made ready to be filled from a row's values by position."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dbb.errors import MissingError
from dbb.mapper import Dataset, Mapper, eras_of

_FIELD = re.compile(r"%\(([A-Za-z_][A-Za-z0-9_]*)\)([0-9]*[ds])")


@dataclass(frozen=True, slots=True)
class Place:
    """One Butler path of a dataset type.

    Parameters
    ----------
    dataset
        The dataset type.
    template
        Path in the job, with a ``%``-field for each of `keys`.
    keys
        What the fields stand for, in order; a key may come twice.
    """

    dataset: Dataset
    template: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset, calib_root: str) -> Place:
        """Prepare the place of a dataset type; `calib_root` is the camera's."""
        prefix = "in/" if calib_root == "." or not dataset.is_calibration else f"in/{calib_root}/"
        template = dataset.template.partition("[")[0]  # a bracket begins the number of an HDU in the file
        keys = tuple(key for key, _ in _FIELD.findall(template))
        return cls(dataset, prefix + _FIELD.sub(r"%\2", template), keys)

    def path(self, values: Sequence[Any], compression: str, describe: Callable[[], str]) -> str:
        """Return the path in the job for the values of `keys`, of a file that is compressed as its name ends.

        Raises
        ------
        MissingError
            If a value is None; `describe` says of which file.
        """
        if None in values:
            missing = self.keys[values.index(None)]
            raise MissingError(
                f"{describe()}: no value for {missing!r}, which its place {self.dataset.template!r} needs: register the"
                " raw exposure too, or give the value when registering the file"
            )
        path = self.template % tuple(values)
        return path if path.endswith(compression) else path + compression


def places(camera: Mapper, name: str, era: str) -> list[Place]:
    """Return the places of a dataset type under the Butlers of `era`, each path once.

    Raises
    ------
    NotFoundError
        If no such Butler knows the dataset type.
    """
    layouts = camera.layouts(name, eras_of(era))
    named = [dataset for dataset in layouts if dataset.name.lower() == name.lower()]
    by_template = {dataset.template: dataset for dataset in [*layouts, *named]}
    return [Place.of(dataset, camera.calib_root) for dataset in by_template.values()]
