"""The image registry: repositories, the way in, and which digest a tag stands for.

Asks ECR, never the engine. The password of the registry is in `Login` and is never shown or written anywhere.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from kennel import references
from kennel.config import Config
from kennel.errors import InvalidArguments, Unavailable
from kennel.pipeline.aws import Aws
from kennel.references import Reference

_ANSWER_SECONDS = 5.0
_HOST = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\..+")


@dataclass(frozen=True, kw_only=True)
class Login:
    """What lets an engine into the registry at `address`, for some hours."""

    address: str
    username: str
    password: str = field(repr=False)


def repository_uri(aws: Aws, name: str) -> str:
    """The URI of the repository. Raises InvalidArguments if there is none."""
    if not (uri := _uri(aws, name)):
        raise InvalidArguments(f"there is no repository {name}", hint="`run.py deploy` makes it.")
    return uri


def login(aws: Aws) -> Login:
    """Credentials for the registry. Raises Unavailable if no registry answers there."""
    (granted, *_) = aws.client("ecr").get_authorization_token()["authorizationData"]
    username, _, password = base64.b64decode(granted["authorizationToken"]).decode().partition(":")
    address = str(granted["proxyEndpoint"])
    _must_answer(address)
    return Login(address=address, username=username, password=password)


def digest_of(aws: Aws, repository: str, tag: str) -> str | None:
    """The digest that the tag stands for; None if there is no such image, or no such repository."""
    return _digest(aws, repository, {"imageTag": tag})


def pinned(aws: Aws, reference: Reference, *, default_tag: str = "") -> str:
    """The image by its digest: `<repository URI>@sha256:…`. One in a registry that is not ours stays as it is.

    `default_tag` is that of a plain name. Raises InvalidArguments if the image is not there.
    """
    uri = _uri(aws, reference.repository)
    if reference.registry and uri != f"{reference.registry}/{reference.repository}":
        return str(reference)
    tag = reference.tag or default_tag
    wanted = {"imageDigest": reference.digest} if reference.digest else {"imageTag": tag}
    digest = _digest(aws, reference.repository, wanted) if uri else None
    if digest is None:
        shown = f"{reference.repository}{'@' if reference.digest else ':'}{reference.digest or tag}"
        hint = "`run.py push` builds the images of this source and pushes them."
        if not reference.is_plain:
            name = reference.repository
            hint = f"`aws ecr describe-images --repository-name {name}` lists what was."
            hint = hint if uri else f"There is no repository {name}; `aws ecr describe-repositories` lists them."
        raise InvalidArguments(f"{shown} has not been pushed", hint=hint)
    return f"{uri}@{digest}"


def with_pinned(aws: Aws, config: Config, *, tags: Mapping[str, str]) -> Config:
    """The configuration with both images by their digests; `tags` has that of each plain name, by part."""
    training, serving = (
        pinned(aws, references.parse(reference), default_tag=tags.get(part, ""))
        for part, reference in (("training", config.images.training), ("serving", config.images.serving))
    )
    return dataclasses.replace(config, images=dataclasses.replace(config.images, training=training, serving=serving))


def repository_arn(reference: Reference, *, account: str, region: str) -> str:
    """The ARN of the repository that the image is in: where its registry says, or here.

    >>> there = references.parse("210987654321.dkr.ecr.eu-west-1.amazonaws.com/team/kennel:1")
    >>> repository_arn(there, account="123456789012", region="us-east-1")
    'arn:aws:ecr:eu-west-1:210987654321:repository/team/kennel'
    """
    if found := _HOST.fullmatch(reference.registry):
        account, region = found["account"], found["region"]
    return f"arn:aws:ecr:{region}:{account}:repository/{reference.repository}"


def _uri(aws: Aws, repository: str) -> str:
    """Of our repository of that name; empty if there is none."""
    ecr = aws.client("ecr")
    try:
        (found,) = ecr.describe_repositories(repositoryNames=[repository])["repositories"]
    except ecr.exceptions.RepositoryNotFoundException:
        return ""
    return str(found["repositoryUri"])


def _digest(aws: Aws, repository: str, image: dict[str, str]) -> str | None:
    ecr = aws.client("ecr")
    try:
        (found, *_) = ecr.describe_images(repositoryName=repository, imageIds=[image])["imageDetails"]
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        return None
    except ClientError as error:
        if error.response["Error"]["Code"] == "ServerException":
            raise Unavailable(error.response["Error"]["Message"]) from error
        raise
    return str(found["imageDigest"])


def _must_answer(address: str) -> None:
    """Raises Unavailable unless a registry is there: before anything is built for it."""
    request = urllib.request.Request(f"{address}/v2/")  # noqa: S310  (ECR's own address)
    try:
        with _opener(address).open(request, timeout=_ANSWER_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code == 401:  # it is there, and wants the credentials that the engine will bring
            return
        why = f"it answers with status {error.code}"
    except OSError as error:
        why = str(getattr(error, "reason", error))
    hint = "Check the network."
    if _is_local(address):
        hint = (
            "One of your own: docker run --detach --name registry \\\n"
            f"    --publish {urlsplit(address).netloc}:5000 registry:2"
        )
    raise Unavailable(f"no registry answers at {address}: {why}", hint=hint)


def _opener(address: str) -> Any:
    """Without a proxy for this machine, whatever the environment names."""
    handlers = [urllib.request.ProxyHandler({})] if _is_local(address) else []
    return urllib.request.build_opener(*handlers)


def _is_local(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
