import gzip
import hashlib
import io
import os
import struct
import tarfile
import time
from pathlib import Path

import pytest

from kennel import archive, errors


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "manifest.json").write_text("{}")
    (root / "sub" / "weights.bin").write_bytes(bytes(range(256)) * 1000)
    return root


def contents(root: Path) -> dict[str, bytes | None]:
    return {p.relative_to(root).as_posix(): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def member(name: str, content: bytes = b"x", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def hostile(path: Path, *members: tuple[tarfile.TarInfo, bytes], fmt: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=fmt) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def test_what_is_packed_is_unpacked_unchanged(tree, tmp_path):
    archive.pack(tree, tmp_path / "model.tar.gz")
    archive.unpack(tmp_path / "model.tar.gz", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tree)
    assert contents(tree)["sub/empty"] is None


def test_any_tar_reads_what_was_packed(tree, tmp_path):
    archive.pack(tree, tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert tar.getnames() == ["manifest.json", "sub", "sub/empty", "sub/weights.bin"]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in tar} == {(0, 0, 0, "", "")}


def test_the_same_files_give_the_same_bytes_whenever_and_wherever_they_are_packed(tree, tmp_path):
    archive.pack(tree, tmp_path / "one.tar.gz")
    other = tmp_path / "elsewhere"
    for name, content in reversed(contents(tree).items()):  # created in another order
        path = other / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o600)
    for path in other.rglob("*"):
        os.utime(path, (time.time() - 10_000, time.time() - 10_000))
    archive.pack(other, tmp_path / "two.tar.gz")
    digests = {hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("one.tar.gz", "two.tar.gz")}
    assert len(digests) == 1
    assert (tmp_path / "one.tar.gz").read_bytes()[4:8] == b"\0\0\0\0"  # gzip's date


def test_a_failed_pack_leaves_the_earlier_archive_and_nothing_else(tree, tmp_path):
    target = tmp_path / "out" / "model.tar.gz"
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    (tree / "link").symlink_to("/etc/passwd")
    with pytest.raises(errors.InvalidModel, match="link"):
        archive.pack(tree, target)
    assert target.read_bytes() == b"earlier"
    assert list(target.parent.iterdir()) == [target]


def test_a_directory_that_is_not_empty_is_refused(tree, tmp_path):
    archive.pack(tree, tmp_path / "model.tar.gz")
    with pytest.raises(errors.InvalidModel, match="not empty"):
        archive.unpack(tmp_path / "model.tar.gz", tree)


LINK = {"type": tarfile.SYMTYPE, "size": 0}
HOSTILE = {
    "parent path": [member("../escaped")],
    "parent path inside": [member("a/../../escaped")],
    "absolute path": [member("/tmp/kennel-archive-escaped")],
    "symbolic link": [member("link", b"", linkname="/etc/passwd", **LINK)],
    "file through a symbolic link": [member("link", b"", linkname="..", **LINK), member("link/escaped")],
    "hard link": [member("a"), member("hard", b"", type=tarfile.LNKTYPE, linkname="../outside")],
    "character device": [member("device", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "block device": [member("device", b"", type=tarfile.BLKTYPE)],
    "pipe": [member("pipe", b"", type=tarfile.FIFOTYPE)],
    "duplicate name": [member("a", b"one"), member("a", b"two")],
    "duplicate name, spelled otherwise": [member("a/b"), member("a/./b")],
    "file under a file": [member("a"), member("a/b")],
    "file over a directory": [member("a/b"), member("a")],
    "control character": [member("a\nb")],
    "backslash": [member("..\\escaped")],
    "long name": [member("a" * 300)],
    "deep name": [member("a/" * 600 + "b")],
    "no name": [member(".")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(name, tmp_path):
    (tmp_path / "outside").write_text("mine")
    path = hostile(tmp_path / "hostile.tar.gz", *HOSTILE[name])
    with pytest.raises(errors.InvalidModel) as caught:
        archive.unpack(path, tmp_path / "in" / "out")
    assert "hostile.tar.gz" in caught.value.where
    assert {p.name for p in tmp_path.iterdir()} == {"outside", "hostile.tar.gz", "in"}
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["out"]
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))
    assert (tmp_path / "outside").read_text() == "mine"
    assert not Path("/tmp/kennel-archive-escaped").exists()


def test_the_error_names_the_member(tmp_path):
    with pytest.raises(errors.InvalidModel, match="escaped"):
        archive.unpack(hostile(tmp_path / "h.tar.gz", member("../escaped")), tmp_path / "out")


def test_a_plain_name_is_taken_with_leading_dots_and_slashes_cleaned(tmp_path):
    archive.unpack(
        hostile(tmp_path / "a.tar.gz", member("./", b"", type=tarfile.DIRTYPE), member("./a//b")), tmp_path / "o"
    )
    assert contents(tmp_path / "o") == {"a": None, "a/b": b"x"}


def test_modes_of_the_archive_do_not_reach_the_disk(tmp_path):
    archive.unpack(hostile(tmp_path / "a.tar.gz", member("setuid", b"x", mode=0o6777)), tmp_path / "o")
    assert (tmp_path / "o" / "setuid").stat().st_mode & 0o7133 == 0


@pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_every_common_tar_dialect_is_read(tmp_path, fmt):
    archive.unpack(hostile(tmp_path / "a.tar.gz", member("d/" + "n" * 90), fmt=fmt), tmp_path / "o")
    assert contents(tmp_path / "o")["d/" + "n" * 90] == b"x"


def test_too_many_members_are_refused(tmp_path):
    path = hostile(tmp_path / "a.tar.gz", *[member(str(i)) for i in range(11)])
    with pytest.raises(errors.InvalidModel, match="more than 10 members"):
        archive.unpack(path, tmp_path / "o", max_members=10)
    assert len(list((tmp_path / "o").iterdir())) == 10


def test_too_many_bytes_in_all_are_refused_before_they_are_written(tmp_path):
    path = hostile(tmp_path / "bomb.tar.gz", member("a", b"\0" * 600_000), member("b", b"\0" * 600_000))
    with pytest.raises(errors.InvalidModel, match="bytes"):
        archive.unpack(path, tmp_path / "o", max_bytes=1_000_000)
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["a"]


def test_a_header_that_lies_about_a_huge_size_is_refused(tmp_path):
    info = tarfile.TarInfo("huge")
    info.size = 10**15
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048))
    with pytest.raises(errors.InvalidModel, match="huge"):
        archive.unpack(tmp_path / "a.tar.gz", tmp_path / "o")


def test_a_huge_extended_header_is_refused_without_reading_it_into_memory(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 50_000_000
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as sink:
        sink.write(info.tobuf(tarfile.GNU_FORMAT))
        sink.write(b"a" * 50_000_000)
    with pytest.raises(errors.InvalidModel):
        archive.unpack(tmp_path / "a.tar.gz", tmp_path / "o", max_bytes=10_000_000)


def test_a_member_cut_short_is_refused(tree, tmp_path):
    archive.pack(tree, tmp_path / "a.tar.gz")
    whole = gzip.decompress((tmp_path / "a.tar.gz").read_bytes())
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(whole[: len(whole) // 2]))
    with pytest.raises(errors.InvalidModel):
        archive.unpack(tmp_path / "cut.tar.gz", tmp_path / "o")


@pytest.mark.parametrize("cut", [5, 100, -1, -6])
def test_a_gzip_cut_short_is_refused(tree, tmp_path, cut):
    archive.pack(tree, tmp_path / "a.tar.gz")
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:cut])
    with pytest.raises(errors.InvalidModel):
        archive.unpack(tmp_path / "cut.tar.gz", tmp_path / "o")


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b"not tar" * 200), gzip.compress(b"\xff" * 512)])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(errors.InvalidModel):
        archive.unpack(tmp_path / "a.tar.gz", tmp_path / "o")


def test_sparse_members_are_refused(tmp_path):
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398] = b"%011o " % 0
    block[398:410] = b"%011o " % 512
    block[483:495] = b"%011o " % (1 << 30)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(struct.unpack("512B", bytes(block)))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(block) + b"\0" * 2048))
    with pytest.raises(errors.InvalidModel, match="sparse"):
        archive.unpack(tmp_path / "a.tar.gz", tmp_path / "o")
