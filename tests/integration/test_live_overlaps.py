"""Overlaps from corners and a sky map: asked when needed or computed before, the answers are one, and sphgeom's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lsst.sphgeom as sg
import numpy as np
import pytest
from registries import contents, execute, rows, statements
from sky_shapes import disjoint, polygon, rectangle

from dbb import Registry
from dbb.errors import ConflictError, MissingError, NotFoundError, ParseError, UsageError
from dbb.ingest import compute_overlaps, register_live_overlaps
from dbb.plugins import plugins
from dbb.registry.overlaps import overlap_versions
from dbb.sky.skymap import parse_skymap

PLACES = [(0.0, 0.0), (359.9, -30.0), (180.0, 89.9), (10.0, -90.0), (45.0, 60.0)]
SKYMAP = """name = "places"
type = "explicit"
pixel_scale = 3.6
patch_inner = 300
patch_border = 20
""" + "".join(f"[[tracts]]\nid = {n}\nra = {ra}\ndec = {dec}\npatches = [3, 2]\n" for n, (ra, dec) in enumerate(PLACES))
CORNERS = ("ra_cent", "dec_cent", *(f"{axis}c{corner}" for corner in (1, 2, 3, 4) for axis in ("ra", "dec")))
CAMERAS = {"hsc": ("calexp", "ccd"), "decam": ("calexp", "ccdnum")}


def image(ra: float, dec: float, size: float, turn: float) -> dict[str, float]:
    """Corners of an image."""
    vertices = rectangle(ra, dec, size, turn)
    points = np.vstack([vertices.sum(axis=0) / np.linalg.norm(vertices.sum(axis=0)), vertices])
    east = np.degrees(np.arctan2(points[:, 1], points[:, 0])) % 360
    north = np.degrees(np.arcsin(np.clip(points[:, 2], -1, 1)))
    return dict(zip(CORNERS, np.stack([east, north], axis=1).ravel().tolist(), strict=True))


def survey(seed: int, number: int = 60) -> list[dict[str, float]]:
    """Images of all sizes around the tracts, and a few anywhere."""
    chance = np.random.default_rng(seed)
    images = []
    for n in range(number):
        ra, dec = PLACES[n % len(PLACES)] if n % 6 else (chance.uniform(0, 360), chance.uniform(-89, 89))
        dec += chance.normal(0, 0.5)
        if abs(dec) > 90:
            ra, dec = ra + 180, np.sign(dec) * 180 - dec
        ra += chance.normal(0, 0.5) / max(np.cos(np.radians(dec)), 0.01)
        images.append(image(ra % 360, dec, float(10 ** chance.uniform(-2.5, 0.5)), chance.uniform(0, 360)))
    return images


def make(url: str, mapper: str = "hsc", *filetypes: str) -> Registry:
    with Registry.create(url) as made:
        execute(made, f"update dbb_schema set mapper = '{mapper}'")
    opened = Registry(url)
    known = plugins().mapper(mapper).filetypes
    opened.register_filetypes([known[name] for name in filetypes], mapper)
    opened.add_archive("home", "/data/home")
    return opened


def add(registry: Registry, filetype: str, images: Sequence[Any], detector: str = "ccd", first: int = 0) -> None:
    table = [
        {"relpath": f"{filetype}/{n}.fits", "visit": n // 4, detector: n % 4, "filter": "HSC-R", **corners}
        for n, corners in enumerate(images, start=first)
    ]
    run = None if filetype == "hsc_raw" else "Ht0_r1p1"
    assert registry.ingest_table(table, filetype=filetype, archive="home", run=run).added == len(images)


@pytest.fixture
def skymap(tmp_path: Path) -> Path:
    path = tmp_path / "places.toml"
    path.write_text(SKYMAP)
    return path


@pytest.fixture
def registry(registry_url: str, skymap: Path) -> Iterator[Registry]:
    """Raws with corners, one without, calexps without; overlaps in both ways."""
    with make(registry_url, "hsc", "hsc_raw", "calexp") as opened:
        add(opened, "hsc_raw", [*survey(1), {}])
        add(opened, "calexp", [{}] * 61)
        assert opened.compute_overlaps(skymap, version="table") > 20
        assert opened.register_live_overlaps(skymap, version="live")
        yield opened


def brute_force(images: Sequence[dict[str, float]]) -> set[Any]:
    """Return what overlaps by sphgeom, every image against every patch."""
    sky = parse_skymap(SKYMAP, "test")
    found = set()
    for n, corners in enumerate(images):
        values = list(corners.values())[2:]
        lonlats = [sg.LonLat.fromDegrees(ra, dec) for ra, dec in zip(values[::2], values[1::2], strict=True)]
        outline = sg.ConvexPolygon([sg.UnitVector3d(lonlat) for lonlat in lonlats])
        for tract in sky.tract_ids():
            for patch in sky.tract(tract).patches():
                region = polygon(sky.tract(tract).patch(patch))
                if not disjoint(outline, region):
                    found.add((tract, patch, n // 4, n % 4))
    return found


def answers(registry: Registry, question: dict[str, Any], filetype: str = "calexp") -> tuple[list[str], list[str]]:
    live, table = (registry.query(filetype, overlaps=version, **question) for version in ("live", "table"))
    return [one.filename for one in live], [one.filename for one in table]


@pytest.mark.parametrize("seed", range(3))
def test_computed_overlaps_are_those_of_sphgeom(sqlite_url: str, skymap: Path, seed: int) -> None:
    images = survey(seed, 120)
    with make(sqlite_url, "hsc", "hsc_raw") as registry:
        add(registry, "hsc_raw", images)
        registry.compute_overlaps(skymap, version="table")
        found = set(rows(registry, "select tract, patch, visit, ccd from overlap"))
    assert found == brute_force(images)
    assert {row[0] for row in found} == set(range(len(PLACES)))


def test_every_patch_has_the_same_exposures_live_and_computed(registry: Registry) -> None:
    sky, total = parse_skymap(SKYMAP, "test"), 0
    for tract in sky.tract_ids():
        for patch in sky.tract(tract).patches():
            live, table = answers(registry, {"where": f"tract = {tract} AND patch = '{patch}'"})
            assert live == table
            total += len(live)
    assert total == len(rows(registry, "select * from overlap"))


@pytest.mark.parametrize(
    "question",
    [
        {"where": "tract = 1"},
        {"where": "tract IN (0, 2..4) AND patch IN ('0,0', '1x1')"},
        {"where": "tract = 0 AND patch = '1,1' OR tract = 2 AND patch = '0,0'"},
        {"where": "tract = 0 AND patch = '1,1' AND patch = '0,0'"},
        {"where": "NOT tract = 2"},
        {"where": "NOT (tract = 0 OR patch = '1,1')"},
        {"where": "tract = 3 AND NOT patch = '1,1'"},
        {"where": "tract != 1 AND patch GLOB '0*'"},
        {"where": "tract > 2 AND tract <= 4"},
        {"where": "tract NOT IN (0, 1)"},
        {"where": "patch = '1,1'"},
        {"where": "visit = 3 OR tract = 1"},
        {"where": "visit = 3 OR tract = 1 AND patch = '1,1'"},
        {"where": "(visit = 3 OR tract = 1) AND (ccd = 2 OR patch = '1,1')"},
        {"where": "tract IS NULL"},
        {"where": "tract IS NULL OR tract = 2"},
        {"where": "patch IS NOT NULL AND visit < 5"},
        {"where": "tract = 1 AND filter = 'HSC-R' AND band = 'r' AND filename GLOB '*1.fits'"},
        {"where": "tract = 77 OR tract IN (78, 79)", "fails": True},
        {"ids": ["tract=0 patch=1,1", "tract=4 patch=0,1 ccd=1", "visit=3"]},
        {"where": "ccd = 1 OR tract = 0", "ids": ["patch=1,1", "patch=0,0"]},
        {"where": "tract = :t", "binds": {"t": 2}},
        {"where": "tract < 1.5"},
        {"where": "tract IN (77, 0)"},
    ],
)  # fmt: skip
def test_any_expression_has_the_same_answer_live_and_computed(registry: Registry, question: dict[str, Any]) -> None:
    question = dict(question)
    if question.pop("fails", False):
        with pytest.raises(NotFoundError, match=r"unknown tract '77'\. sky map 'places' has"):
            registry.query("calexp", overlaps="live", **question)
        return
    for filetype in ("calexp", "hsc_raw"):
        live, table = answers(registry, question, filetype)
        assert live == table


@pytest.mark.parametrize("mapper", CAMERAS)
def test_files_with_corners_of_their_own_need_no_raw(registry_url: str, skymap: Path, mapper: str) -> None:
    filetype, detector = CAMERAS[mapper]
    with make(registry_url, mapper, filetype) as registry:
        table = [
            {"relpath": f"{n}.fits", "visit": n // 4, detector: n % 4, "filter": "r", **corners}
            for n, corners in enumerate(survey(2))
        ]
        registry.ingest_table(table, filetype=filetype, archive="home", run="Ht0_r1p1")
        registry.compute_overlaps(skymap, version="table")
        registry.register_live_overlaps(skymap, version="live")
        for where in ("tract = 0 AND patch = '1,1'", "tract IN (1, 2)", f"tract = 0 AND {detector} = 1"):
            live, computed = answers(registry, {"where": where}, filetype)
            assert live == computed
            assert live


def test_the_corners_of_a_raw_come_before_those_of_other_files(registry_url: str, skymap: Path) -> None:
    here, there = image(0, 0, 0.1, 0), image(45, 60, 0.1, 0)
    with make(registry_url, "hsc", "hsc_raw", "calexp") as registry:
        add(registry, "hsc_raw", [here, {}])
        add(registry, "calexp", [there, there])
        registry.compute_overlaps(skymap, version="table")
        registry.register_live_overlaps(skymap, version="live")
        assert answers(registry, {"where": "tract = 0"}) == (["0.fits"],) * 2
        assert answers(registry, {"where": "tract = 4"}) == (["1.fits"],) * 2


def test_computing_again_adds_only_what_is_new(registry: Registry, skymap: Path) -> None:
    before = contents(registry)
    assert registry.compute_overlaps(skymap, version="table") == 0
    assert contents(registry) == before
    add(registry, "hsc_raw", [image(0, 0, 0.01, 0)], first=100)
    assert compute_overlaps(registry, skymap, version="table", dry_run=True) > 0
    live, table = answers(registry, {"where": "tract = 0 AND visit = 25"}, "hsc_raw")
    assert (live, table) == (["100.fits"], [])
    assert registry.compute_overlaps(skymap, version="table") > 0
    assert answers(registry, {"where": "tract = 0 AND visit = 25"}, "hsc_raw")[1] == live


def test_a_version_keeps_its_kind_and_its_sky_map(registry: Registry, skymap: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(SKYMAP.replace("places", "elsewhere"))
    registry.load_overlaps([{"tract": 0, "patch": "1,1", "visit": 1, "ccd": 1}], version="loaded")
    before = contents(registry)
    with pytest.raises(ConflictError, match=r"overlap version table has another sky map \(places\)"):
        registry.compute_overlaps(other, version="table")
    with pytest.raises(ConflictError, match="overlap version loaded has no sky map"):
        registry.compute_overlaps(skymap, version="loaded")
    with pytest.raises(ConflictError, match="overlap version live is found from corners and a sky map"):
        registry.compute_overlaps(skymap, version="live")
    with pytest.raises(ConflictError, match="overlap version table is a table of rows"):
        registry.register_live_overlaps(skymap, version="table")
    for version in ("live", "table"):
        with pytest.raises(ConflictError, match=f"overlap version {version} is"):
            registry.load_overlaps([{"tract": 0, "patch": "1,1", "visit": 1, "ccd": 1}], version=version)
    assert not registry.register_live_overlaps(skymap, version="live")
    assert register_live_overlaps(registry, skymap, version="another", dry_run=True)
    assert contents(registry) == before
    with registry.read() as conn:
        known = [(one.way, count) for one, count in overlap_versions(conn)]
    assert known[:2] == [("live (corners and sky map places)", 0), ("loaded (table)", 1)]


@pytest.mark.parametrize("version", ["live", "table"])
def test_what_the_sky_map_does_not_have_is_said(registry: Registry, version: str) -> None:
    with pytest.raises(NotFoundError, match="unknown tract '9'"):
        registry.query("calexp", where="tract = 9 AND patch = '1,1'", overlaps=version)
    with pytest.raises(NotFoundError, match=r"unknown patch '3x0'. tract 0 is 3 x 2 patches, 0x0 to 2x1"):
        registry.query("calexp", where="tract = 0 AND patch = '3,0'", overlaps=version)
    with pytest.raises(ParseError, match="of type patch"):
        registry.query("calexp", where="tract = 0 AND patch = '3-0'", overlaps=version)
    assert registry.query("calexp", where="tract > 8", overlaps=version) == []


def test_without_corners_or_with_a_broken_sky_map_nothing_is_made_up(registry_url: str, skymap: Path) -> None:
    with make(registry_url, "hsc", "hsc_raw") as registry:
        add(registry, "hsc_raw", [{}])
        before = contents(registry)
        with pytest.raises(MissingError, match="no exposure has corners in the registry"):
            registry.compute_overlaps(skymap, version="table")
        broken = skymap.with_name("broken.toml")
        broken.write_text("name = ")
        for way in (registry.compute_overlaps, registry.register_live_overlaps):
            with pytest.raises(UsageError, match=r"broken\.toml is no TOML"):
                way(broken, version="v")
        assert contents(registry) == before
        registry.register_live_overlaps(skymap, version="live")
        with pytest.raises(MissingError, match="no exposure has corners in the registry"):
            registry.query("hsc_raw", where="tract = 0")


def test_the_number_of_statements_does_not_depend_on_the_number_of_exposures(registry_url: str, skymap: Path) -> None:
    with make(registry_url, "hsc", "hsc_raw") as registry:
        registry.register_live_overlaps(skymap, version="live")
        counts = []
        for first, number in ((0, 10), (100, 1000)):
            add(registry, "hsc_raw", [image(0, 0, 0.1, n) for n in range(number)], first=first)
            registry.query("hsc_raw")
            with statements(registry) as sent:
                found = registry.query("hsc_raw", where="tract = 0 AND patch = '1,1'")
            assert len(found) == number + first // 10
            counts.append(len(sent))
        assert counts[0] == counts[1] <= 6


def test_the_way_that_answers_can_be_asked_for(registry: Registry) -> None:
    assert registry.overlaps_used("calexp", where="tract = 0", overlaps="table") == "table (table)"
    assert registry.overlaps_used("raw", ids=["patch=1,1"], overlaps="live") == "live (corners and sky map places)"
    assert registry.overlaps_used("calexp", where="visit = 1") is None
