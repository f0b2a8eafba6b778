"""EC2 instances over HTTP: their user data really runs. The training's own user data, and small scripts."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError
from fake_runtime import FakeHosts, FakeRuntime

from kennel.local import instance_machine
from kennel.local.instances import Instances
from kennel.local.moto_patches.ec2 import hand_instances_to
from kennel.local.wire import ServiceError
from kennel.pipeline import ec2_request, ec2_training
from kennel.pipeline.aws import Aws
from kennel.pipeline.ec2_request import Ec2Job
from kennel.pipeline.events import JobEnded, JobStarted, Metrics
from local_rig import REGION, wait_for
from waiting import gone, until

ROOT = Path(__file__).parents[3]
SCRIPT = (ROOT / ec2_request.SCRIPT).read_text()
MINUTE_SECONDS = 2.0
ECR = "127.0.0.1:5999"


class ScriptedHosts(FakeHosts):
    """`train` is the Python text in the hyperparameter `script`."""

    def start(self, index, *, base_dir, log, environment):
        given = json.loads((base_dir / "input/config/hyperparameters.json").read_text())
        return super().start(index, base_dir=base_dir, log=log, environment={**environment, "SCRIPT": given["script"]})


class ScriptedRuntime(FakeRuntime):
    def hosts(self, **asked):
        self.asked.append(asked)
        self.jobs.append(ScriptedHosts(["127.0.0.1"], self._start))
        return self.jobs[-1]


class Rig:
    def __init__(self, aws, folder):
        self.aws = aws
        self.folder = folder
        self.runtime = ScriptedRuntime()
        self.variables = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        self.asked_for = []
        self.template = ""

    def credentials(self, role_arn, instance_id):
        self.asked_for.append((role_arn, instance_id))
        return self.variables

    def describe_images(self, request):
        if request["repositoryName"] != "kennel-training":
            raise ServiceError("RepositoryNotFoundException", f"no repository {request['repositoryName']}")
        return {}

    def job(self, script, **changes):
        values = {
            "name": self.aws.name("ec2-job"),
            "image": "kennel-training",
            "region": REGION,
            "bucket": "bucket",
            "hyperparameters": {"script": script},
            "channels": {},
            "launch_template": self.template,
            "kms_key_arn": "arn:aws:kms:us-east-1:123456789012:key/k",
            "instance_type": "m5.large",
            "volume_gb": 20,
            "max_runtime_seconds": 60,
            "spot": False,
        }
        return Ec2Job(**{**values, **changes})

    def train(self, job, *, script=SCRIPT):
        """Run a job to its end; return the result and the events."""
        events, said = [], []
        folder = self.folder / "runs" / job.name
        folder.mkdir(parents=True)
        result = ec2_training.run(
            Aws(region=REGION, endpoint_url=self.aws.url),
            job,
            script=script,
            folder=folder,
            show=events.append,
            say=said.append,
            sleep=lambda _: time.sleep(0.1),
            clock=time.monotonic,
        )
        return result, events

    def start(self, user_data, **asked):
        made = self.aws.ec2.run_instances(
            LaunchTemplate={"LaunchTemplateId": self.template}, MinCount=1, MaxCount=1, UserData=user_data, **asked
        )
        return made["Instances"][0]["InstanceId"]

    def instance(self, instance_id):
        return self.aws.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id):
        return self.instance(instance_id)["State"]["Name"]

    def terminated(self, instance_id):
        wait_for(lambda: self.state(instance_id), "terminated".__eq__, 20)
        return self.instance(instance_id)

    def console(self, instance_id):
        return self.aws.ec2.get_console_output(InstanceId=instance_id).get("Output", "")

    def says(self, instance_id, text):
        until(lambda: text in self.console(instance_id), what=f"{text!r} in the console")

    def status(self, job):
        return json.loads(self.text(job, "status.json"))

    def text(self, job, name):
        key = f"{job.output_uri.removeprefix('s3://bucket/')}/{name}"
        return self.aws.s3.get_object(Bucket="bucket", Key=key)["Body"].read().decode()


@pytest.fixture(scope="module")
def instances(aws, tmp_path_factory):
    """All instances of the local AWS, in a fake runtime and with short minutes."""
    aws.ec2.describe_instances()  # before: the server takes the instances when it is first asked about any
    rig = Rig(aws, tmp_path_factory.mktemp("instances"))
    role = aws.iam.create_role(RoleName="ec2-training", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    profile = aws.iam.create_instance_profile(InstanceProfileName="ec2-training")["InstanceProfile"]["Arn"]
    aws.iam.add_role_to_instance_profile(InstanceProfileName="ec2-training", RoleName="ec2-training")
    rig.role, rig.profile = role, profile
    rig.template = aws.ec2.create_launch_template(
        LaunchTemplateName="training",
        LaunchTemplateData={
            "ImageId": "ami-12345678",
            "IamInstanceProfile": {"Arn": profile},
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        },
    )["LaunchTemplate"]["LaunchTemplateId"]
    running = Instances(
        endpoint_url=aws.url,
        state_dir=rig.folder,
        runtime=rig.runtime,
        registry=ECR,
        describe_images=rig.describe_images,
        environment=dict(os.environ),
        credentials=rig.credentials,
        grace=10.0,
        minute_seconds=MINUTE_SECONDS,
    )
    hand_instances_to(running)
    yield rig
    running.close()
    assert [process.pid for process in rig.runtime.started if process.poll() is None] == []


def test_a_training_leaves_its_model_its_log_and_its_status(instances):
    instances.aws.s3.put_object(Bucket="bucket", Key="ec2-data/train/a.jpg", Body=b"picture")
    instances.aws.s3.put_object(Bucket="bucket", Key="weights/w.bin", Body=b"pretrained")
    script = """
seen = {"data": (base / "input/data/training/train/a.jpg").read_text(), "job": os.environ["TRAINING_JOB_NAME"]}
seen["weights"] = (base / "input/data/pretrained/w.bin").read_text()
seen["channels"] = sorted(json.loads((base / "input/config/inputdataconfig.json").read_text()))
seen["hosts"] = resources["hosts"]
seen["earlier"] = (base / "checkpoints/0.bin").read_text()
seen["credentials"] = [name for name in os.environ if name.startswith("AWS_")]
model(json.dumps(seen))
(base / "model/code").mkdir(); (base / "model/code/x.py").write_text("x")
(base / "checkpoints/1.bin").write_text("c"); (base / "checkpoints/2.bin.partial").write_text("half")
(base / "checkpoints/link").symlink_to("/etc/passwd")
say("kennel-metrics epoch=1 validation:loss=0.5")
"""
    channels = {"training": "s3://bucket/ec2-data", "pretrained": "s3://bucket/weights/w.bin"}
    job = instances.job(script, channels=channels, image=f"{ECR}/kennel-training@sha256:{'0' * 64}")
    instances.aws.s3.put_object(Bucket="bucket", Key=f"checkpoints/{job.name}/0.bin", Body=b"0")
    result, events = instances.train(job)
    assert (result.status, result.reason, result.model) == ("Completed", "", f"{job.output_uri}/model.tar.gz")
    assert instances.status(job) == {"Status": "Completed", "FailureReason": "", "ExitStatus": 0}
    with tarfile.open(result.folder / "model.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["code", "code/x.py", "model.bin"]
        seen = json.loads(tar.extractfile("model.bin").read())
    assert seen == {
        "data": "picture",
        "job": job.name,
        "weights": "pretrained",
        "channels": ["pretrained", "training"],
        "hosts": ["127.0.0.1"],
        "earlier": "0",
        "credentials": [],
    }
    listed = instances.aws.s3.list_objects_v2(Bucket="bucket", Prefix=f"checkpoints/{job.name}/")["Contents"]
    assert [item["Key"].rpartition("/")[2] for item in listed] == ["0.bin", "1.bin"]
    assert "validation:loss=0.5" in (result.folder / "train.log").read_text()
    assert isinstance(events[0], JobStarted)
    assert [dict(event.values) for event in events if isinstance(event, Metrics)] == [{"validation:loss": 0.5}]
    assert events[-1] == JobEnded(name=job.name, status="Completed", objective=None, reason="")
    assert instances.asked_for[-1] == (instances.role, result.instance_id)
    assert instances.runtime.asked[-1]["isolated"]
    instance = instances.terminated(result.instance_id)
    assert instance["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_training_that_fails_says_why(instances):
    job = instances.job("fail('ValueError: the reason')")
    result, events = instances.train(job)
    assert (result.status, result.reason, result.model) == ("Failed", "ValueError: the reason", "")
    assert instances.status(job)["ExitStatus"] == 1
    assert events[-1].reason == result.reason


def test_a_training_that_runs_too_long_is_stopped_with_sigterm_and_what_it_has_is_kept(instances):
    script = """
def end(*_):
    model("so far"); (base / "output/failure").write_text("stopped"); os._exit(143)
signal.signal(signal.SIGTERM, end)
(base / "checkpoints/1").write_text("c")
time.sleep(60)
"""
    job = instances.job(script, max_runtime_seconds=1)
    result, _ = instances.train(job)
    assert (result.status, result.reason) == ("Stopped", "the training ran longer than 1 s")
    assert instances.status(job)["ExitStatus"] == 143
    with tarfile.open(fileobj=io.BytesIO(instances.aws.s3.get_object(
        Bucket="bucket", Key=f"models/{job.name}/output/model.tar.gz")["Body"].read())) as tar:  # fmt: skip
        assert tar.extractfile("model.bin").read() == b"so far"
    assert instances.aws.s3.get_object(Bucket="bucket", Key=f"checkpoints/{job.name}/1")["Body"].read() == b"c"
    instances.terminated(result.instance_id)


def test_what_fails_before_the_training_is_the_reason_and_the_instance_ends(instances):
    job = instances.job("model()", image=f"{ECR}/nobody@sha256:{'0' * 64}")
    result, _ = instances.train(job)
    assert result.status == "Failed"
    assert result.reason.startswith(f"pulling {job.image} failed; the last lines: ")
    assert "no repository nobody" in result.reason
    assert instances.status(job)["ExitStatus"] is None


def test_an_instance_whose_script_is_killed_ends_at_its_time_limit_and_says_what_it_printed(instances):
    killed = SCRIPT.replace(': "${JOB:?}" ', "shutdown -h +1; echo so far; kill -KILL $$; ")
    assert killed != SCRIPT
    began = time.monotonic()
    result, _ = instances.train(instances.job("model()"), script=killed)
    assert time.monotonic() - began >= MINUTE_SECONDS
    assert result.status == "Failed"
    assert "Client.InstanceInitiatedShutdown" in result.reason
    assert result.reason.endswith("so far")


def test_a_terminated_instance_ends_its_training_and_tells_what_it_has(instances):
    job = instances.job("say('ready'); (base / 'checkpoints/1').write_text('c'); forked(); time.sleep(300)")
    pipeline = Aws(region=REGION, endpoint_url=instances.aws.url)
    instance_id = ec2_training.launch(pipeline, job, script=SCRIPT)
    instances.says(instance_id, "ready")
    training = psutil.Process(instances.runtime.started[-1].pid)
    below = [process.pid for process in training.children(recursive=True)]
    assert below
    instances.aws.ec2.terminate_instances(InstanceIds=[instance_id])
    assert instances.state(instance_id) == "shutting-down"
    instances.aws.ec2.terminate_instances(InstanceIds=[instance_id])  # twice is no error
    instance = instances.terminated(instance_id)
    assert instance["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert all(gone(pid) for pid in below)
    assert instances.status(job)["Status"] == "Stopped"
    assert instances.status(job)["FailureReason"] == "the instance was shut down"
    assert instances.aws.s3.get_object(Bucket="bucket", Key=f"checkpoints/{job.name}/1")["Body"].read() == b"c"


def test_the_same_job_is_never_started_twice(instances):
    pipeline = Aws(region=REGION, endpoint_url=instances.aws.url)
    job, script = instances.job(""), f"echo once >> {instances.folder}/starts; sleep 300"
    first = ec2_training.launch(pipeline, job, script=script)
    until((instances.folder / "starts").exists)
    assert ec2_training.launch(pipeline, job, script=script) == first
    with pytest.raises(Exception, match="was started before, and with something else"):
        ec2_training.launch(pipeline, instances.job("other", name=job.name), script=script)
    instances.aws.ec2.terminate_instances(InstanceIds=[first])
    instances.terminated(first)
    assert ec2_training.launch(pipeline, job, script=script) == first
    assert instances.state(first) == "terminated"
    assert (instances.folder / "starts").read_text() == "once\n"


def test_an_instance_acts_as_its_role_and_sees_nothing_of_this_machines_user(instances):
    instance_id = instances.start("#!/bin/bash\nset -e\naws sts get-caller-identity\nenv\nls ~\nshutdown -h now\n")
    instances.terminated(instance_id)
    printed = instances.console(instance_id)
    assert '"Account"' in printed
    assert "AWS_ACCESS_KEY_ID=x" in printed
    folder = instances.folder / instance_id
    assert f"HOME={folder}\n" in printed
    assert "PYTEST" not in printed


def test_an_instance_that_is_not_to_terminate_is_stopped_by_its_shutdown(instances):
    instance_id = instances.start("#!/bin/sh\nshutdown -h now\n", InstanceInitiatedShutdownBehavior="stop")
    wait_for(lambda: instances.state(instance_id), "stopped".__eq__)
    assert instances.instance(instance_id)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_what_the_stand_ins_do_not_know_they_refuse(instances):
    refused = {
        "docker run --privileged image train": (125, "docker: "),
        "docker run --name t --volume /tmp:/data image train": (125, "one volume, at /opt/ml"),
        "docker stop nobody": (1, "No such container: nobody"),
        "docker pull Bad@Name": (1, "invalid reference format"),
        "shutdown -h tomorrow": (1, "Failed to parse time specification"),
        "nvidia-smi": (127, "not found"),
    }
    commands = "".join(f"{command}\necho ended with $?\n" for command in refused)
    instance_id = instances.start(f"#!/bin/bash\n{commands}shutdown -h now\n")
    instances.terminated(instance_id)
    said = re.findall(r"(.*)\nended with (\d+)\n", instances.console(instance_id))
    assert [int(status) for _, status in said] == [status for status, _ in refused.values()]
    for (printed, _), (_, expected) in zip(said, refused.values(), strict=True):
        assert expected in printed


def test_user_data_that_is_no_script_runs_nothing_and_the_instance_stays(instances):
    instance_id = instances.start("#cloud-config\nruncmd: [true]\n")
    assert instances.state(instance_id) == "running"
    instances.aws.ec2.terminate_instances(InstanceIds=[instance_id])
    assert instances.state(instance_id) == "terminated"


def test_a_client_token_with_another_request_is_refused(instances):
    instances.start("#!/bin/sh\nshutdown -h now\n", ClientToken="token")
    with pytest.raises(ClientError) as refused:
        instances.start("#!/bin/sh\nshutdown -h +1\n", ClientToken="token")
    assert refused.value.response["Error"]["Code"] == "IdempotentParameterMismatch"


def test_a_stand_in_does_not_wait_for_a_local_aws_that_has_ended(tmp_path):
    ended = subprocess.Popen(["true"])  # not collected yet: a zombie has ended, too
    until(lambda: gone(ended.pid))
    command = [
        sys.executable,
        "-IS",
        str(instance_machine.STAND_IN),
        str(tmp_path),
        str(ended.pid),
        "docker",
        "stop",
        "x",
    ]
    assert subprocess.run(command, timeout=10, check=False).returncode == 125
    ended.wait()
