"""Files are looked into, brought to their place and registered; a file that cannot be understood stays out alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from demo_survey import make_demo
from registries import contents, rows, small_registry

from dbb import Registry
from dbb.errors import ConflictError, NotFoundError, UsageError
from dbb.filetypes import load_filetypes
from dbb.ingest import ingest_files
from dbb.ingest.transfer import Found, bring
from dbb.registry.files import Registered
from dbb.storage import digest_file

THING = """
[filetypes.thing]
keys = ["visit", "ccd"]
directory = "r${reqnum}/${unitname}/p${attnum:2}/${night}"
name = "THING-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits"
[filetypes.thing.columns]
visit = "int"
ccd = { type = "int", source = "header:DET-ID|CCD" }
night = { type = "date", source = "header:DATE-OBS", required = true }
expTime = { type = "float", source = "header:EXPTIME" }
"""
RUN = "Ht0_r11p95"
SKY = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.2, "CRPIX1": 5.5, "CRPIX2": 3.5}
SKY |= {"CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4}
MODES = ("copy", "move", "symlink", "relsymlink", "hardlink")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of the archive ``home``."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def registry(registry_url: str, tmp_path: Path, home: Path) -> Iterator[Registry]:
    """A registry with a filetype from TOML and some of HSC's."""
    definition = tmp_path / "thing.toml"
    definition.write_text(THING)
    with small_registry(registry_url, "hsc_raw", "calexp", "bias", "deepcoadd_skymap") as opened:
        opened.register_filetypes(list(load_filetypes(definition).values()))
        opened.add_archive("home", str(home))
        yield opened


@pytest.fixture(scope="module")
def raws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the raws of the miniature survey."""
    return make_demo(tmp_path_factory).folder / "archive" / "raw"


def thing(folder: Path, visit: int, ccd: int = 16, **cards: Any) -> Path:
    """Write a small FITS file; a card given as None is left out."""
    header = {"DET-ID": ccd, "DATE-OBS": "2013-06-17", "EXPTIME": 30.0} | cards
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"THING-{visit:07d}-{ccd:03d}-r11p95.fits"
    kept = fits.Header([(key, value) for key, value in header.items() if value is not None])
    fits.PrimaryHDU(np.full((6, 10), visit % 100, "i2"), kept).writeto(path)
    return path


def ingest(registry: Registry, *sources: str | Path, **options: Any) -> Registered:
    return registry.ingest_files(
        [str(source) for source in sources], **{"filetype": "thing", "archive": "home", "run": RUN, **options}
    )


def counts(done: Registered) -> tuple[int, int, int]:
    return done.added, done.known, len(done.refused)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): md5(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_in_the_archive_are_registered_where_they_are(registry: Registry, home: Path) -> None:
    paths = [thing(home / "any/where", visit, SIMPLE=True) for visit in (1, 2)]
    before = tree(home)
    assert counts(ingest(registry, home / "any" / "**" / "*.fits")) == (2, 0, 0)
    assert tree(home) == before
    found = registry.query("thing")
    assert [record.relpath for record in found] == [f"any/where/{path.name}" for path in paths]
    first = found[0]
    assert dict(first.metadata) == {"visit": 1, "ccd": 16, "night": "2013-06-17", "expTime": 30.0}
    assert (first.run, first.archive, first.filesize, first.md5sum) == (
        RUN,
        "home",
        paths[0].stat().st_size,
        md5(paths[0]),
    )
    digests = rows(registry, "select sha256 from desfile order by id")
    assert digests == [(hashlib.sha256(path.read_bytes()).hexdigest(),) for path in paths]


def test_files_taken_again_are_known_and_changed_ones_refused(registry: Registry, home: Path) -> None:
    path = thing(home, 1)
    ingest(registry, path)
    before = contents(registry)
    assert counts(ingest(registry, path)) == (0, 1, 0)
    fits.setval(path, "EXPTIME", value=31.0)
    done = ingest(registry, path, thing(home, 2))
    assert (counts(done), done.conflict) == ((0, 0, 1), True)
    assert done.refused[0].relpath == path.name
    assert done.refused[0].why.startswith("registered with md5sum")
    assert contents(registry) == before


def test_real_names_and_headers_of_raws_are_understood(registry: Registry, raws: Path) -> None:
    registry.add_archive("demo", str(raws.parent))
    assert counts(ingest(registry, raws / "*.fits", filetype="raw", archive="demo", run=None)) == (33, 0, 0)
    [found] = registry.query("raw", ids=["visit=903334 ccd=23"])
    assert (found.relpath, found.run) == ("raw/HSCA90333426.fits", None)
    shown = ("field", "filter", "dateObs", "taiObs", "pointing", "expTime", "frameId")
    assert [found[name] for name in shown] == [
        "STRIPE82L", "HSC-R", "2013-06-17", "2013-06-17", 533, 30.0, "HSCA90333426",
    ]  # fmt: skip
    assert len(registry.query("raw", where="filter = 'HSC-I' AND visit > 903900")) == 16
    # where the headers say that the images looked
    assert rows(registry, "select count(*) from image_corners") == [(33,)]
    assert len(registry.query("raw", where="ra_cent > 320 AND ra_cent < 322 AND dec_cent < 0.5")) == 33


def test_corners_are_kept_for_images_that_know_their_place(registry: Registry, home: Path) -> None:
    thing(home, 1, **SKY)
    thing(home, 2)
    ingest(registry, home / "*.fits")
    [corners] = rows(registry, "select ra_cent, dec_cent, rac1, decc1, rac3, decc3 from image_corners")
    assert corners == pytest.approx((150, 2.2, 150.0005, 2.1997, 149.9995, 2.2003), abs=1e-6)
    assert [record["visit"] for record in registry.query("thing", where="ra_cent > 100")] == [1]


@pytest.mark.parametrize(
    ("cards", "key"),
    [
        ({"DATE-OBS": None}, "header key DATE-OBS: is missing"),
        ({"DATE-OBS": "yesterday"}, "header key DATE-OBS: 'yesterday'"),
        ({"DET-ID": None}, r"header key DET-ID|CCD"),
    ],
)
def test_a_file_with_a_bad_header_is_refused_by_key_and_the_rest_go_in(
    registry: Registry, home: Path, cards: dict[str, Any], key: str
) -> None:
    thing(home, 1)
    thing(home, 2, **cards)
    thing(home, 3)
    done = ingest(registry, home / "*.fits")
    assert (counts(done), done.conflict) == ((2, 0, 1), False)
    assert done.refused[0].relpath == "THING-0000002-016-r11p95.fits"
    assert key.split("|")[0] in done.refused[0].why
    assert [record["visit"] for record in registry.query("thing")] == [1, 3]
    assert counts(ingest(registry, home / "*.fits")) == (0, 2, 1)


def test_a_raw_that_its_camera_cannot_read_is_refused_by_key_and_the_rest_go_in(
    registry: Registry, home: Path, raws: Path
) -> None:
    for name in ("HSCA90398630.fits", "HSCA90398631.fits"):
        (home / name).write_bytes((raws / name).read_bytes())
    fits.delval(home / "HSCA90398630.fits", "DET-ID")
    done = ingest(registry, home / "*.fits", filetype="raw", run=None)
    assert counts(done) == (1, 0, 1)
    assert done.refused[0].relpath == "HSCA90398630.fits"
    assert "DET-ID" in done.refused[0].why


def test_files_that_are_no_images_are_refused_alone(registry: Registry, home: Path) -> None:
    thing(home, 1)
    (home / "THING-0000002-016-r11p95.fits").write_bytes(b"not FITS at all")
    (home / "THING-0000003-016-r11p95.txt").write_bytes(b"a text")
    (home / "THING-0000004-016-r11p95.fits").symlink_to("nowhere")
    (home / "THING-0000005-016-r11p95.fits").mkdir()
    sources = sorted(home.iterdir())
    done = ingest(registry, *sources)
    assert counts(done) == (1, 0, 4)
    assert [one.relpath for one in done.refused] == [path.name for path in sources[1:]]
    assert "cannot be read as FITS" in done.refused[0].why
    assert "no plug-in can read it" in done.refused[1].why


def test_a_file_whose_name_tells_nothing_is_refused_alone(registry: Registry, home: Path) -> None:
    thing(home, 1)
    thing(home, 2).rename(home / "renamed.fits")
    done = ingest(registry, home / "*.fits")
    assert counts(done) == (1, 0, 1)
    assert done.refused[0].relpath == "renamed.fits"
    assert done.refused[0].why == (
        "column visit: nothing says it (the name does not fit THING-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits)"
    )
    assert counts(ingest(registry, home / "renamed.fits", given={"Visit": "2"})) == (1, 0, 0)


def test_names_that_the_butler_would_glob_are_refused_alone(registry: Registry, home: Path) -> None:
    thing(home, 1)
    thing(home / "a[0]", 2)
    thing(home / os.fsdecode(b"b\xff"), 3)
    done = ingest(registry, *sorted(home.rglob("*.fits")))
    assert counts(done) == (1, 0, 2)


def test_given_values_win_over_what_files_say(registry: Registry, home: Path) -> None:
    thing(home, 1, **{"DATE-OBS": "2013-06-17"})
    ingest(registry, home / "*.fits", given={"exptime": "5.5", "night": "2014-01-01"})
    [found] = registry.query("thing")
    assert (found["visit"], found["expTime"], found["night"]) == (1, 5.5, "2014-01-01")


def test_given_values_that_do_not_fit_are_refused_before_any_file_is_read(registry: Registry, home: Path) -> None:
    thing(home, 1)
    before = contents(registry)
    with pytest.raises(UsageError, match=r"column expTime: .*, not 'long'"):
        ingest(registry, home / "*.fits", given={"exptime": "long"})
    with pytest.raises(NotFoundError, match=r"unknown column 'exposure'; known: "):
        ingest(registry, home / "*.fits", given={"exposure": "1"})
    assert contents(registry) == before


def test_what_a_name_says_is_enough_where_nothing_else_is_asked(registry: Registry, home: Path) -> None:
    folder = home / "CALIB/BIAS/2013-11-03/NONE"
    folder.mkdir(parents=True)
    for ccd in (0, 16):
        (folder / f"BIAS-2013-11-03-{ccd:03d}.fits").symlink_to(thing(home / "x", ccd))
    (home / "deepCoadd_skyMap-r11p95.pickle").write_bytes(b"no pickle")
    assert counts(ingest(registry, folder / "*", filetype="bias", run=None, given={"filter": "NONE"})) == (2, 0, 0)
    assert counts(ingest(registry, home / "*.pickle", filetype="deepCoadd_skyMap")) == (1, 0, 0)
    found = [(record["calibDate"], record["ccd"], record["filter"]) for record in registry.query("bias")]
    assert found == [("2013-11-03", 0, "NONE"), ("2013-11-03", 16, "NONE")]


def test_a_compressed_file_keeps_its_suffix(registry: Registry, tmp_path: Path) -> None:
    plain = thing(tmp_path / "in", 1)
    packed = plain.with_name(plain.name + ".fz")
    with fits.open(plain) as hdus:
        packing = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), packing]).writeto(packed)
    assert counts(ingest(registry, packed, transfer="copy")) == (1, 0, 0)
    [found] = registry.query("thing")
    assert found.relpath == "r11/Ht0/p95/2013-06-17/THING-0000001-016-r11p95.fits.fz"
    assert found.filename == "THING-0000001-016-r11p95.fits"


@pytest.mark.parametrize("transfer", MODES)
def test_files_come_to_the_place_that_the_filetype_names(
    registry: Registry, home: Path, tmp_path: Path, transfer: str
) -> None:
    sources = [thing(tmp_path / "in", visit) for visit in (1, 2)]
    contents_before = {path.name: path.read_bytes() for path in sources}
    assert counts(ingest(registry, tmp_path / "in" / "*.fits", transfer=transfer)) == (2, 0, 0)
    targets = [home / "r11/Ht0/p95/2013-06-17" / path.name for path in sources]
    assert [home / str(record.relpath) for record in registry.query("thing")] == targets
    assert {path.name: path.read_bytes() for path in targets} == contents_before
    assert [path.exists() for path in sources] == [transfer != "move"] * 2
    assert [path.is_symlink() for path in targets] == [transfer in ("symlink", "relsymlink")] * 2
    assert sorted(path.name for path in home.rglob("*") if not path.is_dir()) == sorted(contents_before)
    if transfer == "relsymlink":
        assert not targets[0].readlink().is_absolute()
    if transfer == "symlink":
        assert targets[0].readlink() == sources[0]
    if transfer == "hardlink":
        assert targets[0].samefile(sources[0])
    if transfer == "copy":
        assert not targets[0].samefile(sources[0])
    if transfer != "move":
        assert counts(ingest(registry, *sources, transfer=transfer)) == (0, 2, 0)


def test_metadata_that_follow_from_others_may_be_part_of_the_place(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "CORR-0000001-016-r11p95.fits").symlink_to(thing(folder, 1))
    done = ingest(registry, folder / "CORR*", filetype="calexp", transfer="copy", given={"dateObs": "2013-06-17"})
    assert counts(done) == (1, 0, 0)
    [found] = registry.query("calexp")
    assert (found.relpath, found["pointing"]) == ("r11/Ht0/p95/corr/CORR-0000001-016-r11p95.fits", 533)


@pytest.mark.parametrize("transfer", MODES)
def test_a_file_that_lies_in_its_place_already_is_left_there(registry: Registry, home: Path, transfer: str) -> None:
    path = thing(home / "r11/Ht0/p95/2013-06-17", 1)
    before = tree(home)
    assert counts(ingest(registry, path, transfer=transfer)) == (1, 0, 0)
    assert tree(home) == before
    assert not path.is_symlink()


def test_a_file_that_the_archive_has_a_link_to_is_not_moved_away(
    registry: Registry, home: Path, tmp_path: Path
) -> None:
    path = thing(tmp_path / "in", 1)
    ingest(registry, path, transfer="symlink")
    assert counts(ingest(registry, path, transfer="move")) == (0, 1, 0)
    assert path.exists()
    assert len(tree(home)) == 1


def test_other_bytes_in_the_archive_are_found_before_anything_is_brought(
    registry: Registry, home: Path, tmp_path: Path
) -> None:
    for visit in (1, 2, 3):
        thing(tmp_path / "in", visit)
    thing(home / "r11/Ht0/p95/2013-06-17", 3, EXPTIME=99.0)
    before, archived = contents(registry), tree(home)
    for dry_run in (True, False):
        with pytest.raises(ConflictError, match=r"THING-0000003-016-r11p95\.fits lies in the archive with other bytes"):
            ingest(registry, tmp_path / "in" / "*.fits", transfer="move", dry_run=dry_run)
    assert (contents(registry), tree(home)) == (before, archived)
    assert len(tree(tmp_path / "in")) == 3


def test_two_sources_for_one_place_are_refused_before_anything_is_brought(
    registry: Registry, home: Path, tmp_path: Path
) -> None:
    thing(tmp_path / "a", 1)
    thing(tmp_path / "b", 1, EXPTIME=99.0)
    before = contents(registry)
    done = ingest(registry, tmp_path / "?" / "*.fits", transfer="copy")
    assert (counts(done), done.conflict) == ((0, 0, 1), True)
    assert contents(registry) == before
    assert tree(home) == {}


def test_a_rehearsal_brings_and_registers_nothing(registry: Registry, home: Path, tmp_path: Path) -> None:
    thing(tmp_path / "in", 1)
    thing(tmp_path / "in", 2, **{"DATE-OBS": None})
    before = contents(registry)
    assert counts(ingest(registry, tmp_path / "in" / "*.fits", transfer="move", dry_run=True)) == (1, 0, 1)
    assert contents(registry) == before
    assert tree(home) == {}
    assert len(tree(tmp_path / "in")) == 2


def test_a_place_cannot_be_named_without_a_run(registry: Registry, home: Path, tmp_path: Path) -> None:
    thing(tmp_path / "in", 1)
    with pytest.raises(UsageError, match="needs a value for 'reqnum'"):
        ingest(registry, tmp_path / "in" / "*.fits", transfer="copy", run=None)
    assert tree(home) == {}


def test_a_file_outside_the_archive_must_be_brought(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not lie in the archive at .*: give --transfer copy"):
        ingest(registry, thing(tmp_path / "in", 1))


def test_a_file_outside_the_archive_is_refused_alone(registry: Registry, home: Path, tmp_path: Path) -> None:
    outside = thing(tmp_path / "in", 1)
    done = ingest(registry, outside, thing(home, 2))
    assert (counts(done), done.conflict, done.refused[0].relpath) == ((1, 0, 1), False, str(outside))


def test_a_pattern_may_be_relative_to_the_archive(
    registry: Registry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing(home / "raw", 1)
    monkeypatch.chdir(tmp_path)
    assert counts(ingest(registry, "raw/*.fits")) == (1, 0, 0)


@pytest.mark.parametrize("transfer", MODES)
@pytest.mark.parametrize("same", [True, False])
def test_a_file_that_another_writer_put_there_meanwhile_is_never_replaced(
    home: Path, tmp_path: Path, transfer: str, same: bool
) -> None:
    paths = [thing(tmp_path / "in", visit) for visit in (1, 2)]
    waiting = [Found(str(path), f"a/{path.name}", {}, digest_file(path)) for path in paths]
    theirs = home / "a" / paths[1].name
    theirs.parent.mkdir()
    theirs.write_bytes(paths[1].read_bytes() if same else b"other")
    before, undone = tree(home), list[Found]()
    if same:
        assert bring(waiting, f"file://{home}", transfer, undone.extend) == waiting[:1]
    else:
        with pytest.raises(ConflictError, match=f"{theirs} lies in the archive with other bytes than {paths[1]}"):
            bring(waiting, f"file://{home}", transfer, undone.extend)
        assert undone == waiting[:1]
    assert {path: data for path, data in tree(home).items() if not path.endswith(paths[0].name)} == before
    assert [path.name for path in home.iterdir()] == ["a"]


def test_what_is_not_there_or_unknown_is_named(registry: Registry, home: Path) -> None:
    thing(home, 1)
    for problem, sources, options in (
        (r"unknown file '.*/none\*\.fits'\. Nothing matches", [home / "*.fits", home / "none*.fits"], {}),
        ("unknown archive 'hom'; known: home", [home / "*.fits"], {"archive": "hom"}),
        ("unknown filetype 'thin'; known: thing, ", [home / "*.fits"], {"filetype": "thin"}),
    ):
        with pytest.raises(NotFoundError, match=problem):
            ingest(registry, *sources, **options)
    with pytest.raises(UsageError, match="transfer 'carry' is none of direct, copy"):
        ingest(registry, home / "*.fits", transfer="carry")
    assert registry.query("thing") == []


@pytest.fixture
def bucket(registry: Registry, request: pytest.FixtureRequest) -> str:
    """A remote archive of this test alone."""
    root = f"memory://{request.node.name.replace('[', '-').rstrip(']')}"
    registry.add_archive("bucket", root)
    return root


def test_files_are_copied_to_a_remote_archive_and_read_there(registry: Registry, bucket: str, tmp_path: Path) -> None:
    paths = [thing(tmp_path / "in", visit, **SKY) for visit in (1, 2)]
    assert counts(ingest(registry, *paths, archive="bucket", transfer="copy")) == (2, 0, 0)
    assert counts(ingest(registry, *paths, archive="bucket", transfer="copy")) == (0, 2, 0)
    assert counts(ingest(registry, f"{bucket}/r11/Ht0/p95/*/*.fits", archive="bucket")) == (0, 2, 0)
    assert counts(ingest(registry, "r11/Ht0/p95/*/*.fits", archive="bucket")) == (0, 2, 0)
    assert {record.relpath for record in registry.query("thing")} == {
        f"r11/Ht0/p95/2013-06-17/{path.name}" for path in paths
    }
    assert counts(ingest(registry, *paths, archive="bucket", transfer="move")) == (0, 2, 0)
    assert [path.exists() for path in paths] == [False, False]


def test_other_bytes_in_a_remote_archive_are_found_first(registry: Registry, bucket: str, tmp_path: Path) -> None:
    import fsspec

    for visit in (1, 2):
        thing(tmp_path / "in", visit)
    place = f"{bucket}/r11/Ht0/p95/2013-06-17"
    ingest(registry, tmp_path / "in" / "*2-016*.fits", archive="bucket", transfer="copy")
    fsspec.filesystem("memory").pipe(f"{place}/THING-0000002-016-r11p95.fits", b"other")
    with pytest.raises(ConflictError, match="other bytes"):
        ingest(registry, tmp_path / "in" / "*.fits", archive="bucket", transfer="copy")
    assert len(fsspec.filesystem("memory").ls(place)) == 1
    assert [record["visit"] for record in registry.query("thing")] == [2]


def test_what_a_killed_upload_left_is_replaced(registry: Registry, bucket: str, tmp_path: Path) -> None:
    import fsspec

    path = thing(tmp_path / "in", 1)
    memory, place = fsspec.filesystem("memory"), f"{bucket}/r11/Ht0/p95/2013-06-17"
    memory.pipe(f"{place}/{path.name}", path.read_bytes()[:100])
    assert counts(ingest(registry, path, archive="bucket", transfer="copy")) == (1, 0, 0)
    assert memory.cat(f"{place}/{path.name}") == path.read_bytes()
    assert len(memory.ls(place)) == 1


def test_transfers_that_cannot_be_are_refused(registry: Registry, bucket: str, tmp_path: Path) -> None:
    path = thing(tmp_path / "in", 1)
    with pytest.raises(UsageError, match="--transfer symlink cannot reach it, copy can"):
        ingest(registry, path, archive="bucket", transfer="symlink")
    ingest(registry, path, archive="bucket", transfer="copy")
    with pytest.raises(UsageError, match="is not on this machine: only --transfer direct"):
        ingest(registry, f"{bucket}/r11/Ht0/p95/2013-06-17/{path.name}", transfer="copy")


def test_progress_is_told_file_by_file(registry: Registry, home: Path) -> None:
    told: list[int] = []
    sources = [str(thing(home, visit)) for visit in (1, 2)]
    ingest_files(registry, sources, filetype="thing", archive="home", run=RUN, progress=told.append)
    assert told == [1, 2]
