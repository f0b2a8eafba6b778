"""A local AWS under test, its clients, and shorthands for what AWS wants in many lines."""

import io
import itertools
import tarfile
import time

import boto3
from botocore.config import Config

from local_roles import EXECUTIONS, JOBS, make_role

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/kennel"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/kennel:1"
ENDED = ("Completed", "Failed", "Stopped")


class Aws:
    """The local AWS under test."""

    def __init__(self, url, server, runtime):
        self.url = url
        self.server = server
        self.runtime = runtime
        self._clients = {}
        self._numbers = itertools.count(1)
        make_role(self.iam, "kennel", *JOBS, trusted=["sagemaker"])
        make_role(self.iam, "states", *EXECUTIONS, trusted=["states"])
        self.s3.create_bucket(Bucket="bucket")
        self.s3.put_object(Bucket="bucket", Key="model.tar.gz", Body=packed(weights=b"w1"))
        self.s3.put_object(Bucket="bucket", Key="model2.tar.gz", Body=packed(weights=b"w2"))

    def client(self, service, **config):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(
                retries={"total_max_attempts": 1},
                proxies={},
                max_pool_connections=20,
                parameter_validation=False,  # the server must refuse what is wrong, not the client
                **config,
            ),
        )

    def __getattr__(self, service):
        name = service.replace("_", "-")
        if name not in self._clients:
            self._clients[name] = self.client(name)
        return self._clients[name]

    def name(self, kind="it"):
        return f"{kind}-{next(self._numbers)}"

    def definition(self, script, *, hosts=1, metrics=(), **changes):
        return {
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in metrics],
            },
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            "Environment": {"SCRIPT": script},
            **changes,
        }

    def start_job(self, script, **definition):
        name = self.name("job")
        self.sagemaker.create_training_job(TrainingJobName=name, **self.definition(script, **definition))
        return name

    def ended_job(self, name, seconds=30):
        return wait_for(
            lambda: self.sagemaker.describe_training_job(TrainingJobName=name),
            lambda job: job["TrainingJobStatus"] in ENDED,
            seconds,
        )

    def job(self, script, **definition):
        """Run one training job to its end; return its description."""
        return self.ended_job(self.start_job(script, **definition))

    def started(self, name, **marks):
        """Wait until the job's script has said `ready` on every host (or `times`)."""
        times = marks.get("times", 1)
        folder = self.server_dir / "training-jobs" / name
        wait_for(lambda: sum("ready" in log.read_text() for log in folder.glob("algo-*.log")), lambda n: n >= times, 20)
        return folder


def wait_for(look, enough, seconds=30):
    deadline = time.monotonic() + seconds
    while not enough(seen := look()):
        assert time.monotonic() < deadline, f"still {seen} after {seconds} s"
        time.sleep(0.03)
    return seen


def packed(**files):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()
