"""Verifying: what is wrong is said, what is right is left alone, and repair does only what is beyond doubt."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import fsspec
import pytest
import sqlalchemy as sa
from registries import contents, execute, rows, small_registry, statements

from dbb import Registry
from dbb.errors import ConflictError, NotFoundError, UsageError
from dbb.registry._tables import tar_member
from dbb.verify import Findings, Question, verify

FULL = Question(checksums=True)
REPAIR = Question(checksums=True, repair=True)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / name for name in ("home", "spare")}


@pytest.fixture
def registry(registry_url: str, roots: dict[str, Path]) -> Iterator[Registry]:
    """Two archives on disk; ``home`` has one file, so that it is not taken for an empty mount point."""
    with small_registry(registry_url, "calexp", "src") as opened:
        for name, root in roots.items():
            root.mkdir()
            opened.add_archive(name, str(root))
        add(opened, roots["home"], "first.fits")
        yield opened


def add(
    registry: Registry, root: Path, relpath: str, *, facts: str = "filesize md5sum sha256", filetype: str = "calexp",
    content: str = "",
) -> Path:  # fmt: skip
    """Write a file and register the named facts of it."""
    path = root / relpath
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (content or relpath).encode()
    path.write_bytes(data)
    known = {"filesize": len(data), "md5sum": md5(data), "sha256": hashlib.sha256(data).hexdigest()}
    row = {"relpath": relpath, **{name: known[name] for name in facts.split()}}
    row["visit"] = int.from_bytes(hashlib.blake2b(relpath.encode(), digest_size=4).digest())
    done = registry.ingest_table([row | {"ccd": 1}], filetype=filetype, archive=root.name)
    assert done.added == 1
    return path


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def said(found: Findings) -> list[tuple[str, str, str]]:
    return [(one.archive, one.relpath, one.problem) for one in found.problems]


def known(registry: Registry, name: str) -> list[object]:
    return list(rows(registry, f"select filesize, md5sum, sha256 from desfile where filename = '{name}'")[0])


def test_archives_that_hold_what_is_registered_have_no_problem(registry: Registry, roots: dict[str, Path]) -> None:
    add(registry, roots["home"], "a/b/1.fits.fz")
    add(registry, roots["spare"], "a-b/2.fits.gz")
    before = contents(registry)
    found = verify(registry, FULL)
    assert found == Findings(
        checked=3, read=sum(len(path) for path in ("first.fits", "a/b/1.fits.fz", "a-b/2.fits.gz"))
    )
    assert contents(registry) == before


def test_each_problem_is_told_with_what_was_expected_and_found(registry: Registry, roots: dict[str, Path]) -> None:
    home = roots["home"]
    add(registry, home, "lost.fits").unlink()
    add(registry, home, "longer.fits").write_text("longer than before")
    add(registry, home, "changed.fits").write_text("xxxxxxx.fits")
    (home / "x").mkdir()
    (home / "x" / "dark.fits").touch()
    found = {one.relpath: one for one in verify(registry, FULL).problems}
    assert {path: one.problem for path, one in found.items()} == {
        "lost.fits": "lost", "longer.fits": "wrong size", "changed.fits": "wrong checksum", "x/dark.fits": "dark",
    }  # fmt: skip
    assert found["lost.fits"].expected == "9 bytes"
    assert (found["longer.fits"].expected, found["longer.fits"].found) == ("11", "18")
    assert found["changed.fits"].expected == f"md5sum {md5(b'changed.fits')}"
    assert found["changed.fits"].found == f"md5sum {md5(b'xxxxxxx.fits')}"


def test_without_checksums_no_file_is_read(registry: Registry, roots: dict[str, Path]) -> None:
    add(registry, roots["home"], "changed.fits").write_text("xxxxxxx.fits")
    assert verify(registry, Question()) == Findings(checked=2)


def test_one_archive_or_filetype_alone_can_be_verified(registry: Registry, roots: dict[str, Path]) -> None:
    add(registry, roots["home"], "lost.fits").unlink()
    add(registry, roots["home"], "src.fits", filetype="src").unlink()
    (roots["spare"] / "dark.fits").touch()
    assert said(verify(registry, Question(("spare",)))) == [("spare", "dark.fits", "dark")]
    assert said(verify(registry, Question(filetype="src"))) == [("home", "src.fits", "lost")]
    with pytest.raises(NotFoundError, match="unknown archive 'hme'; known: home, spare"):
        verify(registry, Question(("hme",)))
    with pytest.raises(NotFoundError, match="unknown filetype"):
        verify(registry, Question(filetype="srcs"))


def test_links_folders_and_what_is_no_file_at_a_files_place_are_told_apart(
    registry: Registry, roots: dict[str, Path], tmp_path: Path
) -> None:
    home = roots["home"]
    for name in ("good", "broken", "folder", "pipe"):
        add(registry, home, f"{name}.fits").rename(tmp_path / f"{name}.fits")
    (home / "good.fits").symlink_to(tmp_path / "good.fits")
    (home / "broken.fits").symlink_to("nowhere")
    (home / "folder.fits").mkdir()
    os.mkfifo(home / "pipe.fits")
    (home / "round").symlink_to(home)
    found = {one.relpath: (one.problem, one.found) for one in verify(registry, FULL).problems}
    assert found == {
        "broken.fits": ("lost", "a link to nowhere"), "folder.fits": ("lost", "a folder"),
        "pipe.fits": ("lost", "no plain file"),
    }  # fmt: skip


def test_what_a_transfer_left_is_dark_and_called_so(registry: Registry, roots: dict[str, Path]) -> None:
    for path in (".1.fits.dbb-0123abcd", ".ingest.dbb-89abcdef/2.fits", ".hidden.dbb-no"):
        (roots["home"] / path).parent.mkdir(exist_ok=True)
        (roots["home"] / path).touch()
    found = {one.relpath: one.found for one in verify(registry, Question()).problems}
    left = "what a transfer left that was killed, or one at work"
    assert found == {".1.fits.dbb-0123abcd": left, ".ingest.dbb-89abcdef/2.fits": left, ".hidden.dbb-no": "a file"}


def test_an_archive_within_another_is_not_dark_there(registry: Registry, roots: dict[str, Path]) -> None:
    inner = roots["home"] / "inner"
    inner.mkdir()
    registry.add_archive("inner", str(inner))
    add(registry, inner, "1.fits")
    assert verify(registry, FULL) == Findings(checked=2, read=16)


def test_a_file_that_the_archive_around_has_is_not_dark(registry: Registry, roots: dict[str, Path]) -> None:
    inner = roots["home"] / "inner"
    inner.mkdir()
    add(registry, roots["home"], "inner/of-home.fits")
    registry.add_archive("inner", str(inner))
    (inner / "of-nobody.fits").touch()
    assert said(verify(registry, Question())) == [("inner", "of-nobody.fits", "dark")]


def test_a_name_that_is_no_text_is_dark(registry: Registry, roots: dict[str, Path]) -> None:
    (roots["home"] / os.fsdecode(b"caf\xe9.fits")).touch()
    assert said(verify(registry, Question())) == [("home", "caf\\udce9.fits", "dark")]


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_of_an_archive_that_is_not_there_nothing_is_called_lost(
    registry: Registry, roots: dict[str, Path], how: str
) -> None:
    shutil.rmtree(roots["home"])
    if how == "empty":
        roots["home"].mkdir()
    add(registry, roots["spare"], "1.fits").unlink()
    (roots["spare"] / "dark.fits").touch()
    found = verify(registry, REPAIR)
    assert said(found) == [("home", "", "unreachable"), ("spare", "1.fits", "lost"), ("spare", "dark.fits", "dark")]
    assert ("is empty" if how == "empty" else "No such file") in found.problems[0].found


def test_what_cannot_be_looked_at_is_neither_lost_nor_wrong(registry: Registry, roots: dict[str, Path]) -> None:
    path = add(registry, roots["home"], "1.fits")
    path.unlink()
    path.symlink_to(path.name)
    found = verify(registry, REPAIR)
    assert said(found) == [("home", "1.fits", "unreadable")]
    assert found.problems[0].found == "Too many levels of symbolic links"


def test_a_sample_is_a_part_and_each_seed_takes_another(registry: Registry, roots: dict[str, Path]) -> None:
    for number in range(100):
        add(registry, roots["home"], f"{number}.fits").unlink()
        (roots["spare"] / f"{number}.fits").touch()
    half = Question(sample=0.5, seed=1)
    found = verify(registry, half)
    assert verify(registry, half) == found
    assert verify(registry, replace(half, seed=2)).problems != found.problems
    assert 25 < found.checked < 75
    assert 50 < len(found.problems) < 150
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="give a part above 0"):
            verify(registry, Question(sample=wrong))


def test_repair_fills_what_is_not_known_of_intact_files(registry: Registry, roots: dict[str, Path]) -> None:
    home = roots["home"]
    full = [6, md5(b"1.fits"), hashlib.sha256(b"1.fits").hexdigest()]
    add(registry, home, "1.fits", facts="filesize md5sum")
    add(registry, home, "2.fits", facts="sha256")
    add(registry, home, "3.fits", facts="")
    add(registry, home, "4.fits", facts="filesize").write_text("much longer")
    add(registry, home, "5.fits", facts="md5sum").write_text("5.FITS")
    before = contents(registry)
    tried = verify(registry, replace(REPAIR, dry_run=True))
    assert (tried.unfilled, tried.filled) == (3, 3)
    assert contents(registry) == before
    assert verify(registry, FULL).unfilled == 3
    found = verify(registry, REPAIR)
    assert (found.unfilled, found.filled) == (3, 3)
    assert known(registry, "1.fits") == full
    assert None not in known(registry, "2.fits") + known(registry, "3.fits")
    assert known(registry, "4.fits") == [6, None, None]
    assert known(registry, "5.fits") == [None, md5(b"5.fits"), None]
    assert said(found) == [("home", "4.fits", "wrong size"), ("home", "5.fits", "wrong checksum")]
    assert verify(registry, REPAIR).unfilled == 0


def test_without_checksums_repair_fills_sizes_alone(registry: Registry, roots: dict[str, Path]) -> None:
    add(registry, roots["home"], "1.fits", facts="")
    assert verify(registry, Question(repair=True)).filled == 1
    assert known(registry, "1.fits") == [6, None, None]


def test_copies_that_differ_are_no_source_of_a_checksum(registry: Registry, roots: dict[str, Path]) -> None:
    for name in ("same", "other"):
        add(registry, roots["home"], f"{name}.fits")
        add(registry, roots["spare"], f"{name}.fits", facts="filesize md5sum")
    (roots["spare"] / "other.fits").write_text("OTHER.fits")
    execute(registry, "update desfile set md5sum = null, sha256 = null, filesize = null where filename != 'first.fits'")
    found = verify(registry, REPAIR)
    assert None not in known(registry, "same.fits")
    assert known(registry, "other.fits") == [None, None, None]
    assert (found.unfilled, found.filled) == (3, 1)


def test_a_lost_copy_is_forgotten_only_if_another_is_surely_intact(registry: Registry, roots: dict[str, Path]) -> None:
    names = ("good", "bad", "gone", "unproved")
    for name in names:
        for root in roots.values():
            add(registry, root, f"{name}.fits", facts="filesize md5sum")
    add(registry, roots["home"], "only.fits").unlink()
    execute(registry, "update desfile set md5sum = null where filename = 'unproved.fits'")
    for name in names:
        (roots["home"] / f"{name}.fits").unlink()
    (roots["spare"] / "bad.fits").write_text("BAD.fits")
    (roots["spare"] / "gone.fits").unlink()
    before = contents(registry)
    tried = verify(registry, replace(REPAIR, archives=("home",), dry_run=True))
    assert contents(registry) == before
    found = verify(registry, replace(REPAIR, archives=("home",)))
    assert [(one.relpath, one.repair) for one in tried.problems] == [
        (one.relpath, one.repair) for one in found.problems
    ]
    assert {one.relpath: one.repair for one in found.problems} == {
        "good.fits": "forget this copy: archive spare has an intact copy",
        "bad.fits": "none: no intact copy in spare either",
        "gone.fits": "none: no intact copy in spare either",
        "unproved.fits": "none: no checksum is registered that could prove the copy in spare intact",
        "only.fits": "none: no other archive has a copy",
    }
    assert [one.relpath for one in found.problems if one.repaired] == ["good.fits"]
    assert not any(one.repaired for one in tried.problems)
    places = rows(registry, "select filename, archive_name from file_archive_info order by 1, 2")
    assert [row for row in places if row[0] == "good.fits"] == [("good.fits", "spare")]
    assert len(places) == len(before["file_archive_info"]) - 1
    assert len(rows(registry, "select id from desfile")) == len(before["desfile"])


def test_repair_never_touches_a_file_or_a_wrong_row(registry: Registry, roots: dict[str, Path]) -> None:
    home = roots["home"]
    add(registry, home, "size.fits").write_text("other size")
    add(registry, home, "sum.fits").write_text("SUM.fits")
    (home / "dark.fits").touch()
    before = contents(registry), {path: path.read_bytes() for path in home.iterdir()}
    found = verify(registry, REPAIR)
    assert len(found.problems) == 3
    assert all(one.repair.startswith("none: ") and not one.repaired for one in found.problems)
    assert (contents(registry), {path: path.read_bytes() for path in home.iterdir()}) == before


def pack(registry: Registry, root: Path, name: str, members: list[str]) -> None:
    """Register a tar and files packed in it, as an operator would who packs files that are registered."""
    folder = root / "packed"
    folder.mkdir()
    for member in members:
        (folder / member).write_text(member)
    with tarfile.open(root / name, "w:gz" if name.endswith(".gz") else "w") as tar:
        for member in members:
            tar.add(folder / member, f"x/{member}")
    shutil.rmtree(folder)
    data = (root / name).read_bytes()
    paths = [{"relpath": name, "filesize": len(data), "md5sum": md5(data), "visit": 1, "ccd": 1}]
    paths += [
        {"relpath": f"{name}/x/{member}", "filesize": len(member), "md5sum": md5(member.encode()), "visit": 2, "ccd": n}
        for n, member in enumerate(members)
    ]
    assert registry.ingest_table(paths, filetype="calexp", archive=root.name).added == len(paths)
    numbers = dict(rows(registry, "select filename, id from desfile"))
    with tarfile.open(root / name) as tar:
        found = [
            {
                "tar_id": numbers[name.removesuffix(".gz")], "member": one.name, "position": one.offset_data,
                "filesize": one.size, "desfile_id": numbers[Path(one.name).name],
            }
            for one in tar
        ]  # fmt: skip
    registry.write(lambda conn: conn.execute(sa.insert(tar_member), found))


@pytest.mark.parametrize("name", ["cat.tar", "cat.tar.gz"])
def test_packed_files_are_checked_in_their_tar(registry: Registry, roots: dict[str, Path], name: str) -> None:
    pack(registry, roots["home"], name, ["1.fits", "2.fits"])
    found = verify(registry, FULL)
    assert (said(found), found.checked, found.unread) == ([], 4, 2 if name.endswith(".gz") else 0)
    tar = roots["home"] / name
    data = bytearray(tar.read_bytes())
    if name == "cat.tar":
        data[data.index(b"2.fits", data.index(b"x/2.fits") + 8)] = 0
        tar.write_bytes(data)
        assert said(verify(registry, FULL)) == [
            ("home", "cat.tar", "wrong checksum"), ("home", "cat.tar/x/2.fits", "wrong checksum"),
        ]  # fmt: skip
    tar.unlink()
    found = verify(registry, REPAIR)
    assert said(found) == [("home", path, "lost") for path in (name, f"{name}/x/1.fits", f"{name}/x/2.fits")]
    assert found.problems[1].found == f"its tar {name} is lost"


def test_statements_grow_with_batches_and_not_with_files(registry: Registry, roots: dict[str, Path]) -> None:
    sent_by_size = []
    for count in (20, 600):
        made = [{"relpath": f"n{count}/{n}.fits", "visit": count, "ccd": n, "filesize": 0} for n in range(count)]
        registry.ingest_table(made, filetype="calexp", archive="home")
        (roots["home"] / f"n{count}").mkdir()
        for row in made:
            (roots["home"] / str(row["relpath"])).touch()
        with statements(registry) as sent:
            assert verify(registry, REPAIR).filled == count
        sent_by_size.append(len(sent))
    assert sent_by_size[0] == sent_by_size[1]


KILLED = """
import os, signal, sys
from dbb import Registry
from dbb.verify import Question, verify
opened = 0
def count(event, arguments):
    global opened
    if event == "open" and str(arguments[0]).endswith(".fits"):
        opened += 1
        if opened == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
with Registry(sys.argv[1]) as registry:
    found = verify(registry, Question(checksums=True, repair=True), state=sys.argv[2], jobs=2)
print(opened, found.checked, len(found.problems), found.filled)
"""


def test_a_killed_verification_goes_on_where_it_was(registry: Registry, roots: dict[str, Path], tmp_path: Path) -> None:
    count = 2500
    made = [{"relpath": f"f{n % 7}/{n}.fits", "visit": 7, "ccd": n} for n in range(count)]
    registry.ingest_table(made, filetype="calexp", archive="home")
    for row in made:
        path = roots["home"] / str(row["relpath"])
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    for n in (3, 1500, 2400):
        (roots["home"] / str(made[n]["relpath"])).unlink()
    state = tmp_path / "state.jsonl"
    url = registry.engine.url.render_as_string(hide_password=False)

    def run(die_at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, url, str(state), str(die_at)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run(1200).returncode == -9
    lines = state.read_text().splitlines()
    assert len(lines) == 2
    assert run(1100).returncode == -9
    with state.open("a") as stream:
        stream.write('{"archive": "home", "st')
    last = run(-1)
    assert last.returncode == 0, last.stderr
    # of 2498 files 999 and 999 were done with when it was killed
    assert last.stdout.split() == ["500", "2501", "3", "2497"]
    assert run(-1).stdout.split() == ["0", "2501", "3", "2497"]
    fresh = verify(registry, FULL)
    assert [json.loads(line)["reached"] for line in state.read_text().splitlines()[1:]].count(None) == 4
    assert said(fresh) == [("home", str(made[n]["relpath"]), "lost") for n in (3, 1500, 2400)]
    assert fresh.unfilled == 0


def test_a_state_belongs_to_its_question(registry: Registry, tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    first = verify(registry, FULL, state=state)
    assert verify(registry, FULL, state=state) == first
    with pytest.raises(UsageError, match="is not the state of this verification"):
        verify(registry, Question(), state=state)
    state.write_text("something else")
    with pytest.raises(UsageError, match="is not the state of this verification"):
        verify(registry, FULL, state=state)
    assert state.read_text() == "something else"


def test_a_state_in_use_is_refused(registry: Registry, tmp_path: Path) -> None:
    import fcntl

    state = tmp_path / "state.jsonl"
    with state.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="another process is verifying with it"):
            verify(registry, FULL, state=state)


def move(registry: Registry, url: str) -> None:
    execute(registry, f"update ops_archive set root = '{url}' where name = 'home'")


def remote_problems(registry: Registry, roots: dict[str, Path]) -> None:
    home = roots["home"]
    for name in ("a/good", "a/lost", "a/size", "sum", "deep/er/lost"):
        add(registry, home, f"{name}.fits")
    (home / "a/lost.fits").unlink()
    (home / "a/size.fits").write_text("?")
    (home / "sum.fits").write_text("SUM.fits")
    shutil.rmtree(home / "deep")
    (home / "dark").mkdir()
    (home / "dark/1.fits").touch()


WRONG = {
    ("home", "a/lost.fits", "lost"), ("home", "a/size.fits", "wrong size"), ("home", "deep/er/lost.fits", "lost"),
    ("home", "sum.fits", "wrong checksum"),
}  # fmt: skip


def test_an_archive_that_fsspec_lists_is_verified_folder_by_folder(registry: Registry, roots: dict[str, Path]) -> None:
    remote_problems(registry, roots)
    memory = fsspec.filesystem("memory")
    memory.put(f"{roots['home']}/", "/verify/home/", recursive=True)
    move(registry, "memory://verify/home")
    try:
        found = verify(registry, FULL)
        assert set(said(found)) == {*WRONG, ("home", "dark/1.fits", "dark")}
        assert (found.checked, found.unlisted) == (6, 0)
    finally:
        memory.rm("/verify", recursive=True)
    assert said(verify(registry, FULL)) == [("home", "", "unreachable")]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the library's
        """Say nothing."""


def test_a_web_server_is_asked_file_by_file(registry: Registry, roots: dict[str, Path]) -> None:
    remote_problems(registry, roots)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(roots["home"]))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        move(registry, f"http://127.0.0.1:{server.server_port}")
        found = verify(registry, FULL)
        server.shutdown()
        thread.join()
    assert set(said(found)) == WRONG
    assert found.unlisted == 1
    assert said(verify(registry, REPAIR)) == [("home", "", "unreachable")]
    fsspec.filesystem("http").clear_instance_cache()


def test_an_archive_of_an_unknown_protocol_is_unreachable(registry: Registry) -> None:
    move(registry, "gopher://example.org/data")
    assert said(verify(registry, FULL)) == [("home", "", "unreachable")]
