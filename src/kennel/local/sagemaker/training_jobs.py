"""Training jobs: the container contract around one `train` per host.

A job gets what SageMaker gives it (`/opt/ml` with its configuration and channels), its metrics are
read from its log by its own regexes, its failure reason from `output/failure`, and its model goes to S3 as
`model.tar.gz`. Which kind of container the hosts are is the runtime's business.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kennel import archive, contract, errors
from kennel.local.iam import containers, sagemaker
from kennel.local.iam.roles import Denial, Roles
from kennel.local.logs import LogWriter, Tail
from kennel.local.runtimes.runtime import Hosts, Process, Runtime
from kennel.local.runtimes.sizes import shown
from kennel.local.sagemaker import checkpoints, opt_ml, training_request
from kennel.local.sagemaker.arns import Arn
from kennel.local.sagemaker.job_log import LAST_LINES, compiled, failure_reason, metrics
from kennel.local.sagemaker.listing import listed
from kennel.local.sagemaker.spot import limits
from kennel.local.sagemaker.storage import Storage, merge_links
from kennel.local.sagemaker.tags import Tags
from kennel.local.wire import Operation, ServiceError, not_found

LOG = logging.getLogger(__name__)
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_SESSION = "SageMaker"
_POLL_SECONDS = 0.1
_MEASURE_SECONDS = 2.0
"""Between two looks at how much a job has written: a host's disk is this machine's, and has no quota."""

_KEPT = (
    "TrainingJobName",
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "Environment",
    "RetryStrategy",
)


@dataclass
class _Job:
    """One training job: its description as the API answers it, and what is running for it."""

    description: dict[str, Any]
    environment: dict[str, str]
    remark: str = ""
    """What is to be said of a job that did not fail."""

    storage: Storage = field(init=False)
    """S3, as its role sees it."""

    logs: LogWriter = field(init=False)
    """CloudWatch Logs, written with its role."""

    created: float = field(default_factory=time.monotonic)
    trained: float = 0.0
    """Seconds for which its hosts ran, in all attempts before this one."""

    stop: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class _Failed(Exception):
    """The job failed for the reason given."""


class TrainingJobs:
    """The training jobs of one account and region."""

    def __init__(
        self, *, arn: Arn, storage: Storage, roles: Roles, runtime: Runtime, state_dir: Path, tags: Tags
    ) -> None:
        self._arn = arn
        self._tags = tags
        self._storage = storage
        self._roles = roles
        self._runtime = runtime
        self._state_dir = state_dir
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.RLock()
        self.operations: dict[str, Operation] = {
            "CreateTrainingJob": self.create,
            "DescribeTrainingJob": self.describe,
            "ListTrainingJobs": self.list_jobs,
            "StopTrainingJob": self.stop,
        }

    # --- the API ----------------------------------------------------------------------------

    def create(self, request: dict[str, Any], *, tuning_job_arn: str | None = None) -> dict[str, Any]:
        """CreateTrainingJob. `tuning_job_arn` is set for the trials of a tuning job."""
        name = request["TrainingJobName"]
        self.check(request)
        now = datetime.now(UTC)
        description = {key: request[key] for key in _KEPT if key in request} | {
            "TrainingJobArn": self._arn("training-job", name),
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "CreationTime": now,
            "LastModifiedTime": now,
            "SecondaryStatusTransitions": [{"Status": "Starting", "StartTime": now}],
            "FinalMetricDataList": [],
        }
        if tuning_job_arn:
            description["TuningJobArn"] = tuning_job_arn
        job = _Job(description=description, environment=request.get("Environment", {}))
        with self._lock:
            if name in self._jobs:
                raise ServiceError(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region, "
                    f"and a job named {name} exists",
                )
            self._jobs[name] = job
        self._tags.create(description["TrainingJobArn"], request.get("Tags", []))
        job.thread = threading.Thread(target=self._run, args=(job,), name=name, daemon=True)
        job.thread.start()
        return {"TrainingJobArn": description["TrainingJobArn"]}

    def check(self, request: dict[str, Any]) -> None:
        """Refuse what AWS would refuse of a training job, or of a tuning job's definition, beyond the model."""
        training_request.check(request)
        # a trial's name is not known yet
        arn = self._arn("training-job", request.get("TrainingJobName", "trial"))
        self._roles.assume(request["RoleArn"], service=sagemaker.SERVICE, name=_SESSION, source_arn=arn)
        for channel in request.get("InputDataConfig", []):
            self._storage.keys(training_request.s3_source(channel)["S3Uri"])

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeTrainingJob."""
        return dict(self._job(request["TrainingJobName"]).description)

    def list_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTrainingJobs."""
        with self._lock:
            found = [job.description for job in self._jobs.values()]
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime")
        return listed(
            request,
            found,
            kind="TrainingJob",
            keys=(*keys, "TrainingJobStatus", "SecondaryStatus"),
            answer="TrainingJobSummaries",
        )

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopTrainingJob: SIGTERM to every host, 120 s of grace. Stopping it twice is no error."""
        with self._lock:
            job = self._job(request["TrainingJobName"])
            if job.ended.is_set():
                status = job.description["TrainingJobStatus"]
                raise ServiceError(
                    "ValidationException", f"The request was rejected because the training job is in status {status}."
                )
            job.description["TrainingJobStatus"] = "Stopping"
            job.stop.set()
        return {}

    def interrupt(self, name: str) -> None:
        """Take the instances of a spot job away, as EC2 does; it starts again on others. This is no API of AWS.

        The hosts get SIGTERM and 120 s; what their checkpoints are then is what the next ones find. Raises
        ServiceError unless the job is training on spot instances.
        """
        with self._lock:
            job = self._job(name)
            secondary = job.description["SecondaryStatus"]
            if not job.description.get("EnableManagedSpotTraining") or secondary != "Training":
                raise ServiceError("ValidationException", f"{name} has no spot instances to lose: it is {secondary}")
            job.interrupted.set()

    def close(self) -> None:
        """Stop every job and wait for it."""
        with self._lock:
            running = [job for job in self._jobs.values() if not job.ended.is_set()]
        for job in running:
            job.stop.set()
        for job in running:
            if job.thread is not None:
                job.thread.join()

    def wait(self, name: str) -> dict[str, Any]:
        """Wait until the job ended; return its description."""
        job = self._job(name)
        job.ended.wait()
        return job.description

    def _job(self, name: str) -> _Job:
        with self._lock:
            if name not in self._jobs:
                raise not_found(f"Requested resource not found: training job {name}")
            return self._jobs[name]

    # --- the work ---------------------------------------------------------------------------

    def _run(self, job: _Job) -> None:
        folder = self._state_dir / job.description["TrainingJobName"]
        secondary, reason = "Failed", ""
        try:
            ended, bases = self._attempt(job, folder)
            while ended == "Interrupted":
                self._enter(job, "Interrupted")
                job.interrupted.clear()
                self._enter(job, "Starting")
                ended, bases = self._attempt(job, folder)
            self._enter(job, "Uploading")
            self._upload(job, bases, needs_model=ended == "Completed")
            secondary, reason = ended, job.remark
        except _Failed as failure:
            reason = str(failure)
        except ServiceError as error:
            reason = f"ClientError: {error.message}"
        except Denial as denial:
            reason = f"ClientError: AccessDenied: {denial}"
        except errors.Unavailable as error:
            reason = f"InternalServerError: {error}"
        except errors.KennelError as error:
            reason = f"AlgorithmError: {error}"
        except Exception as error:  # whatever happened, the job must end with a reason
            LOG.exception("training job %s", job.description["TrainingJobName"])
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        now = datetime.now(UTC)
        final: dict[str, Any] = {"TrainingEndTime": now}
        if reason:
            final["FailureReason"] = reason[: contract.FAILURE_REASON_CHARACTERS]
        if "TrainingStartTime" in job.description:
            seconds = int((now - job.description["TrainingStartTime"]).total_seconds())
            hosts_count = job.description["ResourceConfig"]["InstanceCount"]
            final |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds * hosts_count}
        status = secondary if secondary in ("Completed", "Failed") else "Stopped"
        with self._lock:  # whoever sees the status sees all that belongs to it, and nobody stops what has ended
            self._enter(job, secondary, **final, TrainingJobStatus=status)
            job.ended.set()

    def _attempt(self, job: _Job, folder: Path) -> tuple[str, list[Path]]:
        """Train on hosts of its own until they end; return the secondary status, and each host's /opt/ml."""
        self._enter(job, "Downloading")
        self._assume(job)
        kept = job.description.get("CheckpointConfig")
        with contextlib.closing(self._hosts(job)) as hosts:
            self._prepare(job, folder, hosts)
            bases = [folder / host for host in hosts.names]
            with checkpoints.kept_in_s3(job.storage, kept["S3Uri"], bases) if kept else contextlib.nullcontext():
                self._enter(job, "Training")
                job.description.setdefault("TrainingStartTime", datetime.now(UTC))
                began = time.monotonic()
                ended = self._train(job, folder, hosts)
                job.trained += time.monotonic() - began
        return ended, bases

    def _enter(self, job: _Job, secondary: str, **further: Any) -> None:
        now = datetime.now(UTC)
        transitions = [*job.description["SecondaryStatusTransitions"], {"Status": secondary, "StartTime": now}]
        transitions[-2] = {**transitions[-2], "EndTime": now}
        job.description |= {
            "SecondaryStatus": secondary,
            "SecondaryStatusTransitions": transitions,
            "LastModifiedTime": now,
            **further,
        }

    def _assume(self, job: _Job) -> None:
        """Act with the job's role, which must be allowed what its container needs. Raises ServiceError or Denial."""
        description = job.description
        role = self._roles.assume(
            description["RoleArn"],
            service=sagemaker.SERVICE,
            name=_SESSION,
            source_arn=description["TrainingJobArn"],
        )
        role.check(containers.of_training_job(self._roles, description, group=LOG_GROUP))
        job.storage = self._storage.acting_with(role)
        job.logs = LogWriter(role.client("logs"))

    def _hosts(self, job: _Job) -> Hosts:
        resources = job.description["ResourceConfig"]
        return self._runtime.hosts(
            job=job.description["TrainingJobName"],
            image=job.description["AlgorithmSpecification"]["TrainingImage"],
            instance_type=resources["InstanceType"],
            count=resources["InstanceCount"],
            isolated=job.description.get("EnableNetworkIsolation", False),
        )

    def _prepare(self, job: _Job, folder: Path, hosts: Hosts) -> None:
        """Write each host's /opt/ml."""
        description = job.description
        channels = description.get("InputDataConfig", [])
        shutil.rmtree(folder, ignore_errors=True)  # of a job of this name in an earlier local AWS
        for rank, host in enumerate(hosts.names):
            base = folder / host
            opt_ml.write(
                base,
                host=host,
                hosts=hosts.names,
                network_interface=hosts.network_interface,
                instance_type=description["ResourceConfig"].get("InstanceType", "ml.local"),
                hyperparameters=description.get("HyperParameters", {}),
                channels={
                    channel["ChannelName"]: source.get("S3DataDistributionType", "FullyReplicated")
                    for channel in channels
                    if (source := training_request.s3_source(channel))
                },
                checkpoints="CheckpointConfig" in description,
            )
            for channel in channels:
                source = training_request.s3_source(channel)
                sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
                data = job.storage.fetch_prefix(
                    source["S3Uri"], shard=rank if sharded else 0, shards=len(hosts.names) if sharded else 1
                )
                merge_links(data, base / opt_ml.CHANNELS / channel["ChannelName"])

    def _train(self, job: _Job, folder: Path, hosts: Hosts) -> str:
        """Run every host to its end; return the secondary status. Raises _Failed."""
        name = job.description["TrainingJobName"]
        patterns = {
            metric["Name"]: compiled(metric["Regex"], metric["Name"])
            for metric in job.description["AlgorithmSpecification"].get("MetricDefinitions", [])
        }
        environment = {
            **job.environment,
            "TRAINING_JOB_NAME": name,
            "TRAINING_JOB_ARN": job.description["TrainingJobArn"],
        }
        bases = [folder / host for host in hosts.names]
        processes: list[Process] = []
        tails: list[Tail] = []
        last_lines = [deque[str](maxlen=LAST_LINES) for _ in bases]
        if job.stop.is_set():
            return "Stopped"
        try:
            for index, base in enumerate(bases):
                log = folder / f"algo-{index + 1}.log"
                log.touch()
                processes.append(hosts.start(index, base_dir=base, log=log, environment=environment))
                tails.append(Tail(log, self._line_sink(job, f"{name}/{log.stem}", patterns, last_lines[index])))
            secondary, bad = self._watch(job, processes, bases)
        finally:
            for process in processes:
                process.ask_to_stop()
            for process in processes:
                process.wait()
            for tail in tails:
                tail.finish()
        if bad is not None:
            status, cause = processes[bad].wait(), processes[bad].cause()
            raise _Failed(failure_reason(bases[bad], f"algo-{bad + 1}", status, last_lines[bad], cause))
        causes = [(f"algo-{number}", process.cause()) for number, process in enumerate(processes, start=1)]
        job.remark = "; ".join(f"{cause.fault}: {host} {cause.what}" for host, cause in causes if cause)
        return secondary

    def _watch(self, job: _Job, processes: list[Process], bases: list[Path]) -> tuple[str, int | None]:
        """Wait for all hosts, or for the first to fail; return the secondary status and the failed host's index.

        Raises _Failed when a host has written more than its volume holds.
        """
        volume = job.description["ResourceConfig"].get("VolumeSizeInGB", 0)
        measured = time.monotonic()
        allowed, began = limits(job.description), time.monotonic()
        while True:
            statuses = [process.poll() for process in processes]
            if job.stop.is_set():
                return "Stopped", None
            if all(status == 0 for status in statuses):
                return "Completed", None
            if job.interrupted.is_set():
                return "Interrupted", None
            if bad := [index for index, status in enumerate(statuses) if status]:
                return "Failed", bad[0]
            now = time.monotonic()
            if exceeded := allowed.exceeded(trained=job.trained + now - began, waited=now - job.created):
                return exceeded, None
            if volume and time.monotonic() > measured + _MEASURE_SECONDS:
                for number, base in enumerate(bases, start=1):
                    if (written := _written(base)) > volume * 1024**3:
                        raise _Failed(
                            f"ClientError: no space left on device: algo-{number} has written {shown(written)} to "
                            f"{contract.BASE_DIR}, and VolumeSizeInGB is {volume}"
                        )
                measured = time.monotonic()
            job.stop.wait(_POLL_SECONDS)

    def _line_sink(
        self, job: _Job, stream: str, patterns: dict[str, re.Pattern[str]], last_lines: deque[str]
    ) -> Callable[[list[str]], None]:
        def take(lines: list[str]) -> None:
            last_lines.extend(lines)
            if found := dict(metrics(lines, patterns)):
                now = datetime.now(UTC)
                with self._lock:  # every host has a thread that comes here
                    kept = {metric["MetricName"]: metric for metric in job.description["FinalMetricDataList"]}
                    kept |= {k: {"MetricName": k, "Value": v, "Timestamp": now} for k, v in found.items()}
                    job.description["FinalMetricDataList"] = [kept[name] for name in patterns if name in kept]
            job.logs.write(LOG_GROUP, stream, lines)

        return take

    def _upload(self, job: _Job, bases: list[Path], *, needs_model: bool) -> None:
        """Pack what the hosts left and put it to S3; of a stopped job, whatever there is, as SageMaker does."""
        output = job.description["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        key = job.description["OutputDataConfig"].get("KmsKeyId", "")
        prefix = f"{output}/{job.description['TrainingJobName']}/output"
        merged = bases[0].parent / "model"
        merged.mkdir(exist_ok=True)
        data = _folder(bases[0], "output/data", host="algo-1")
        for number, base in enumerate(bases, start=1):
            model = _folder(base, "model", host=f"algo-{number}")
            try:
                merge_links(model, merged)
            except FileExistsError as error:
                raise _Failed(
                    f"AlgorithmError: two hosts wrote {Path(error.filename2 or error.filename).name} into "
                    "/opt/ml/model; only one host may write the model"
                ) from error
        if needs_model and not any(merged.iterdir()):
            raise _Failed("AlgorithmError: the training wrote nothing to /opt/ml/model, so there is no model")
        for source, file in ((merged, contract.ARTEFACT_NAME), (data, "output.tar.gz")):
            if source.exists() and any(source.iterdir()):
                packed = bases[0].parent / file
                archive.pack(source, packed)
                job.storage.put_file(packed, f"{prefix}/{file}", kms_key=key)
                if source == merged:
                    job.description["ModelArtifacts"] = {"S3ModelArtifacts": f"{prefix}/{file}"}


def _written(base: Path) -> int:
    """Bytes on disk of what a host has written below /opt/ml; its channels are links to what others have, too."""
    total = 0
    ahead = [base]
    while ahead:
        path = ahead.pop()
        with contextlib.suppress(OSError):  # it may go while we look, or be closed to us
            found = path.lstat()
            total += found.st_blocks * 512
            if stat.S_ISDIR(found.st_mode):
                ahead += [below for below in path.iterdir() if below != base / "input"]
    return total


def _folder(base: Path, name: str, *, host: str) -> Path:
    """The folder at /opt/ml/`name` of a host, where there may be none. Raises _Failed for anything but a folder."""
    mode = opt_ml.mode(base, name)
    if stat.S_ISLNK(mode):
        raise _Failed(
            f"AlgorithmError: {host} has put a symbolic link at {contract.BASE_DIR}/{name} or above it; "
            "what a job leaves is not read through links"
        )
    if mode and not stat.S_ISDIR(mode):
        raise _Failed(f"AlgorithmError: what {host} has put at {contract.BASE_DIR}/{name} is no folder")
    return base / name
