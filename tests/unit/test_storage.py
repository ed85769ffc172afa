"""Files appear whole or not at all, checksums are those of their bytes, archive roots are URLs."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import ConflictError, IntegrityError, UnsafePathError
from dbb.storage import (
    CHUNK,
    Hasher,
    StageRequest,
    copy_checked,
    digest_file,
    is_local,
    local_path,
    new_file,
    new_folder,
    root_url,
    scratch_folder,
)


@given(st.lists(st.binary(max_size=50)))
def test_a_digest_does_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    hasher = Hasher()
    for piece in pieces:
        hasher.update(piece)
    content = b"".join(pieces)
    found = hasher.digest()
    assert (found.filesize, found.md5sum) == (len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())
    assert found.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_a_file_is_digested_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * size)
    assert digest_file(path).sha256 == hashlib.sha256(b"x" * size).hexdigest()


def test_a_copy_with_the_registered_checksums_is_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"pixels")
    facts = digest_file(source)
    request = StageRequest(f"file://{source}", str(target), facts.filesize, facts.md5sum, facts.sha256)
    assert copy_checked(request) == 6
    assert target.read_bytes() == b"pixels"


@pytest.mark.parametrize("wrong", [{"filesize": 7}, {"md5sum": "0" * 32}, {"sha256": "0" * 64}])
def test_a_copy_of_other_bytes_than_registered_is_removed_and_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"pixels")
    with pytest.raises(IntegrityError, match=f"{source}: {next(iter(wrong))} is .*, registered as"):
        copy_checked(StageRequest(str(source), str(target), **wrong))
    assert not target.exists()


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        copy_checked(StageRequest(str(tmp_path / "a"), str(tmp_path / "b")))
    assert (tmp_path / "b").read_bytes() == b"old"


def test_a_new_folder_appears_with_everything_in_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "job"
    with new_folder(target) as aside:
        (aside / "in").mkdir()
        assert not target.exists()
        assert aside.parent == target.parent
    assert [path.name for path in target.iterdir()] == ["in"]
    assert [path.name for path in target.parent.iterdir()] == ["job"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), new_folder(tmp_path / "job") as aside:
        aside.write_text("this is a folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_a_folder_is_not_made_where_something_is(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "job"
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    with pytest.raises(ConflictError, match=f"{target} exists"), new_folder(target):
        pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_a_folder_that_another_process_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "job"
    with pytest.raises(ConflictError, match="appeared while it was being made"), new_folder(target):
        (target / "theirs").mkdir(parents=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["job", "theirs"]


BUILD_FOREVER = """
import sys, time
from pathlib import Path
from dbb.storage import new_folder
with new_folder(Path(sys.argv[1])) as aside:
    (aside / "half").write_text("x")
    print("building", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_swept_and_what_a_live_one_builds_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD_FOREVER, str(tmp_path / "job")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "building\n"
        [theirs] = tmp_path.iterdir()
        with new_folder(tmp_path / "other"):
            pass
        with pytest.raises(IsADirectoryError), new_folder(tmp_path / "job") as aside:
            aside.write_text("this is a folder")
        assert (theirs / "half").read_text() == "x"
        other.send_signal(signal.SIGKILL)
    with new_folder(tmp_path / "job"):
        assert not theirs.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "other"]


def test_where_folders_cannot_be_locked_scratch_folders_work_and_those_of_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".job.dbb-0123").mkdir()
    with scratch_folder(tmp_path / "job") as ours:
        (ours / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == [".job.dbb-0123"]


def test_a_scratch_folder_is_gone_afterwards_and_one_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    script = BUILD_FOREVER.replace("new_folder", "scratch_folder")
    command = [sys.executable, "-c", script, str(tmp_path / "job")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "building\n"
        [theirs] = tmp_path.iterdir()
        with scratch_folder(tmp_path / "job") as ours:
            (ours / "mine").write_text("x")
            assert {ours, theirs} == set(tmp_path.iterdir())
        assert [theirs] == list(tmp_path.iterdir())
        other.send_signal(signal.SIGKILL)
    with scratch_folder(tmp_path / "job") as ours:
        assert [ours] == list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "s3://", "s3:///", "file://", "/data/a[0]", "/data/a*", "file:///data/a?", "a]"])
def test_a_root_that_names_no_place_or_that_the_butler_would_glob_is_refused(text: str) -> None:
    with pytest.raises(UnsafePathError, match="archive root"):
        root_url(text)


def test_a_new_file_replaces_a_link_and_does_not_write_through_it(tmp_path: Path) -> None:
    archived = tmp_path / "archived"
    archived.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(archived)
    with new_file(link) as stream:
        stream.write(b"new")
    assert (archived.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"precious", b"new", False)


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), new_file(path) as stream:
        stream.writelines([b"half", None])
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_root_is_a_url_without_a_final_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    roots = ["file:///data/home/", "/data//home", "/data/x/../home", "s3://bucket/home/", "https://host/a b//"]
    expected = ["file:///data/home"] * 3 + ["s3://bucket/home", "https://host/a b"]
    assert [root_url(text) for text in roots] == expected
    assert root_url("here") == f"file://{Path.cwd()}/here"


def test_a_file_url_must_be_absolute() -> None:
    with pytest.raises(ValueError, match="write file:///absolute/path"):
        root_url("file://data/home")


def test_local_is_what_has_no_other_scheme() -> None:
    assert [is_local(url) for url in ("file:///a", "/a", "a b", "s3://a/b", "memory://a")] == [True] * 3 + [False] * 2
    assert local_path("file:///a%20b") == "/a%20b"
