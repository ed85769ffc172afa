"""What is in a tar is found by its headers alone, and a tar that could do harm is refused with the member named."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbb.errors import ConflictError, DbbError, IntegrityError, NotFoundError, UnsafePathError, UsageError
from dbb.members import HEADER, Member, MemberRequest, copy_member, header_problem, member_problem
from dbb.refcats import gz, tarindex
from dbb.refcats.gz import GzipTars
from dbb.refcats.pack import pack_folder
from dbb.refcats.shards import check_name, shard_depth, shard_trixel
from dbb.refcats.tars import index_tar

Entry = tuple[str, bytes] | tarfile.TarInfo


def make_tar(path: Path, *entries: Entry, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            tar.addfile(info, io.BytesIO(entry[1]))
    return path


def info(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def members(path: Path) -> list[Member]:
    return index_tar(str(path))[0]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_with_their_places_in_every_format(tmp_path: Path, form: int) -> None:
    long = "ps1/" + "long-" * 18 + ".fits"
    entries = [("ps1/config.py", b"root"), ("ps1/189584.fits", b"x" * 700), (long, b"y"), ("ps1/empty", b"")]
    path = make_tar(tmp_path / "a.tar", info("ps1", tarfile.DIRTYPE), *entries, form=form)
    found = members(path)
    assert [(one.name, one.size) for one in found] == [(name, len(data)) for name, data in entries]
    data = path.read_bytes()
    assert [data[one.position : one.position + one.size] for one in found] == [content for _, content in entries]


def test_a_dot_folder_before_all_names_is_no_part_of_them(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", info(".", tarfile.DIRTYPE), ("./config.py", b"x"), ("./189584.fits", b"y"))
    assert [one.name for one in members(path)] == ["config.py", "189584.fits"]


HOSTILE: dict[str, tuple[Entry, str]] = {
    "absolute": (("/etc/passwd", b"x"), "/etc/passwd"),
    "climbing": (("ps1/../../x", b"x"), "ps1/../../x"),
    "climbing folder": (info("../x", tarfile.DIRTYPE), "../x"),
    "pattern characters": (("ps1/a[0].fits", b"x"), "ps1/a[0].fits"),
    "control characters": (("ps1/a\nb", b"x"), "ps1/a\\nb"),
    "a symbolic link out": (info("ps1/link", tarfile.SYMTYPE, "/etc/passwd"), "ps1/link"),
    "a symbolic link inside": (info("ps1/link", tarfile.SYMTYPE, "config.py"), "ps1/link"),
    "a hard link out": (info("ps1/hard", tarfile.LNKTYPE, "../../etc/passwd"), "ps1/hard"),
    "a character device": (info("ps1/null", tarfile.CHRTYPE), "ps1/null"),
    "a block device": (info("ps1/disk", tarfile.BLKTYPE), "ps1/disk"),
    "a fifo": (info("ps1/pipe", tarfile.FIFOTYPE), "ps1/pipe"),
    "an unknown type": (info("ps1/odd", b"Z"), "ps1/odd"),
    "the same name": (("ps1/config.py", b"other"), "ps1/config.py"),
    "another case": (("ps1/CONFIG.py", b"other"), "ps1/CONFIG.py"),
    "another case of the folder": (("PS1/x.fits", b"other"), "PS1"),
    "a folder like a file": (("ps1/config.py/x", b"other"), "ps1/config.py"),
    "another spelling": (("ps1/cafe\u0301", b"x"), "ps1/cafe\u0301"),
    "too deep": (("a/" * 60 + "x", b"x"), "a/a/"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_member_is_refused_by_name(tmp_path: Path, case: str) -> None:
    entry, name = HOSTILE[case]
    path = make_tar(tmp_path / "a.tar", ("ps1/config.py", b"good"), ("ps1/caf\u00e9", b"x"), entry)
    with pytest.raises(UnsafePathError) as caught:
        members(path)
    assert name in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_sparse_member_is_refused_by_name(tmp_path: Path) -> None:
    header = bytearray(info("ps1/holes", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"  # the size that it would have on disk
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(10240 - len(header)))
    with pytest.raises(UnsafePathError, match=r"ps1/holes.*sparse"):
        members(path)


def test_a_member_that_would_be_longer_than_the_tar_is_refused(tmp_path: Path) -> None:
    big = info("ps1/bomb.fits", tarfile.REGTYPE)
    big.size = 1 << 40
    path = tmp_path / "a.tar"
    path.write_bytes(big.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(IntegrityError, match="bomb"):
        members(path)


@pytest.mark.parametrize("size", [-1, -(1 << 60), -512])
def test_a_negative_size_is_refused_and_does_not_run_for_ever(tmp_path: Path, size: int) -> None:
    odd = info("ps1/odd.fits", tarfile.REGTYPE)
    odd.size = size
    path = tmp_path / "a.tar"
    path.write_bytes(odd.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(DbbError):
        members(path)


def test_a_long_chain_of_extra_headers_is_refused(tmp_path: Path) -> None:
    extra = info("x", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    path = tmp_path / "a.tar"
    path.write_bytes(extra * 3000 + bytes(10240))
    with pytest.raises(IntegrityError, match="cannot be read as a tar"):
        members(path)


def test_an_extra_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    extra = info("x", tarfile.XHDTYPE)
    extra.size = 1 << 30
    path = tmp_path / "a.tar"
    with path.open("wb") as stream:
        stream.write(extra.tobuf(tarfile.USTAR_FORMAT))
        stream.truncate((1 << 30) + 20480)
    with pytest.raises(IntegrityError, match="a header wants"):
        members(path)


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"no tar at all" * 100):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(IntegrityError, match=r"a\.tar"):
            members(tmp_path / "a.tar")


@pytest.mark.parametrize(("magic", "how"), [(b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz")])
def test_other_compressions_are_refused_with_advice(tmp_path: Path, magic: bytes, how: str) -> None:
    (tmp_path / "a.tar").write_bytes(magic + bytes(100))
    with pytest.raises(UsageError, match=f"{how}.*dbb refcat pack"):
        members(tmp_path / "a.tar")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarindex, "MOST_MEMBERS", 2)
    path = make_tar(tmp_path / "a.tar", *((f"{number}.fits", b"x") for number in range(3)))
    with pytest.raises(IntegrityError, match=r"2\.fits"):
        members(path)


@given(st.data())
def test_a_tar_cut_anywhere_is_refused_or_lacks_nothing(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(3):
            made = tarfile.TarInfo(f"{number}.fits")
            made.size = 100 + 400 * number
            tar.addfile(made, io.BytesIO(b"x" * made.size))
    whole = tarindex.read_members(io.BytesIO(buffer.getvalue()), "a.tar")
    cut = data.draw(st.integers(0, len(buffer.getvalue()) - 1))
    try:
        found = tarindex.read_members(io.BytesIO(buffer.getvalue()[:cut]), "a.tar")
    except IntegrityError:
        return
    assert found == whole


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_tar_gives_our_errors_only(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("config.py", "é.fits", "l" * 120):
            made = tarfile.TarInfo(name)
            made.size = 10
            tar.addfile(made, io.BytesIO(b"0123456789"))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        for one in tarindex.read_members(io.BytesIO(bytes(content)), "a.tar"):
            assert 0 <= one.position <= one.position + one.size <= len(content)
    except DbbError as error:
        assert "a.tar" in str(error)  # noqa: PT017  # both outcomes are fine


names = st.from_regex(r"[A-Za-z0-9éß][A-Za-z0-9éß._ -]{0,60}", fullmatch=True).filter(
    lambda name: name.strip(".") != ""
)


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=25)
@given(
    shards=st.dictionaries(st.integers(8 * 4**7, 16 * 4**7 - 1), st.binary(max_size=3000), min_size=1, max_size=6),
    others=st.dictionaries(names, st.binary(max_size=600), max_size=4),
)
def test_what_is_packed_and_indexed_comes_out_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, compressed: bool, shards: dict[int, bytes], others: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("pack")
    files = {f"{trixel}.fits": data for trixel, data in shards.items()} | {"config.py": b"config"}
    for name, data in others.items():
        if name.lower() not in {known.lower() for known in files} and shard_trixel(name) is None:
            files[name] = data
    (folder / "in").mkdir()
    for name, data in files.items():
        (folder / "in" / name).write_bytes(data)
    tar = folder / "a.tar"
    try:
        assert pack_folder(folder / "in", tar) == len(files)
    except UnsafePathError:
        assert any(not name.isascii() for name in files)  # two spellings that some file systems hold for one
        return
    if compressed:
        tar = folder / "a.tar.gz"
        tar.write_bytes(gzip.compress((folder / "a.tar").read_bytes()))
    found, seek = index_tar(str(tar))
    assert {one.name for one in found} == set(files)
    reader = GzipTars()
    for number, one in enumerate(found):
        target = folder / f"out-{number}"
        request = MemberRequest(str(tar), str(target), one.size, None, None, one.position, one.name)
        if seek is not None:
            (folder / "idx").write_bytes(seek)
            request = MemberRequest(*_fields(request)[:-1], str(folder / "idx"))
            assert reader.copy(request) == one.size
        else:
            assert member_problem(request) == ""
            assert copy_member(request) == one.size
        assert target.read_bytes() == files[one.name]
    reader.close()


def _fields(request: MemberRequest) -> list[object]:
    names = ("source", "target", "filesize", "md5sum", "sha256", "offset", "name", "index")
    return [getattr(request, name) for name in names]


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(name, encoding="utf-8")
    return path


def test_a_packed_tar_has_its_configuration_first_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    order = ["config.py", "master_schema.fits", "README.md", "LICENSE", "131072.fits", "189584.fits"]
    one = folder_of(tmp_path / "one", *order)
    other = folder_of(tmp_path / "other", *reversed(order))
    (other / "config.py").chmod(0o600)
    pack_folder(one, tmp_path / "one.tar")
    pack_folder(other, tmp_path / "other.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    assert [member.name for member in members(tmp_path / "one.tar")] == order


def test_packing_again_changes_nothing_and_other_bytes_are_not_overwritten(tmp_path: Path) -> None:
    folder, tar = folder_of(tmp_path / "in", "config.py", "189584.fits"), tmp_path / "a.tar"
    assert pack_folder(folder, tar, dry_run=True) == 2
    assert not tar.exists()
    assert pack_folder(folder, tar) == pack_folder(folder, tar) == 2
    (folder / "189584.fits").write_text("other", encoding="utf-8")
    before = tar.read_bytes()
    with pytest.raises(ConflictError, match="other contents"):
        pack_folder(folder, tar)
    assert tar.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "in"]


def _with_link(folder: Path) -> None:
    (folder / "link.fits").symlink_to("config.py")


def _with_folder(folder: Path) -> None:
    (folder / "inner").mkdir()


def _with_case(folder: Path) -> None:
    (folder / "CONFIG.py").touch()


def _with_depth(folder: Path) -> None:
    (folder / "8.fits").touch()


def _without_shard(folder: Path) -> None:
    (folder / "189584.fits").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_with_link, "link.fits is a symbolic link"),
        (_with_folder, "inner is a folder"),
        (_with_case, "config.py"),
        (_with_depth, "8.fits has depth 0"),
        (_without_shard, "no shard"),
    ],
)
def test_a_folder_with_strange_things_is_not_packed(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    folder = folder_of(tmp_path / "in", "config.py", "189584.fits")
    change(folder)
    with pytest.raises(DbbError, match=said):
        pack_folder(folder, tmp_path / "a.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("tarball", "said"),
    [
        ("a.tar.gz", "a tar of a catalogue is uncompressed"),
        ("in/a.tar", "would lie in the folder that is packed"),
        ("folder.tar", "is a folder"),
        ("nowhere/a.tar", "Make it first"),
    ],
)
def test_a_tar_is_not_made_where_it_could_not_be_used(tmp_path: Path, tarball: str, said: str) -> None:
    folder = folder_of(tmp_path / "in", "config.py", "189584.fits")
    (tmp_path / "folder.tar").mkdir()
    for dry_run in (True, False):
        with pytest.raises(DbbError, match=said):
            pack_folder(folder, tmp_path / tarball, dry_run=dry_run)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["189584.fits", "config.py", "folder.tar", "in"]


def test_a_tar_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(DbbError, match=r"nothing was made of /proc/a\.tar"):
        pack_folder(folder_of(tmp_path / "in", "config.py", "189584.fits"), Path("/proc/a.tar"))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        pack_folder(tmp_path / "nowhere", tmp_path / "a.tar")


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gz, "HARMLESS", 1 << 20)
    path = make_tar(tmp_path / "a.tar", ("ps1/config.py", b"x"), ("ps1/189584.fits", bytes(40 << 20)), ("ps1/y", b"y"))
    compressed = tmp_path / "a.tar.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(IntegrityError, match=r"189584\.fits.*refused as a bomb"):
        members(compressed)


@pytest.mark.parametrize(
    "change", [lambda data: data[: len(data) // 2], lambda data: data[:9000] + b"~~" + data[9002:]]
)
def test_a_broken_compressed_tar_is_named_with_the_place_where_it_ends(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    noise = random.Random(3).randbytes  # does not compress, so that the middle of the tar is that of the file
    entries = [(f"{189440 + n}.fits", noise(1000)) for n in range(20)]
    compressed = tmp_path / "a.tar.gz"
    compressed.write_bytes(change(gzip.compress(make_tar(tmp_path / "a.tar", *entries).read_bytes())))
    with pytest.raises(IntegrityError, match=r"a\.tar\.gz cannot be read as a tar (after '1894|at its beginning)"):
        members(compressed)


def test_a_member_larger_than_any_file_is_named(tmp_path: Path) -> None:
    big = info("189584.fits", tarfile.REGTYPE)
    big.size = 1 << 60
    path = tmp_path / "a.tar"
    path.write_bytes(big.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(IntegrityError, match=r"after '189584\.fits'"):
        members(path)


def test_without_indexed_gzip_a_compressed_tar_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "indexed_gzip", None)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(make_tar(tmp_path / "a.tar", ("189584.fits", b"x")).read_bytes()))
    with pytest.raises(DbbError, match=r"pip install 'mini-dbb\[gzip\]'"):
        members(path)


def test_the_header_before_a_member_tells_whether_it_is_the_right_one(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", ("ps1/189584.fits", b"x" * 10), ("ps1/189585.fits", b"y" * 20))
    first, second = members(path)
    data = path.read_bytes()

    def before(member: Member) -> bytes:
        return data[member.position - HEADER : member.position]

    assert header_problem(before(first), "189584.fits", 10) == ""
    assert "'189585.fits' is where" in header_problem(before(second), "189584.fits", 20)
    assert "has 10 bytes, indexed with 11" in header_problem(before(first), "189584.fits", 11)
    assert "no tar header" in header_problem(bytes(HEADER), "189584.fits", 10)
    assert "--reindex" in header_problem(b"", "189584.fits", 10)


@pytest.mark.parametrize("md5sum", [None, "0" * 32])
def test_a_member_that_is_cut_off_or_other_bytes_leaves_no_file(tmp_path: Path, md5sum: str | None) -> None:
    path = make_tar(tmp_path / "a.tar", ("189584.fits", b"x" * 1000))
    (member,) = members(path)
    if md5sum is None:
        path.write_bytes(path.read_bytes()[: member.position + 500])
    target = tmp_path / "out"
    request = MemberRequest(str(path), str(target), 1000, md5sum, None, member.position, "189584.fits")
    with pytest.raises(IntegrityError, match=r"189584\.fits.*--reindex"):
        copy_member(request)
    assert not target.exists()
    assert bool(member_problem(request)) == (md5sum is None)


@pytest.mark.parametrize(
    ("files", "depth"), [(["8.fits"], 0), (["189584.fits", "131072.fits", "262143.fits"], 7), (["32.fits", "a"], 1)]
)
def test_shards_tell_the_depth(files: list[str], depth: int) -> None:
    assert shard_depth(files, "a.tar") == depth


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["189584.fits", "32.fits"], "189584.fits has depth 7, 32.fits depth 1"),
        (["7.fits"], "7.fits is not called after"),
        (["16.fits"], "16.fits is not called after"),
        (["config.py", "0189584.fits"], "no shard"),
    ],
)
def test_shards_of_no_depth_or_several_are_refused(files: list[str], said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        shard_depth(files, "a.tar")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 10 + "*"])
def test_a_catalogue_needs_the_name_of_a_folder(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a reference catalogue"):
        check_name(name)
