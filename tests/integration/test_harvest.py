"""What a job wrote comes back: saved under the run's names, registered with metadata, checksum and provenance."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from demo_survey import Survey, counted, tree
from registries import contents, rows
from written_job import RUN, fits, make_job, shallow_stack, write_outputs

from dbb import harvest_repo
from dbb.butler import Harvested, InputSpec, OutputSpec, Repository, RepoSpec, materialize_repo
from dbb.errors import (
    ConflictError,
    DbbError,
    IntegrityError,
    MissingError,
    NotFoundError,
    ParseError,
    SchemaVersionError,
    UsageError,
)
from dbb.registry.files import Refusal

CORR = "r20/Ht0/p01/corr"


@pytest.fixture
def survey(registry_url: str, tmp_path: Path) -> Iterator[Survey]:
    made = Survey(tmp_path / "survey", registry_url)
    yield made
    made.registry.close()


@pytest.fixture
def local(tmp_path: Path) -> Survey:
    """A survey whose registry is SQLite: enough for what the database has no part in."""
    return Survey(tmp_path / "survey")


def counts(done: Harvested) -> tuple[int, int, int]:
    return done.files.added, done.files.known, len(done.files.refused)


def test_outputs_are_saved_and_registered_with_all_that_is_known(survey: Survey, tmp_path: Path) -> None:
    job = make_job(survey, tmp_path / "JOB")
    (first, _) = write_outputs(job)
    done = harvest_repo(survey.registry, job, run=RUN)
    assert (counts(done), done.used, done.unknown_inputs) == ((2, 0, 0), 2, 0)
    record = survey.registry.query("calexp", where="ccd = 0")[0]
    data = first.read_bytes()
    assert record.as_dict() == {
        "relpath": f"{CORR}/CORR-0903334-000-r20p01.fits", "filename": "CORR-0903334-000-r20p01.fits",
        "archive": "home", "run": RUN, "filesize": len(data), "md5sum": hashlib.md5(data).hexdigest(),
        "visit": 903334, "ccd": 0, "filter": "HSC-R", "pointing": 533, "field": "STRIPE82L",
        "dateObs": "2013-06-17", "taiObs": "2013-06-17", "expTime": 30.0,
    }  # fmt: skip
    assert (survey.roots["home"] / str(record.relpath)).read_bytes() == data


def test_the_registry_says_which_task_made_the_outputs_from_which_files(survey: Survey, tmp_path: Path) -> None:
    job = make_job(survey, tmp_path / "JOB")
    write_outputs(job)
    harvest_repo(survey.registry, job, run=RUN)
    made = "select d.filename from desfile d, task t where t.name = 'harvest' and d.wgb_task_id = t.id order by 1"
    used = "select d.filename from desfile d, opm_used u, task t where u.task_id = t.id and u.desfile_id = d.id order by 1"  # fmt: skip # noqa: E501  # as an operator types it
    assert rows(survey.registry, made) == [("CORR-0903334-000-r20p01.fits",), ("CORR-0903334-001-r20p01.fits",)]
    assert rows(survey.registry, used) == [("903334-0.fits",), ("903334-1.fits",)]
    ((label, root),) = rows(survey.registry, "select label, root_task_id - id from task")
    assert (label, root) == (f"{RUN} {hashlib.md5((job / 'manifest.json').read_bytes()).hexdigest()}", 0)


def test_repeating_changes_nothing(survey: Survey, tmp_path: Path) -> None:
    job = make_job(survey, tmp_path / "JOB")
    write_outputs(job)
    harvest_repo(survey.registry, job, run=RUN)
    before, files = contents(survey.registry), tree(survey.roots["home"])
    assert counts(harvest_repo(survey.registry, job, run=RUN)) == (0, 2, 0)
    assert (contents(survey.registry), tree(survey.roots["home"])) == (before, files)


def test_a_dry_run_says_the_same_and_changes_nothing(survey: Survey, tmp_path: Path) -> None:
    job = make_job(survey, tmp_path / "JOB")
    write_outputs(job)
    before, files = contents(survey.registry), tree(survey.roots["home"])
    expected = harvest_repo(survey.registry, job, run=RUN, dry_run=True)
    assert (contents(survey.registry), tree(survey.roots["home"])) == (before, files)
    assert harvest_repo(survey.registry, job, run=RUN) == expected


def test_statements_grow_with_batches_and_not_with_files(survey: Survey, tmp_path: Path) -> None:
    sent = []
    survey.registry.filetypes()  # read once
    for name, visits, run in (("few", 1, "Ht0_r20p01"), ("many", 40, "Ht0_r21p01")):
        job = make_job(Survey(tmp_path / name), tmp_path / f"{name}-job", visits, 2, run=run)
        write_outputs(job, visits, 2)
        with counted(survey.registry) as statements:
            assert counts(harvest_repo(survey.registry, job, run=run)) == (2 * visits, 0, 0)
        sent.append(len(statements))
    assert sent[0] == sent[1] < 40


def test_many_outputs_are_shared_among_processes_with_the_same_result(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB", 20, 10)
    written = write_outputs(job, 20, 10)
    written[7].write_bytes(b"no FITS")
    seen: list[int] = []
    done = harvest_repo(local.registry, job, run=RUN, progress=seen.append)
    assert counts(done) == (199, 0, 1)
    assert sorted(seen) == list(range(1, 201))
    records = local.registry.query("calexp")
    saved = {str(record.relpath): record.md5sum for record in records}
    assert saved == {
        f"{CORR}/{path.name}": hashlib.md5(path.read_bytes()).hexdigest() for path in written if path != written[7]
    }
    assert {path: hashlib.md5((local.roots["home"] / path).read_bytes()).hexdigest() for path in saved} == saved
    assert not list(local.roots["home"].glob(".*"))
    assert counts(harvest_repo(local.registry, job, run=RUN)) == (0, 199, 1)


def test_a_corrupt_fits_is_listed_and_the_rest_harvested(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    bad, good = write_outputs(job)
    bad.write_bytes(b"SIMPLE  =                    T" + b" " * 40)
    done = harvest_repo(local.registry, job, run=RUN)
    assert counts(done) == (1, 0, 1)
    assert done.files.refused[0].relpath == f"{CORR}/{bad.name}"
    assert "cannot be read as FITS" in done.files.refused[0].why
    assert [path.name for path in local.roots["home"].rglob("CORR*")] == [good.name]


def test_a_fits_that_is_cut_short_is_listed(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB", ccds=1)
    (path,) = write_outputs(job, ccds=1)
    whole = fits("x").replace(b"NAXIS   =                    0", b"NAXIS   =                    1").replace(
        b"OBJECT  = 'x       '", b"NAXIS1  = 10000     "
    )  # fmt: skip
    path.write_bytes(whole)
    (refusal,) = harvest_repo(local.registry, job, run=RUN).files.refused
    assert "cut short" in refusal.why


@pytest.mark.parametrize("name", ["notes.txt", f"{CORR}/CORR-903334-000-r20p01.fits", "config/processCcd.py~1"])
def test_a_name_that_no_template_gives_is_listed_and_the_rest_harvested(
    local: Survey, tmp_path: Path, name: str
) -> None:
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    (job / "out" / name).parent.mkdir(parents=True, exist_ok=True)
    (job / "out" / name).write_text("x", encoding="utf-8")
    done = harvest_repo(local.registry, job, run=RUN)
    assert counts(done) == (2, 0, 1)
    assert done.files.refused == (Refusal(name, "it fits no template of the camera or of the repository"),)


def test_a_name_that_two_templates_give_is_listed_with_both(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    change_manifest(job, outputs=[
        {"dataset": "calexp", "section": "exposures", "template": f"{CORR}/CORR-%(visit)07d-%(ccd)03d-r20p01.fits"},
        {"dataset": "src", "section": "datasets", "template": f"{CORR}/CORR-%(visit)07d-%(ccd)03d-r20p01.fits"},
    ])  # fmt: skip
    done = harvest_repo(local.registry, job, run=RUN)
    assert counts(done) == (0, 0, 2)
    assert all("calexp" in one.why and "src" in one.why and "several" in one.why for one in done.files.refused)


def change_manifest(job: Path, **changes: object) -> None:
    path = job / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_another_run_gives_its_own_names(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB", ccds=1)
    write_outputs(job, ccds=1)
    harvest_repo(local.registry, job, run="Xy7_r31p02")
    (record,) = local.registry.query("calexp")
    assert (record.relpath, record.run) == ("r31/Xy7/p02/corr/CORR-0903334-000-r31p02.fits", "Xy7_r31p02")


def test_configurations_schemas_and_task_metadata_come_too(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB", ccds=1)
    with Repository(job / "out", era="2017") as repo:
        repo.put("processCcd_config", b"config.x = 1\n")
        repo.put("src_schema", fits("schema"))
        repo.put("processCcd_metadata", b"text", visit=903334, ccd=0)
        repo.put("isr_metadata", b"text", visit=903334, ccd=0)
    done = harvest_repo(local.registry, job, run=RUN)
    assert counts(done) == (4, 0, 0)
    found = sorted(str(path.relative_to(local.roots["home"])) for path in local.roots["home"].glob("r20/**/*.*"))
    top = "r20/Ht0/p01"
    assert found == [
        f"{top}/config/processCcd_config-r20p01.py",
        f"{top}/metadata/isr_metadata-0903334-000-r20p01.txt",
        f"{top}/metadata/processCcd_metadata-0903334-000-r20p01.txt",
        f"{top}/schema/src_schema-r20p01.fits",
    ]


def test_patches_are_stored_in_the_spelling_of_file_names(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB", ccds=1)
    with Repository(job / "out") as repo:
        place = repo.put("deepCoadd_calexp", fits("coadd"), tract=0, patch="8,6", filter="HSC-R")
    assert place.endswith("calexp-HSC-R-0-8,6-r20p01.fits")
    harvest_repo(local.registry, job, run=RUN)
    (record,) = local.registry.query("deepCoadd_calexp", where="patch = '8,6'")
    assert (record["patch"], record.filename) == ("8x6", "calexp-HSC-R-0-8x6-r20p01.fits")


def test_a_compressed_output_keeps_its_suffix(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB", ccds=1)
    (path,) = write_outputs(job, ccds=1)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert counts(harvest_repo(local.registry, job, run=RUN)) == (1, 0, 0)
    (record,) = local.registry.query("calexp")
    assert record.relpath == f"{CORR}/{path.name}.gz"


def test_links_to_what_the_job_was_given_are_left_out_and_others_listed(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    (source,) = (path for path in (job / "in").rglob("*-000.fits"))
    (job / "out/link.fits").symlink_to(source.parent / "nothing.fits")
    (job / "out/stray.fits").symlink_to("/etc/hostname")
    (job / "out/folder").symlink_to("/etc")
    done = harvest_repo(local.registry, job, run=RUN)
    assert [one.relpath for one in done.files.refused] == ["folder", "stray.fits"]
    assert all("it is a link to /etc" in one.why for one in done.files.refused)


def test_links_to_links_to_what_the_job_was_given_are_left_out(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    given = next((job / "in").rglob("HSC-*-000.fits"))
    assert given.is_symlink()
    (job / "out/whole.fits").symlink_to(given)
    (job / "out/relative.fits").symlink_to(Path("..") / given.relative_to(job))
    (job / "out/outside.fits").symlink_to("../in/../manifest.json")
    done = harvest_repo(local.registry, job, run=RUN)
    assert [one.relpath for one in done.files.refused] == ["outside.fits"]


def test_folders_deeper_than_the_stack_of_python_are_no_obstacle(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    deep = job / "out" / "/".join("d" * 400)
    deep.mkdir(parents=True)
    harvest_repo(local.registry, job, run=RUN, dry_run=True)
    (deep / "x").touch()
    with shallow_stack(300):
        done = harvest_repo(local.registry, job, run=RUN)
    assert (counts(done), done.files.refused[0].relpath) == ((2, 0, 1), f"{'d/' * 400}x")


@pytest.mark.skipif(os.access("/proc/1/environ", os.R_OK), reason="whoever may read everything is refused nothing")
def test_a_folder_that_must_not_be_read_is_listed_and_the_rest_harvested(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    (job / "out/secret").mkdir(mode=0)
    done = harvest_repo(local.registry, job, run=RUN)
    assert counts(done) == (2, 0, 1)
    assert done.files.refused == (Refusal("secret", "the folder cannot be listed: Permission denied"),)


def test_an_output_that_was_made_anew_contradicts_and_nothing_changes(survey: Survey, tmp_path: Path) -> None:
    job = make_job(survey, tmp_path / "JOB")
    first, _ = write_outputs(job)
    harvest_repo(survey.registry, job, run=RUN)
    before, files = contents(survey.registry), tree(survey.roots["home"])
    first.write_bytes(fits("other"))
    write_outputs(job, 1, 2, ("src",))
    done = harvest_repo(survey.registry, job, run=RUN)
    assert done.files.conflict
    assert [one.relpath for one in done.files.refused] == [f"{CORR}/{first.name}"]
    assert "md5sum" in done.files.refused[0].why
    assert (contents(survey.registry), tree(survey.roots["home"])) == (before, files)


def test_bytes_that_lie_unregistered_in_the_archive_are_never_replaced(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    first, second = write_outputs(job)
    place = local.roots["home"] / CORR / first.name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"other")
    done = harvest_repo(local.registry, job, run=RUN)
    assert done.files.conflict
    assert "other bytes" in done.files.refused[0].why
    assert place.read_bytes() == b"other"
    assert not (place.parent / second.name).exists()
    place.write_bytes(first.read_bytes())
    assert counts(harvest_repo(local.registry, job, run=RUN)) == (2, 0, 0)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_in_the_way_in_the_archive_contradicts_and_nothing_changes(
    local: Survey, tmp_path: Path, kind: str
) -> None:
    job = make_job(local, tmp_path / "JOB")
    first, second = write_outputs(job)
    place = local.roots["home"] / CORR / first.name
    place.parent.mkdir(parents=True)
    if kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    before = contents(local.registry)
    done = harvest_repo(local.registry, job, run=RUN)
    assert done.files.conflict
    assert [one.relpath for one in done.files.refused] == [f"{CORR}/{first.name}"]
    assert "is in the way" in done.files.refused[0].why
    assert contents(local.registry) == before
    assert not (place.parent / second.name).exists()


def test_of_a_configuration_the_first_job_of_a_run_counts_and_the_rest_of_the_second_goes_in(
    local: Survey, tmp_path: Path
) -> None:
    jobs = [make_job(Survey(tmp_path / f"s{n}"), tmp_path / f"JOB{n}", ccds=n + 1) for n in range(2)]
    for number, job in enumerate(jobs):
        with Repository(job / "out") as repo:
            repo.put("packages", b"pickle %d" % number)
            repo.put("calexp", fits("x"), visit=903334, ccd=number)
    assert counts(harvest_repo(local.registry, jobs[0], run=RUN)) == (2, 0, 0)
    done = harvest_repo(local.registry, jobs[1], run=RUN)
    assert counts(done) == (1, 0, 1)
    assert not done.files.conflict
    assert done.files.refused[0].relpath == "config/packages.pickle"


def test_a_registered_file_that_was_lost_from_the_archive_comes_back(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    first, _ = write_outputs(job)
    harvest_repo(local.registry, job, run=RUN)
    place = local.roots["home"] / CORR / first.name
    place.unlink()
    assert counts(harvest_repo(local.registry, job, run=RUN)) == (0, 2, 0)
    assert place.read_bytes() == first.read_bytes()


def test_inputs_that_the_registry_does_not_know_are_counted(survey: Survey, tmp_path: Path) -> None:
    job = make_job(Survey(tmp_path / "elsewhere"), tmp_path / "JOB")
    write_outputs(job)
    done = harvest_repo(survey.registry, job, run=RUN)
    assert (counts(done), done.used, done.unknown_inputs) == ((2, 0, 0), 0, 2)


def test_an_input_whose_name_is_no_text_is_one_that_the_registry_does_not_know(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    root = f"file://{local.roots['home']}"
    change_manifest(job, inputs=[{"source": f"{root}/x\ud800"}, {"source": f"{root}/x\0"}, {"source": f"{root}/../x"}])
    done = harvest_repo(local.registry, job, run=RUN)
    assert (counts(done), done.used, done.unknown_inputs) == ((2, 0, 0), 0, 3)


def test_of_several_archives_one_must_be_named(local: Survey, tmp_path: Path) -> None:
    root = local.add_archive("scratch")
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    with pytest.raises(UsageError, match="home, scratch"):
        harvest_repo(local.registry, job, run=RUN)
    with pytest.raises(NotFoundError, match="archive"):
        harvest_repo(local.registry, job, run=RUN, archive="hom")
    assert counts(harvest_repo(local.registry, job, run=RUN, archive="scratch")) == (2, 0, 0)
    assert len(list((root / CORR).iterdir())) == 2


def test_a_remote_archive_gets_the_files_too(local: Survey, tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    local.registry.add_archive("cloud", "memory://harvest-test")
    job = make_job(local, tmp_path / "JOB")
    first, _ = write_outputs(job)
    try:
        assert counts(harvest_repo(local.registry, job, run=RUN, archive="cloud")) == (2, 0, 0)
        assert store.cat(f"/harvest-test/{CORR}/{first.name}") == first.read_bytes()
        assert counts(harvest_repo(local.registry, job, run=RUN, archive="cloud")) == (0, 2, 0)
    finally:
        store.rm("/harvest-test", recursive=True)


def test_a_remote_archive_that_cannot_be_written_is_named(local: Survey, tmp_path: Path) -> None:
    local.registry.add_archive("cloud", "nothing://bucket/x")
    job = make_job(local, tmp_path / "JOB")
    first, _ = write_outputs(job)
    before = contents(local.registry)
    with pytest.raises(DbbError, match=f"{first.name} cannot be copied to nothing://bucket/x/.*not known"):
        harvest_repo(local.registry, job, run=RUN, archive="cloud")
    assert contents(local.registry) == before


def test_nothing_written_is_nothing_registered(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    before = contents(local.registry)
    assert counts(harvest_repo(local.registry, job, run=RUN)) == (0, 0, 0)
    assert contents(local.registry) == before


def test_a_copy_that_fails_leaves_the_archive_as_it_was(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job, datasets=("calexp", "src"))
    (local.roots["home"] / "r20/Ht0/p01").mkdir(parents=True)
    (local.roots["home"] / "r20/Ht0/p01/output").write_text("a file where a folder must be", encoding="utf-8")
    before, files = contents(local.registry), set(tree(local.roots["home"]))
    with pytest.raises(DbbError, match="cannot be copied"):
        harvest_repo(local.registry, job, run=RUN)
    assert contents(local.registry) == before
    assert {path for path in set(tree(local.roots["home"])) - files if path.endswith(".fits")} == set()


def test_a_harvest_that_fails_leaves_what_another_has_registered_meanwhile(survey: Survey, tmp_path: Path) -> None:
    job = make_job(survey, tmp_path / "JOB")
    first, second = write_outputs(job)
    shutil.copytree(job, tmp_path / "SAME", symlinks=True)
    (tmp_path / "SAME" / second.relative_to(job)).unlink()
    folder = survey.roots["home"] / CORR

    def another(done: int) -> None:
        if done == 1 and not (folder / second.name).exists():
            assert counts(harvest_repo(survey.registry, tmp_path / "SAME", run=RUN)) == (1, 0, 0)
            (folder / second.name).write_bytes(b"other")

    with pytest.raises(ConflictError, match="other bytes"):
        harvest_repo(survey.registry, job, run=RUN, progress=another)
    assert [str(one.filename) for one in survey.registry.query("calexp")] == [first.name]
    assert (folder / first.name).read_bytes() == first.read_bytes()


def test_a_file_that_vanishes_before_it_is_registered_is_not_registered(survey: Survey, tmp_path: Path) -> None:
    job = make_job(survey, tmp_path / "JOB")
    first, second = write_outputs(job)
    theirs = survey.roots["home"] / CORR / first.name
    theirs.parent.mkdir(parents=True)
    shutil.copy(first, theirs)  # by another harvest, which fails when this one has seen it
    before = contents(survey.registry)
    with pytest.raises(IntegrityError, match=f"{first.name} is gone from the archive .*: run it again"):
        harvest_repo(survey.registry, job, run=RUN, progress=lambda done: theirs.unlink() if done == 2 else None)
    assert contents(survey.registry) == before
    assert not (theirs.parent / second.name).exists()
    assert counts(harvest_repo(survey.registry, job, run=RUN)) == (2, 0, 0)


def test_of_an_output_and_its_compressed_twin_one_is_harvested_and_the_other_listed(
    local: Survey, tmp_path: Path
) -> None:
    job = make_job(local, tmp_path / "JOB")
    first, _ = write_outputs(job)
    twin = first.with_name(f"{first.name}.gz")
    twin.write_bytes(gzip.compress(first.read_bytes()))
    done = harvest_repo(local.registry, job, run=RUN)
    assert counts(done) == (2, 0, 1)
    twin_below, first_below = (str(path.relative_to(job / "out")) for path in (twin, first))
    why = f"it would be {CORR}/{twin.name} in the archive, where {first_below} goes"
    assert done.files.refused == (Refusal(twin_below, why),)


@pytest.mark.parametrize("visits", [1, 20])
def test_hard_links_save_the_copies(local: Survey, tmp_path: Path, visits: int) -> None:
    job = make_job(local, tmp_path / "JOB", visits, 7)
    written = write_outputs(job, visits, 7)
    assert counts(harvest_repo(local.registry, job, run=RUN, transfer="hardlink")) == (7 * visits, 0, 0)
    for path in written:
        assert (local.roots["home"] / CORR / path.name).samefile(path)
    for record in local.registry.query("calexp"):
        path = local.roots["home"] / str(record.relpath)
        assert record.md5sum == hashlib.md5(path.read_bytes()).hexdigest()
    assert counts(harvest_repo(local.registry, job, run=RUN, transfer="hardlink")) == (0, 7 * visits, 0)


@pytest.mark.parametrize(("archive", "transfer"), [("cloud", "hardlink"), ("home", "move")])
def test_a_transfer_that_is_impossible_is_an_error(local: Survey, tmp_path: Path, archive: str, transfer: str) -> None:
    local.registry.add_archive("cloud", "memory://nowhere")
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    with pytest.raises(UsageError, match="copy"):
        harvest_repo(local.registry, job, run=RUN, archive=archive, transfer=transfer)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ParseError),
        ("{}", UsageError),
        ('{"mapper":"hsc"}', UsageError),
        ('{"schema":99,"mapper":"hsc","era":"both"}', SchemaVersionError),
        ('{"mapper":"nocam","era":"both"}', NotFoundError),
        ('{"mapper":"hsc","era":"1999"}', UsageError),
        ('{"mapper":"hsc","era":"both","outputs":[1]}', UsageError),
        ('{"mapper":"hsc","era":"both","outputs":[{"dataset":"src","template":"%(visit)099999999999d"}]}', UsageError),
        ('{"mapper":"hsc","era":"both","exposures":[1]}', UsageError),
        ('{"mapper":"hsc","era":"both","exposures":[{"visit":[],"ccd":{}}]}', UsageError),
    ],
)
def test_a_manifest_that_cannot_be_used_is_an_error_that_says_so(
    local: Survey, tmp_path: Path, text: str, error: type[Exception]
) -> None:
    (tmp_path / "JOB/out").mkdir(parents=True)
    (tmp_path / "JOB/manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=r"."):
        harvest_repo(local.registry, tmp_path / "JOB", run=RUN)


def test_a_folder_that_is_no_job_is_said_to_be_none(local: Survey, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="manifest"):
        harvest_repo(local.registry, tmp_path / "nothing", run=RUN)
    job = make_job(local, tmp_path / "JOB")
    (job / "out/CALIB").unlink()
    (job / "out/repositoryCfg.yaml").unlink()
    (job / "out").rmdir()
    with pytest.raises(MissingError, match="no folder out"):
        harvest_repo(local.registry, job, run=RUN)
    with pytest.raises(UsageError, match="names no unit"):
        harvest_repo(local.registry, job, run="r20p01")


def test_a_second_job_reads_what_the_first_one_wrote(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    first, second = write_outputs(job)
    harvest_repo(local.registry, job, run=RUN)
    spec = RepoSpec("hsc", (InputSpec("calexp", runs=(RUN,)),), outputs=OutputSpec("Ht0_r21p01", ("src",)))
    materialize_repo(local.registry, tmp_path / "NEXT", spec)
    with Repository(tmp_path / "NEXT/out") as repo:
        for ccd, written in enumerate((first, second)):
            assert Path(repo.get_uri("calexp", visit=903334, ccd=ccd)).read_bytes() == written.read_bytes()


def test_the_corners_of_an_image_are_registered(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB", ccds=1)
    (path,) = write_outputs(job, ccds=1)
    cards: dict[str, object] = {
        "NAXIS1": 2, "NAXIS2": 2, "CTYPE1": "'RA---TAN'", "CTYPE2": "'DEC--TAN'", "CRVAL1": 320.5, "CRVAL2": 0.25,
        "CRPIX1": 1.5, "CRPIX2": 1.5, "CD1_1": -4.6e-05, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 4.6e-05,
    }  # fmt: skip
    head = fits("x", cards).replace(b"NAXIS   =                    0", b"NAXIS   =                    2")
    path.write_bytes(head + bytes(2880))
    assert counts(harvest_repo(local.registry, job, run=RUN)) == (1, 0, 0)
    ((ra, dec),) = rows(local.registry, "select ra_cent, dec_cent from image_corners")
    assert (ra, dec) == pytest.approx((320.5, 0.25), abs=1e-9)


def test_counts_add_up(local: Survey, tmp_path: Path) -> None:
    job = make_job(local, tmp_path / "JOB")
    write_outputs(job)
    done = harvest_repo(local.registry, job, run=RUN)
    assert replace(done.files, added=0, known=2) == harvest_repo(local.registry, job, run=RUN).files
