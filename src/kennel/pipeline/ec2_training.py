"""Trains on one EC2 instance: starts it, follows it, keeps what it leaves. It ends by itself; Ctrl-C ends it at once.

Knows nothing of arguments, nor of where the AWS came from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from kennel import contract, references
from kennel.errors import InvalidArguments, PipelineFailed
from kennel.pipeline import display, ec2_request
from kennel.pipeline.aws import Aws
from kennel.pipeline.ec2_request import Ec2Job
from kennel.pipeline.events import Event, JobEnded, JobStarted
from kennel.pipeline.execution import called
from kennel.pipeline.watch import told

POLL_SECONDS = 5.0
LOG_FILE = "train.log"
STATUS_FILE = "status.json"
_STATUSES = ("Completed", "Failed", "Stopped")
_LEAVING = ("shutting-down", "stopping")
_GONE = ("terminated", "stopped")
_CONSOLE_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Ec2Result:
    """What a training on an instance came to."""

    job: str
    instance_id: str
    status: str
    """Completed, Failed or Stopped."""

    reason: str
    """Why it did not complete; empty for one that did."""

    model: str
    """`s3://` URI of model.tar.gz; empty if there is none."""

    seconds: float
    """From the start of the instance to its end."""

    folder: Path
    """Holds the log, as far as there is one, and the model of a training that completed."""


def run(
    aws: Aws,
    job: Ec2Job,
    *,
    script: str,
    folder: Path,
    show: Callable[[Event], None],
    say: Callable[[str], None],
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Ec2Result:
    """Train to the end of the instance; keep the log and the model in `folder`.

    `script` is the text of `ec2_request.SCRIPT`. Raises InvalidArguments for what cannot be started, PipelineFailed
    where EC2 has no such instance to give. On KeyboardInterrupt the instance is terminated.
    """
    began = clock()
    instance_id = launch(aws, job, script=script)
    say(f"Instance {instance_id} ({job.instance_type}{', spot' if job.spot else ''})")
    following = Following(aws, job, instance_id=instance_id, folder=folder)
    try:
        while True:
            for event in following.poll():
                show(event)
            if following.ended:
                break
            sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        terminate(aws, instance_id, say=say)
        raise
    return following.result(seconds=clock() - began)


def follow(
    aws: Aws, job: Ec2Job, *, script: str, folder: Path, console: Console, now: Callable[[], datetime]
) -> Ec2Result:
    """`run`, shown to somebody who watches. Raises PipelineFailed, too, where AWS refuses a call."""
    shown = display.Display(console, now=now)
    folder.mkdir(parents=True, exist_ok=True)
    with shown.live():
        result: Ec2Result = called(
            lambda: run(
                aws,
                job,
                script=script,
                folder=folder,
                show=shown.show,
                say=lambda what: display.line(console, what),
                sleep=time.sleep,
                clock=time.monotonic,
            )
        )
    return result


def launch(aws: Aws, job: Ec2Job, *, script: str) -> str:
    """Start the instance, or find the one that was started for this job before; return its id."""
    if aws.endpoint_url is None and not references.parse(job.image).digest:
        raise InvalidArguments(
            f"the image {job.image} has no digest: what it names may change",
            where="images.training",
            hint="Bring it to the registry, `run.py push`; then its digest is known.",
        )
    try:
        made = aws.client("ec2").run_instances(**ec2_request.request(job, script))
    except ClientError as error:
        raise _refused(error, job) from error
    return str(made["Instances"][0]["InstanceId"])


def terminate(aws: Aws, instance_id: str, *, say: Callable[[str], None]) -> None:
    """End the instance now, and say so."""
    try:
        aws.client("ec2").terminate_instances(InstanceIds=[instance_id])
    except (BotoCoreError, ClientError) as error:
        say(f"{instance_id} could not be terminated: {error}")
        say("It ends by itself at its time limit, or by: aws ec2 terminate-instances --instance-ids " + instance_id)
        return
    say(f"{instance_id} is being terminated; its checkpoints and its log stay in S3.")


class Following:
    """Looks at an instance and at what it has left in S3. `poll` returns what is new."""

    def __init__(self, aws: Aws, job: Ec2Job, *, instance_id: str, folder: Path) -> None:
        self._ec2 = aws.client("ec2")
        self._s3 = aws.client("s3")
        self._job = job
        self._instance_id = instance_id
        self._log = folder / LOG_FILE
        self._folder = folder
        self._prefix = job.output_uri.removeprefix(f"s3://{job.bucket}/")
        self._started = False
        self._unfinished = b""
        self._read = 0
        self._status: dict[str, Any] = {}
        self.ended = False

    def poll(self) -> list[Event]:
        """Everything since the last call, in order; the last of all is JobEnded."""
        # the instance first: what is read after it cannot be older
        instance = self._instance()
        state = instance["State"]["Name"]
        events: list[Event] = []
        if not self._started and state != "pending":
            self._started = True
            events.append(JobStarted(name=self._job.name, tuned={}, hosts=1))
        events += told(self._job.name, self._new_lines())
        left = self._left() if state in (*_LEAVING, *_GONE) else None
        if left is None and state in _GONE:
            left = {"Status": "Failed", "FailureReason": self._last_words(instance)}
        if left is not None:
            events += told(self._job.name, self._new_lines())  # uploaded before the status, maybe after our look at it
            self._status, self.ended = left, True
            reason = str(left.get("FailureReason") or "")
            events.append(JobEnded(name=self._job.name, status=left["Status"], objective=None, reason=reason))
        return events

    def result(self, *, seconds: float) -> Ec2Result:
        """What it came to, once it has ended; a model is downloaded."""
        status = self._status["Status"]
        key = f"{self._prefix}/{contract.ARTEFACT_NAME}"
        model = self._object(Key=key, method="head_object") is not None
        if model and status == "Completed":
            partial = self._folder / f".{contract.ARTEFACT_NAME}.partial"
            self._s3.download_file(self._job.bucket, key, str(partial))
            partial.replace(self._folder / contract.ARTEFACT_NAME)
        return Ec2Result(
            job=self._job.name,
            instance_id=self._instance_id,
            status=status,
            reason=str(self._status.get("FailureReason") or ""),
            model=f"{self._job.output_uri}/{contract.ARTEFACT_NAME}" if model else "",
            seconds=seconds,
            folder=self._folder,
        )

    def _instance(self) -> dict[str, Any]:
        try:
            found = self._ec2.describe_instances(InstanceIds=[self._instance_id])
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidInstanceID.NotFound":
                raise
            # a new one is not known everywhere at once, and an old one not for ever
            return {"State": {"Name": "terminated" if self._started else "pending"}}
        instance: dict[str, Any] = found["Reservations"][0]["Instances"][0]
        return instance

    def _new_lines(self) -> list[str]:
        """Complete lines of the log that were not read yet; the instance uploads it again and again, ever longer."""
        body = self._object(Key=f"{self._prefix}/{LOG_FILE}", method="get_object", Range=f"bytes={self._read}-")
        if body is None:
            return []
        new = body["Body"].read()
        self._read += len(new)
        with self._log.open("ab") as file:
            file.write(new)
        *complete, self._unfinished = (self._unfinished + new).split(b"\n")
        return [line.decode(errors="replace").rstrip() for line in complete]

    def _left(self) -> dict[str, Any] | None:
        """The status document, if it is there and is one."""
        found = self._object(Key=f"{self._prefix}/{STATUS_FILE}", method="get_object")
        if found is None:
            return None
        try:
            document = json.loads(found["Body"].read())
        except ValueError:
            return None
        return document if isinstance(document, dict) and document.get("Status") in _STATUSES else None

    def _object(self, *, method: str, **asked: Any) -> dict[str, Any] | None:
        """What S3 answers of an object; None where there is none, or nothing in the range."""
        try:
            answer: dict[str, Any] = getattr(self._s3, method)(Bucket=self._job.bucket, **asked)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404", "InvalidRange", "416"):
                return None
            raise
        return answer

    def _last_words(self, instance: dict[str, Any]) -> str:
        """Why an instance that left no status may have ended: what EC2 says, and what it printed last."""
        why = instance.get("StateReason", {}).get("Message") or "EC2 does not say why"
        try:
            console = self._ec2.get_console_output(InstanceId=self._instance_id).get("Output", "")
        except ClientError:
            console = ""
        reason = f"the instance ended before it could say how ({why})"
        if not console.strip():
            return reason
        reason += "; its console ends with:\n"
        lines = "\n".join(console.splitlines()[-_CONSOLE_LINES:])
        return reason + lines[-(contract.FAILURE_REASON_CHARACTERS - len(reason)) :]  # the last words tell most


_CAPACITY = "EC2 has none to give now: try again later, another ec2.instance_type, or ec2.spot = false."
_REFUSALS = {
    "InsufficientInstanceCapacity": _CAPACITY,
    "SpotMaxPriceTooLow": _CAPACITY,
    "VcpuLimitExceeded": "Ask for a higher quota of EC2, or take a smaller ec2.instance_type.",
    "MaxSpotInstanceCountExceeded": "Ask for a higher quota of EC2, or set ec2.spot = false.",
    "Unsupported": "Take another ec2.instance_type: the zone of the subnet does not have this one.",
    "InvalidBlockDeviceMapping": "Give the disk what the message asks for: ec2.volume_gb.",
    "InvalidLaunchTemplateId.NotFound": "Deploy the stack first: run.py deploy.",
    "InvalidLaunchTemplateId.NotFoundException": "Deploy the stack first: run.py deploy.",
}


def _refused(error: ClientError, job: Ec2Job) -> InvalidArguments | PipelineFailed:
    """RunInstances' answer as what a person can mend."""
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    if code == "IdempotentParameterMismatch":
        return InvalidArguments(
            f"a job {job.name} was started before, and with something else",
            where="train-on-ec2",
            hint="Give this one another name.",
        )
    hint = _REFUSALS.get(code, "Check the credentials, the region and the configuration.")
    return PipelineFailed(f"EC2 did not start the instance: {message}", where=job.instance_type, hint=hint)
