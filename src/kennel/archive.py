"""model.tar.gz in and out, written deterministically and read with distrust.

An artefact arrives from a bucket, so `unpack` believes nothing: it checks every member itself and
writes only regular files and directories below the directory it was given. `tarfile`'s own
extraction, and its filters, must not be used here: those of Python 3.11.7 can be escaped
(CVE-2025-4517).
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from kennel import errors

MAX_BYTES: Final = 2 * 1024**3
"""Most bytes of all members together, and of the uncompressed tar stream apart from them."""

MAX_MEMBERS: Final = 1_000
_CHUNK: Final = 1024 * 1024
_NAME_BYTES: Final = 1_024
_PART_BYTES: Final = 255


def pack(directory: Path, target: Path) -> None:
    """Write every file below `directory` to `target` (model.tar.gz), the same bytes for the same files.

    Members are sorted, owned by nobody in particular and dated 1970; modes are 644 and 755. The file
    appears under its name only when it is complete and on disk. Raises InvalidModel for anything that
    is neither a regular file nor a directory: `unpack` would refuse it.
    """
    members = sorted(directory.rglob("*"), key=lambda path: path.relative_to(directory).as_posix())
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as raw:
            with (
                # stored, not compressed: weights shrink by a few per cent, and every job would wait for it
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=0, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for path in members:
                    _add(tar, path, path.relative_to(directory).as_posix())
            raw.flush()
            os.fchmod(raw.fileno(), 0o644)
            os.fsync(raw.fileno())
        temporary.replace(target)
        _sync_directory(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unpack(archive: Path, directory: Path, *, max_bytes: int = MAX_BYTES, max_members: int = MAX_MEMBERS) -> None:
    """Extract `archive` into `directory`, which is made if missing and must be empty.

    Raises InvalidModel naming the member for links, devices, absolute or parent paths, duplicate names,
    a file where a directory is needed, more than `max_members` members or `max_bytes` bytes, and for
    what is no gzip or tar at all. Members before the faulty one stay in `directory`; nothing is ever
    written outside it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise errors.InvalidModel("the directory is not empty", where=str(directory), hint="Unpack into a new one.")
    try:
        with gzip.open(archive, "rb") as stream:
            bounded = _Bounded(stream, max_bytes, max_members)
            with _open_tar(bounded) as tar:
                _extract_all(tar, directory.resolve(), archive, max_bytes, max_members)
            while bounded.read(_CHUNK):  # gzip's checksum comes last
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise errors.InvalidModel(
            f"not a readable gzipped tar: {error}", where=str(archive), hint="Pack it again with kennel.archive.pack."
        ) from error
    except (OverflowError, UnicodeError, ValueError) as error:  # hostile headers reach int() and decode() in tarfile
        raise errors.InvalidModel(f"a malformed tar header: {error}", where=str(archive)) from error


class _Bounded:
    """A reader that gives up after as many bytes as an honest archive can have.

    tarfile reads extended headers into memory before we see the member, so the stream itself is capped.
    """

    def __init__(self, stream: gzip.GzipFile, max_bytes: int, max_members: int) -> None:
        self._stream = stream
        # Each honest member: header, a pax header pair, padding; and tar pads the end to 10 KiB.
        self._left = max_bytes + max_members * 4 * tarfile.BLOCKSIZE + 2 * tarfile.RECORDSIZE
        # One read is one header or one buffered block of ours; only a hostile header asks for more.
        self._largest = max(_CHUNK, tarfile.RECORDSIZE)

    def read(self, size: int) -> bytes:
        if size < 0 or size > self._largest:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError("more bytes than allowed")
        return data


def _open_tar(stream: _Bounded) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r|", bufsize=tarfile.RECORDSIZE)  # type: ignore[call-overload,no-any-return]


def _extract_all(tar: tarfile.TarFile, root: Path, archive: Path, max_bytes: int, max_members: int) -> None:
    seen: set[PurePosixPath] = set()
    left = max_bytes
    for number, member in enumerate(tar):
        where = f"{archive}: {member.name[:200]!r}"
        if number >= max_members:
            raise errors.InvalidModel(f"more than {max_members} members", where=where)
        parts = _safe_parts(member, where)
        name = PurePosixPath(*parts)
        if name in seen:
            raise errors.InvalidModel("a name that occurs twice", where=where)
        seen.add(name)
        target = root.joinpath(*parts)
        if member.isdir():
            _make_directory(target, root, where)
            continue
        if member.size > left:
            raise errors.InvalidModel(f"more than {max_bytes} bytes in all", where=where)
        left -= member.size
        _make_directory(target.parent, root, where)
        _extract(tar, member, target, where)


def _safe_parts(member: tarfile.TarInfo, where: str) -> tuple[str, ...]:
    """The path of a member below the root, as parts; empty for the root itself."""
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise errors.InvalidModel("neither a regular file nor a directory", where=where, hint="Links are not allowed.")
    name = member.name
    if name.startswith("/") or "\\" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise errors.InvalidModel("an absolute path, a backslash or a control character", where=where)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise errors.InvalidModel("a path with a parent directory", where=where)
    if len(os.fsencode(name)) > _NAME_BYTES or any(len(os.fsencode(part)) > _PART_BYTES for part in parts):
        raise errors.InvalidModel("a name that is too long", where=where)
    if not parts and not member.isdir():
        raise errors.InvalidModel("a file without a name", where=where)
    return parts


def _make_directory(path: Path, root: Path, where: str) -> None:
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise errors.InvalidModel(f"{path.relative_to(root)} is a file and a directory", where=where) from None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, where: str) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise errors.InvalidModel("a member without content", where=where)
    try:
        # O_EXCL and O_NOFOLLOW: whatever lies there already, we neither overwrite nor follow it.
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except (FileExistsError, IsADirectoryError):
        raise errors.InvalidModel("a file where something lies already", where=where) from None
    with source, os.fdopen(handle, "wb") as sink:
        shutil.copyfileobj(source, sink, tarfile.RECORDSIZE)
        if sink.tell() != member.size:
            raise errors.InvalidModel("a file that ends too early", where=where)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        raise errors.InvalidModel("neither a regular file nor a directory", where=str(path))
    if path.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
        return
    info.mode = 0o644
    with path.open("rb") as source:
        info.size = os.fstat(source.fileno()).st_size
        tar.addfile(info, source)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
