"""The peer: the same inputs in a Gen3 ``lsst-daf-butler`` repository, as a process of its own environment.

    VENV/bin/python benchmarks/gen3_peer.py prepare JOB.json SOURCE      # what transfer and import start from
    VENV/bin/python benchmarks/gen3_peer.py ingest  JOB.json REPO
    VENV/bin/python benchmarks/gen3_peer.py transfer SOURCE REPO
    VENV/bin/python benchmarks/gen3_peer.py import   SOURCE REPO

``ingest`` makes a repository, registers dimension records, ingests every file where it is and certifies calibrations;
``transfer`` and ``import`` take the datasets over from another repository and from its export. No file is
opened. The last line on stdout is JSON with the seconds spent after the imports; what stands in memory before (rows,
references) is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lsst.daf.butler import (
    Butler,
    CollectionType,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    DimensionRecord,
    FileDataset,
    Timespan,
)

RUN, CALIBS = "HSC/run", "HSC/calib"
KEYS = {
    "raw": ("instrument", "exposure", "detector"),
    "bias": ("instrument", "detector"),
    "dark": ("instrument", "detector"),
    "flat": ("instrument", "detector", "physical_filter"),
}
Job = dict[str, Any]


def new_repository(root: str) -> Butler:
    """Make an empty repository with the collections of this benchmark."""
    butler = Butler.from_config(Butler.makeRepo(root), writeable=True)
    butler.collections.register(RUN)
    return butler


def dimension_records(butler: Butler, job: Job) -> dict[str, list[DimensionRecord]]:
    """Make the records that the job's data ids refer to."""
    elements = butler.dimensions.elements
    exposures = {row["visit"]: row for row in job["exposures"]}
    camera = {"instrument": "HSC"}
    records: dict[str, list[dict[str, Any]]] = {
        "instrument": [
            {"name": "HSC", "class_name": "hsc", "detector_max": 200, "visit_max": 2**31, "exposure_max": 2**31}
        ],
        "physical_filter": [
            camera | {"name": name, "band": name[-1].lower()}
            for name in sorted({r["filter"] for r in exposures.values()})
        ],
        "detector": [
            camera | {"id": ccd, "full_name": f"1_{ccd}", "purpose": "SCIENCE"}
            for ccd in sorted({row["ccd"] for row in job["exposures"]})
        ],
        "day_obs": [camera | {"id": day} for day in sorted({_day(row["dateObs"]) for row in exposures.values()})],
        "group": [camera | {"name": row["expId"]} for row in exposures.values()],
        "exposure": [
            camera
            | {
                "id": visit,
                "obs_id": row["expId"],
                "physical_filter": row["filter"],
                "group": row["expId"],
                "day_obs": _day(row["dateObs"]),
                "exposure_time": row["expTime"],
                "observation_type": "science",
                "target_name": row["field"],
                "science_program": row["proposal"],
                "timespan": _days(row["dateObs"], row["dateObs"]),
            }
            for visit, row in exposures.items()
        ],
    }
    return {name: [elements[name].RecordClass(**fields) for fields in rows] for name, rows in records.items()}


def _day(text: str) -> int:
    return int(text.replace("-", ""))


def _days(first: str, last: str) -> Timespan:
    import astropy.time

    begin = astropy.time.Time(first, scale="tai", format="iso")
    return Timespan(begin, astropy.time.Time(last, scale="tai", format="iso") + astropy.time.TimeDelta(1, format="jd"))


def file_datasets(butler: Butler, job: Job, types: dict[str, DatasetType]) -> list[FileDataset]:
    """Name every file and what it is."""
    datasets = []
    for row in (*job["exposures"], *job["calibs"]):
        dataset_type = types[row.get("type", "raw")]
        known = {"instrument": "HSC", "detector": row["ccd"]}
        if "visit" in row:
            known["exposure"] = row["visit"]
        if dataset_type.name == "flat":
            known["physical_filter"] = row["filter"]
        values = tuple(known[name] for name in dataset_type.dimensions.required)
        data_id = DataCoordinate.from_required_values(dataset_type.dimensions, values)
        ref = DatasetRef(dataset_type, data_id, run=RUN)
        datasets.append(FileDataset(path=f"{job['archive']}/{row['relpath']}", refs=ref))
    return datasets


def ingest(job: Job, root: str) -> None:
    """Make a repository of one job's files, with the calibrations certified."""
    butler = new_repository(root)
    types = {
        name: DatasetType(name, keys, "StructuredDataDict", universe=butler.dimensions, isCalibration=name != "raw")
        for name, keys in KEYS.items()
    }
    for dataset_type in types.values():
        butler.registry.registerDatasetType(dataset_type)
    butler.collections.register(CALIBS, CollectionType.CALIBRATION)
    with butler.transaction():
        for name, records in dimension_records(butler, job).items():
            butler.registry.insertDimensionData(name, *records)
        datasets = file_datasets(butler, job, types)
        butler.ingest(*datasets, transfer="direct", record_validation_info=False)
        valid: dict[tuple[str, str], list[DatasetRef]] = {}
        for row, dataset in zip(job["calibs"], datasets[len(job["exposures"]) :], strict=True):
            valid.setdefault((row["validStart"], row["validEnd"]), []).extend(dataset.refs)
        for (first, last), refs in valid.items():
            butler.registry.certify(CALIBS, refs, _days(first, last))


def prepare(job: Job, root: str) -> None:
    """Make the repository, and its export, that the other ways start from."""
    ingest(job, root)
    butler = Butler.from_config(root)
    with butler.export(filename=f"{root}/export.yaml") as export:
        export.saveDatasets(_references(butler))
        export.saveCollection(CALIBS)


def _references(butler: Butler) -> list[DatasetRef]:
    return [
        ref
        for name in KEYS
        for ref in butler.query_datasets(name, RUN, limit=None, with_dimension_records=True, find_first=False)
    ]


def transfer(source: Butler, refs: Iterable[DatasetRef], root: str) -> None:
    """Make a repository from another one."""
    new_repository(root).transfer_from(
        source, refs, transfer="auto", skip_missing=False, register_dataset_types=True, transfer_dimensions=True
    )


def import_(source: str, root: str) -> None:
    """Make a repository from an export file."""
    butler = Butler.from_config(Butler.makeRepo(root), writeable=True)
    butler.import_(filename=f"{source}/export.yaml", transfer="direct", record_validation_info=False)


def _step(way: str, source: str, root: str) -> Callable[[], None]:
    """Load what is not counted and return what is."""
    if way == "transfer":
        butler = Butler.from_config(source)
        refs = _references(butler)
        return lambda: transfer(butler, refs, root)
    if way == "import":
        return lambda: import_(source, root)
    job = json.loads(Path(source).read_text())
    return lambda: {"ingest": ingest, "prepare": prepare}[way](job, root)


def main() -> None:
    """Run one way and print its time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=("prepare", "ingest", "transfer", "import"))
    parser.add_argument("source")
    parser.add_argument("root")
    given = parser.parse_args()
    run = _step(given.way, given.source, given.root)
    start = time.perf_counter()
    run()
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - start}) + "\n")


if __name__ == "__main__":
    main()
