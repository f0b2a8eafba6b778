"""Keeps the checkpoints of a training job in S3, as SageMaker's agent does: the hosts may be taken away at any time.

What lies below the S3Uri of the CheckpointConfig is there when the hosts start. While they run, what one of them adds,
changes or deletes in its /opt/ml/checkpoints is added, changed or deleted in S3; nothing comes back from there.

Source: "Use checkpoints in Amazon SageMaker" in the developer guide.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kennel import contract
from kennel.local.sagemaker import opt_ml
from kennel.local.sagemaker.storage import Storage, inside, split_uri
from kennel.local.wire import ServiceError

LOG = logging.getLogger(__name__)
_PERIOD_SECONDS = 2.0

Stamp = tuple[int, int, int]
"""Inode, time of change and size: another one, and the file is another one."""


def check(configuration: dict[str, Any]) -> None:
    """Refuse a CheckpointConfig that cannot be followed here."""
    split_uri(configuration["S3Uri"])
    if (given := configuration.get("LocalPath", contract.CHECKPOINTS_DIR)).rstrip("/") != contract.CHECKPOINTS_DIR:
        raise ServiceError(
            "ValidationException", f"LocalPath {given}: the local AWS keeps checkpoints at {contract.CHECKPOINTS_DIR}"
        )


@contextmanager
def kept_in_s3(storage: Storage, uri: str, bases: Sequence[Path]) -> Iterator[None]:
    """Fill the checkpoints of every host, whose /opt/ml are `bases`, and keep S3 up with them until the block ends.

    Raises ServiceError where S3 refuses what is there at the end; before that, it is tried again.
    """
    folders = [_Folder(storage=storage, uri=uri.rstrip("/"), base=base) for base in bases]
    for folder in folders:
        folder.fill()
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_PERIOD_SECONDS):
            try:
                for folder in folders:
                    folder.upload()
            except Exception as error:  # the next time may fare better, and the last one is not ours
                LOG.warning("checkpoints for %s: %s", uri, error)

    def end() -> None:
        ended.set()
        thread.join()
        for folder in folders:
            folder.upload()

    thread = threading.Thread(target=follow, name=f"checkpoints {uri}", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        with contextlib.suppress(ServiceError):  # what went wrong before is what matters
            end()
        raise
    end()


class _Folder:
    """The checkpoints of one host, and which of them S3 has."""

    def __init__(self, *, storage: Storage, uri: str, base: Path) -> None:
        self._storage = storage
        self._uri = uri
        self._base = base
        self._path = base / opt_ml.CHECKPOINTS
        self._known: dict[str, Stamp] = {}

    def fill(self) -> None:
        """Download everything."""
        bucket, prefix = split_uri(f"{self._uri}/")
        for key in self._storage.find(f"{self._uri}/"):
            relative = key.removeprefix(prefix)
            target = inside(self._path, relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._storage.fetch_object(f"s3://{bucket}/{key}", target)
            self._known[relative] = _stamp(target.stat())

    def upload(self) -> None:
        """Bring S3 up to what the host has now."""
        if not stat.S_ISDIR(opt_ml.mode(self._base, opt_ml.CHECKPOINTS)):
            return  # a host that throws away the folder itself has not thrown away its checkpoints
        there = set()
        # By descriptors, not by paths: the host may put a link in the place of anything while we look at it.
        for below, _, names, folder in os.fwalk(self._path):
            for name in names:
                if not name.endswith(contract.PARTIAL_SUFFIX):
                    relative = Path(below, name).relative_to(self._path).as_posix()
                    there.add(relative)
                    with contextlib.suppress(OSError):  # it went while we looked, is a link, or is closed to us
                        self._upload(name, folder, relative)
        for relative in self._known.keys() - there:
            del self._known[relative]
            try:
                self._storage.delete_object(f"{self._uri}/{relative}")
            except ServiceError as error:  # a role need not be allowed this: an old checkpoint too many harms nobody
                LOG.warning("%s", error.message)

    def _upload(self, name: str, folder: int, relative: str) -> None:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and self._known.get(relative) != _stamp(found):
                self._storage.put_stream(file, f"{self._uri}/{relative}")
                self._known[relative] = _stamp(found)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_mtime_ns, found.st_size
