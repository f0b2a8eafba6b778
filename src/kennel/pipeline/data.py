"""Brings the data set and the pretrained weights to S3, where the jobs read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kennel import tree
from kennel.errors import InvalidArguments
from kennel.pipeline.aws import Aws

_PARALLEL = 8


def upload_data(aws: Aws, *, source: str, bucket: str, advance: Callable[[int, int], None]) -> str:
    """The s3:// prefix of the data set. A folder is checked and uploaded; `advance(done, of)` hears of each file.

    Raises InvalidData when the folder is no data set. Files that are there already are not sent again: the
    prefix is named after the content.
    """
    if source.startswith("s3://"):
        return source.rstrip("/")
    root = Path(source)
    items = [item for split in tree.find(root).splits.values() for item in split]
    digests = {item.name: hashlib.sha256(item.path.read_bytes()).hexdigest() for item in items}
    content = hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:16]
    prefix = f"data/{content}"
    s3 = aws.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    present = {found["Key"] for page in pages for found in page.get("Contents", [])}
    missing = [item for item in items if f"{prefix}/{item.name}" not in present]
    advance(0, len(missing))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        sent = pool.map(
            lambda item: s3.put_object(Bucket=bucket, Key=f"{prefix}/{item.name}", Body=item.path.read_bytes()),
            missing,
        )
        for done, _ in enumerate(sent, start=1):
            advance(done, len(missing))
    return f"s3://{bucket}/{prefix}"


def upload_pretrained(aws: Aws, *, source: str, bucket: str) -> str:
    """The s3:// URI of the pretrained weights; empty when there are none."""
    if not source or source.startswith("s3://"):
        return source
    path = Path(source)
    if not path.is_file():
        raise InvalidArguments("there is no such file", where=f"data.pretrained = {source!r}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    aws.client("s3").upload_file(str(path), bucket, f"pretrained/{digest}/{path.name}")
    return f"s3://{bucket}/pretrained/{digest}"
