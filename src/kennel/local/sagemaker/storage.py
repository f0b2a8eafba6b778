"""Moves data between S3 and the folders of jobs and instances, as SageMaker's agent does.

An S3 prefix is downloaded once per content (its listing's keys and ETags) and linked into every host
that asks for it; a cache folder appears only complete.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError

from kennel.local.iam.roles import Acting
from kennel.local.wire import ServiceError

_PARALLEL = 4


class Storage:
    """S3 as jobs see it. `s3` is a boto3 client, `cache` a folder that is ours alone.

    `may_read(bucket, keys)` raises where whoever acts may not read; it is asked for what is in the cache already.
    """

    def __init__(
        self,
        *,
        s3: Any,
        cache: Path,
        downloading: threading.Lock | None = None,
        may_read: Callable[[str, Iterable[str]], None] = lambda _bucket, _keys: None,
    ) -> None:
        self._s3 = s3
        self._cache = cache
        self._downloading = downloading or threading.Lock()
        self._may_read = may_read

    def acting_with(self, role: Acting) -> Storage:
        """The same, as a role sees it."""
        return Storage(s3=role.client("s3"), cache=self._cache, downloading=self._downloading, may_read=role.may_read)

    def keys(self, uri: str) -> dict[str, str]:
        """Key → ETag of every object below `uri`. Raises ServiceError if there is none."""
        if not (objects := self.find(uri)):
            raise ServiceError("ValidationException", f"No S3 objects found under S3 URL {uri}")
        return objects

    def find(self, uri: str) -> dict[str, str]:
        """Key → ETag of every object below `uri`, which may be none. Raises ServiceError if S3 refuses to tell."""
        bucket, prefix = split_uri(uri)
        found: dict[str, str] = {}
        try:
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found.update({item["Key"]: item["ETag"] for item in page.get("Contents", [])})
        except ClientError as error:
            raise ServiceError("ValidationException", f"S3 refuses to list {uri}: {_said(error)}") from error
        return {key: etag for key, etag in found.items() if not key.endswith("/")}

    def fetch_prefix(self, uri: str, *, shard: int = 0, shards: int = 1) -> Path:
        """A folder with every object below `uri`, or every `shards`-th of them from number `shard` on."""
        bucket, prefix = split_uri(uri)
        chosen = dict(sorted(self.keys(uri).items())[shard::shards])
        digest = hashlib.sha256(repr((bucket, prefix, sorted(chosen.items()))).encode()).hexdigest()
        folder = self._cache / digest
        with self._downloading:
            if folder.exists():
                self._may_read(bucket, chosen)
            else:
                partial = self._cache / f"{digest}.{uuid.uuid4().hex}"
                partial.mkdir()  # a shard may be empty

                def fetch(key: str) -> None:
                    target = inside(partial, _relative(key, prefix))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        shutil.copyfileobj(self._s3.get_object(Bucket=bucket, Key=key)["Body"], file)
                    target.chmod(0o444)  # every job that reads it has a link to this very file

                try:
                    with ThreadPoolExecutor(_PARALLEL) as pool:
                        list(pool.map(fetch, chosen))
                    partial.rename(folder)
                except ClientError as error:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise ServiceError(
                        "ValidationException", f"Data download failed: S3 refuses {uri}: {_said(error)}"
                    ) from error
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
        return folder

    def fetch_object(self, uri: str, target: Path) -> None:
        """Download one object to the file `target`."""
        bucket, key = split_uri(uri)
        try:
            body = self._s3.get_object(Bucket=bucket, Key=key)["Body"]
            with target.open("wb") as file:
                shutil.copyfileobj(body, file)
        except ClientError as error:
            raise ServiceError("ValidationException", f"Could not find model data at {uri}: {_said(error)}") from error

    def put_stream(self, source: BinaryIO, uri: str) -> None:
        """Upload what `source` holds from where it stands to the object `uri`. Raises ServiceError if S3 refuses it."""
        bucket, key = split_uri(uri)
        try:
            self._s3.upload_fileobj(source, bucket, key)
        except (ClientError, S3UploadFailedError) as error:
            raise ServiceError("ValidationException", f"Could not write {uri}: {error}") from error

    def delete_object(self, uri: str) -> None:
        """Delete the object `uri`, which need not exist. Raises ServiceError if S3 refuses it."""
        bucket, key = split_uri(uri)
        try:
            self._s3.delete_object(Bucket=bucket, Key=key)
        except ClientError as error:
            raise ServiceError("ValidationException", f"Could not delete {uri}: {_said(error)}") from error

    def put_file(self, source: Path, uri: str, *, kms_key: str = "") -> None:
        """Upload the file `source` to the object `uri`, encrypted with `kms_key` if there is one.

        Raises ServiceError if S3 refuses it.
        """
        bucket, key = split_uri(uri)
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        try:
            self._s3.upload_file(str(source), bucket, key, ExtraArgs=encryption)
        except (ClientError, S3UploadFailedError) as error:
            raise ServiceError("ValidationException", f"Could not write {uri}: {error}") from error


def _said(error: ClientError) -> str:
    """What S3 said, its code first: of a denial, the whole reason."""
    return f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/some/key` → (`bucket`, `some/key`)."""
    if not uri.startswith("s3://"):
        raise ServiceError("ValidationException", f"Invalid S3 URI: {uri}")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise ServiceError("ValidationException", f"Invalid S3 URI: {uri}")
    return bucket, key


def merge_links(source: Path, target: Path) -> None:
    """Fill the folder `target` with hard links to the files below `source`. Raises FileExistsError.

    A link costs nothing and can be deleted or replaced by its owner alone; what is written into it is
    written for all. Symbolic links are taken as they are.
    """
    for folder, folders, files in os.walk(source):
        below = target / Path(folder).relative_to(source)
        below.mkdir(parents=True, exist_ok=True)
        for name in [*files, *(name for name in folders if Path(folder, name).is_symlink())]:
            os.link(Path(folder, name), below / name, follow_symlinks=False)


def inside(folder: Path, relative: str) -> Path:
    """`folder/relative`; object keys may hold `..`, which must not lead out of the folder."""
    parts = PurePosixPath(relative).parts
    if not parts or "\0" in relative or any(part in ("..", "/", "//") for part in parts):
        raise ServiceError("ValidationException", f"cannot download the object key {relative!r} into a folder")
    return folder.joinpath(*parts)


def _relative(key: str, prefix: str) -> str:
    """Where the object lies below the folder of its channel: S3 prefixes need not end at a `/`."""
    base = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    if key.startswith(base):
        return key.removeprefix(base)
    return key.removeprefix(prefix[: prefix.rfind("/") + 1])
