"""What a rollout deploys: an image and a model, each given or the one that serves now.

Finds and, where it must, uploads; starts nothing. The state machine does the rest, in Mode `rollout`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from kennel import archive, contract, references
from kennel.errors import InvalidArguments, InvalidModel
from kennel.pipeline import ecr
from kennel.pipeline.aws import Aws
from kennel.pipeline.infrastructure import CURRENT_DEPLOYMENT
from kennel.pipeline.resources import VARIANT, Names
from kennel.pipeline.result import RESULT_FILE

_CHANGING = ("Creating", "Updating", "SystemUpdating", "RollingBack")
_LOOK_SECONDS = 2.0
_MOST_LOOKS = 900

MODELS = "models/"
"""Where models lie in the bucket; the one place that the serving role may read."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What an endpoint serves, or is to serve: an image, and the s3:// URI of a model."""

    image: str
    model: str


def current(aws: Aws, endpoint: str, *, sleep: Callable[[float], None]) -> Serving:
    """What the endpoint serves, once it does not change any more; it may, after a rollout that was interrupted.

    Raises InvalidArguments if there is none that could be updated.
    """
    sagemaker = aws.client("sagemaker")
    for _ in range(_MOST_LOOKS):
        try:
            described = sagemaker.describe_endpoint(EndpointName=endpoint)
        except ClientError as error:
            if "Could not find" not in error.response["Error"]["Message"]:
                raise
            raise InvalidArguments(
                f"there is no endpoint {endpoint}",
                hint='A rollout replaces what one serves: `make run` deploys one, locally `make run ARGS="--keep"`.',
            ) from error
        if described["EndpointStatus"] not in _CHANGING:
            break
        sleep(_LOOK_SECONDS)
    if (status := described["EndpointStatus"]) != "InService":
        raise InvalidArguments(
            f"the endpoint {endpoint} is {status}: it cannot be updated",
            hint="`run.py down` removes it, and the next run makes it anew."
            if status == "Failed"
            else "Wait until it is InService: `run.py status` says what it is.",
        )
    config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    container = model["PrimaryContainer"]
    return Serving(image=container["Image"], model=container["ModelDataUrl"])


def must_keep_its_type(aws: Aws, endpoint: str, instance_type: str) -> None:
    """Raises InvalidArguments if the endpoint scales, on instances of another type: AWS refuses such an update."""
    scaling = aws.client("application-autoscaling")
    resource = f"endpoint/{endpoint}/variant/{VARIANT}"
    if not scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])["ScalableTargets"]:
        return
    sagemaker = aws.client("sagemaker")
    try:
        described = sagemaker.describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if "Could not find" not in error.response["Error"]["Message"]:
            raise
        return
    config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    now = config["ProductionVariants"][0]["InstanceType"]
    if now != instance_type:
        raise InvalidArguments(
            f"the endpoint {endpoint} runs on {now} and scales; SageMaker does not change the type of what scales",
            where=f"endpoint.instance_type = {instance_type!r}",
            hint="End its scaling first, the next deployment begins it anew: aws application-autoscaling \\\n"
            f"    deregister-scalable-target --service-namespace sagemaker --resource-id {resource} \\\n"
            "    --scalable-dimension sagemaker:variant:DesiredInstanceCount",
        )


def is_recorded(aws: Aws, names: Names, serving: Serving) -> bool:
    """Whether the state machine wrote down that it deployed this: a deployment that was broken off did not."""
    found = aws.client("s3").get_object(Bucket=names.bucket, Key=CURRENT_DEPLOYMENT)["Body"].read()
    model = json.loads(found).get("Model", {})
    return (model.get("Image"), model.get("ModelDataUrl")) == (serving.image, serving.model)


def wanted(
    aws: Aws, now: Serving, *, image: str, model: str, serving: str, serving_tag: str, names: Names, runs: Path
) -> Serving:
    """What to deploy for `--image` and `--model`, either of which may be empty; what serves `now` if it is left open.

    With neither it is the image `serving` of the configuration, which, if it is a plain name, has the `serving_tag`.
    """
    if image:
        uri = image_uri(aws, image, serving=serving)
    else:
        uri = now.image if model else ecr.pinned(aws, references.parse(serving), default_tag=serving_tag)
    return Serving(image=uri, model=model_uri(aws, model, names=names, runs=runs) if model else now.model)


def image_uri(aws: Aws, given: str, *, serving: str) -> str:
    """The image that `--image` names, by its digest.

    A tag or a digest alone is one of the repository of `serving`, the configuration's serving image.
    """
    repository = references.parse(serving)
    if references.is_digest(given):
        wanted = references.Reference(registry=repository.registry, repository=repository.repository, digest=given)
    elif references.is_tag(given):
        wanted = references.Reference(registry=repository.registry, repository=repository.repository, tag=given)
    else:
        try:
            wanted = references.parse(given)
        except ValueError as error:
            raise InvalidArguments(
                str(error), where="--image", hint="Give a tag, a digest, or REGISTRY/NAME:TAG or …@sha256:…"
            ) from error
    return ecr.pinned(aws, wanted, default_tag="latest")


def model_uri(aws: Aws, given: str, *, names: Names, runs: Path) -> str:
    """The s3:// URI of the model that `--model` names, in our bucket: an s3:// URI, an execution, or a file."""
    if given.startswith("s3://"):
        return _from_s3(aws, given, names)
    path = Path(given)
    if path.is_file():
        return _upload(aws, path, names)
    if "/" in given or path.suffix:
        raise InvalidArguments("there is no such file", where=f"--model {given}", hint=_MODEL_HINT)
    return _from_execution(aws, given, names, runs)


_MODEL_HINT = f"A model is an s3:// URI, the name of an execution, or the path of a {contract.ARTEFACT_NAME}."


def _from_execution(aws: Aws, name: str, names: Names, runs: Path) -> str:
    folder = runs / name
    try:
        result: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        kept = sorted((path.parent.name for path in runs.glob(f"*/{RESULT_FILE}")), reverse=True)[:5]
        known = f"Executions kept here: {', '.join(kept)}." if kept else f"No execution is kept in {runs}."
        raise InvalidArguments("there is no such execution", where=f"--model {name}", hint=known) from error
    if result["status"] != "SUCCEEDED" or "model" not in result:
        raise InvalidArguments(
            f"that execution ended as {result['status']}: its model was not deployed",
            where=f"--model {name}",
            hint=f"To deploy it all the same, give the file: --model {folder / contract.ARTEFACT_NAME}",
        )
    artefact = folder / contract.ARTEFACT_NAME
    # a local AWS forgets its objects when it ends; the kept artefact is the same model
    if artefact.is_file() and _etag(aws, result["model"]) is None:
        return _upload(aws, artefact, names)
    return _from_s3(aws, result["model"], names)


def _from_s3(aws: Aws, uri: str, names: Names) -> str:
    """The model, copied into our bucket if it lies elsewhere."""
    etag = _etag(aws, uri)
    if etag is None:
        raise InvalidArguments("there is no such object, or no right to read it", where=f"--model {uri}")
    if uri.startswith(f"s3://{names.bucket}/{MODELS}"):
        return uri
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    target = _key(hashlib.sha256(f"{uri} {etag}".encode()).hexdigest())
    aws.client("s3").copy({"Bucket": bucket, "Key": key}, names.bucket, target)
    return f"s3://{names.bucket}/{target}"


def _upload(aws: Aws, path: Path, names: Names) -> str:
    """The model, which is checked first: what no instance could load must not reach an endpoint."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            archive.unpack(path, Path(scratch))
        except InvalidModel as error:
            raise InvalidArguments(error.what, where=f"--model {path}", hint=error.hint) from error
        missing = [
            name for name in (contract.MODEL_FILE, contract.MANIFEST_FILE) if not (Path(scratch) / name).is_file()
        ]
    if missing:
        raise InvalidArguments(f"it holds no {' and no '.join(missing)}", where=f"--model {path}", hint=_MODEL_HINT)
    with path.open("rb") as file:
        key = _key(hashlib.file_digest(file, "sha256").hexdigest())
    aws.client("s3").upload_file(str(path), names.bucket, key)
    return f"s3://{names.bucket}/{key}"


def _key(digest: str) -> str:
    """Named after the content, so that the same model is the same object."""
    return f"{MODELS}given/{digest[:16]}/{contract.ARTEFACT_NAME}"


def _etag(aws: Aws, uri: str) -> str | None:
    """Of the object; None if it is not there, or not ours to read."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key:
        return None
    try:
        found = aws.client("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
            return None
        raise
    return str(found["ETag"])
