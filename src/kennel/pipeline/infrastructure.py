"""Makes `statemachine/infrastructure.yaml` exist for a configuration, in two steps where there is nothing yet.

The function's code and the state machine's definition lie in the stack's own bucket; so the first deployment makes
everything but what needs them, puts them there, and makes the rest. A release is named after its content: what has
not changed is not deployed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError

from kennel import references
from kennel.config import Config
from kennel.pipeline import ecr, function_package, resources
from kennel.pipeline.aws import Aws
from kennel.pipeline.resources import Names, Resources
from kennel.pipeline.stack import Change, Stack

CURRENT_DEPLOYMENT = "deployments/current.json"
"""What serves now, as the state machine writes it down; empty braces until it has."""

_FUNCTION, _DEFINITION = "function.zip", "pipeline.asl.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is deployed: the template, and what the release holds."""

    template: str
    function_zip: bytes
    definition: bytes

    @property
    def release(self) -> str:
        """The prefix in the bucket."""
        digest = hashlib.sha256(self.function_zip)
        digest.update(self.definition)
        return f"releases/{digest.hexdigest()[:16]}/"


def source(root: Path) -> Source:
    """Of the project whose top directory is `root`."""
    folder = root / "statemachine"
    return Source(
        template=(folder / "infrastructure.yaml").read_text(encoding="utf-8"),
        function_zip=function_package.function_zip(root),
        definition=(folder / _DEFINITION).read_bytes(),
    )


def parameters(
    config: Config, names: Names, *, release: str, s3_prefix_list: str, images: Iterable[str]
) -> dict[str, str]:
    """The template's parameters. `images` are all that the roles must be able to pull."""
    elsewhere = [uri for uri in (config.data.source, config.data.pretrained) if uri.startswith("s3://")]
    data = [uri.removeprefix("s3://").rstrip("/") for uri in elsewhere]
    data = [place for place in data if place.partition("/")[0] != names.bucket]
    ours = {names.arn("ecr", f"repository/{names.repository(part)}") for part in ("training", "serving")}
    pulled = {
        ecr.repository_arn(references.parse(image), account=names.account, region=names.region) for image in images
    }
    return {
        "Release": release,
        "Network": "on" if config.infrastructure.network else "off",
        "S3PrefixList": s3_prefix_list,
        "LogExecutionData": "true" if config.infrastructure.log_execution_data else "false",
        "RolloutOnPush": "ENABLED" if config.infrastructure.rollout_on_push else "DISABLED",
        # the URI of a folder or of a file, either of which may be meant
        "TrainingDataArns": ",".join(f"arn:aws:s3:::{place}{'*' if '/' in place else '/*'}" for place in data),
        "TrainingDataBucketArns": ",".join(sorted({f"arn:aws:s3:::{place.partition('/')[0]}" for place in data})),
        "OtherRepositoryArns": ",".join(sorted(pulled - ours)),
    }


def changes(aws: Aws, stack: Stack, config: Config, made_from: Source, *, images: Iterable[str]) -> list[Change]:
    """What `deploy` would change in a stack that exists."""
    names = Names(name=config.name, account=aws.account, region=aws.region)
    pulled = {*images, *_serving_now(aws, names)}
    return stack.changes(made_from.template, _parameters(aws, config, names, made_from.release, pulled))


def deploy(
    aws: Aws, stack: Stack, config: Config, made_from: Source, *, images: Iterable[str], say: Callable[[str], None]
) -> Resources:
    """Make it all exist; `say` is told each step. Repeating it changes nothing. Raises PipelineFailed."""
    names = Names(name=config.name, account=aws.account, region=aws.region)
    stack.settle()
    if not stack.exists():
        say("the stack, without what its own bucket must hold first")
        stack.apply(made_from.template, _parameters(aws, config, names, "", images))
    say(f"release {made_from.release}")
    for name, content in ((_FUNCTION, made_from.function_zip), (_DEFINITION, made_from.definition)):
        _put_once(aws, names.bucket, f"{made_from.release}{name}", content)
    _put_once(aws, names.bucket, CURRENT_DEPLOYMENT, b"{}")
    say("the stack")
    pulled = {*images, *_serving_now(aws, names)}
    stack.apply(made_from.template, _parameters(aws, config, names, made_from.release, pulled))
    return resources.from_outputs(names, stack.outputs())


def _serving_now(aws: Aws, names: Names) -> tuple[str, ...]:
    """The image that serves, wherever it came from: new instances must be able to pull it."""
    try:
        found = aws.client("s3").get_object(Bucket=names.bucket, Key=CURRENT_DEPLOYMENT)["Body"].read()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return ()
    image = json.loads(found).get("Model", {}).get("Image")
    return (image,) if image else ()


def _parameters(aws: Aws, config: Config, names: Names, release: str, images: Iterable[str]) -> Mapping[str, str]:
    return parameters(config, names, release=release, s3_prefix_list=_s3_prefix_list(aws), images=images)


def _s3_prefix_list(aws: Aws) -> str:
    """The id of the list of S3's addresses that AWS manages in the region."""
    named = [{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{aws.region}.s3"]}]
    (found, *_) = aws.client("ec2").describe_managed_prefix_lists(Filters=named)["PrefixLists"]
    return str(found["PrefixListId"])


def _put_once(aws: Aws, bucket: str, key: str, content: bytes) -> None:
    """Put the object unless there is one: what is under a name never changes, but by the state machine."""
    s3 = aws.client("s3")
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        s3.put_object(Bucket=bucket, Key=key, Body=content)
