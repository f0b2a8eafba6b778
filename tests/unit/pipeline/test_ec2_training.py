"""A training on EC2: the request that starts it, and how it is followed to its end. No I/O but a folder."""

import dataclasses
import io
import json
import shlex
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

import configurations
from kennel import config as configuration
from kennel import contract
from kennel.errors import InvalidArguments, PipelineFailed
from kennel.pipeline import ec2_request, ec2_training, resources
from kennel.pipeline.ec2_request import Ec2Job
from kennel.pipeline.events import JobEnded, JobStarted, Metrics, Progress

DIGEST = f"sha256:{'a' * 64}"
SCRIPT = (configurations.ROOT / ec2_request.SCRIPT).read_text()
JOB = Ec2Job(
    name="kennel-20260101-120000-ec2-train",
    image=f"123456789012.dkr.ecr.us-east-1.amazonaws.com/kennel-training@{DIGEST}",
    region="us-east-1",
    bucket="bucket",
    hyperparameters={"epochs": "3"},
    channels={"training": "s3://bucket/data/1"},
    launch_template="lt-1",
    kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/k",
    instance_type="g5.xlarge",
    volume_gb=100,
    max_runtime_seconds=3600,
    spot=False,
)
OUTPUT = f"models/{JOB.name}/output"


def changed(**changes):
    return dataclasses.replace(JOB, **changes)


def assigned(job, name):
    """What a shell has in the variable after the assignments of the user data."""
    words = shlex.split(ec2_request.user_data(job, ""), comments=True)
    return dict(word.split("=", 1) for word in words)[name]


def refused(code, message="it says"):
    return ClientError({"Error": {"Code": code, "Message": message}}, "RunInstances")


# --- the request ----------------------------------------------------------------------------


def test_the_job_of_a_configuration_trains_as_its_final_training_does():
    chosen = configuration.parse(configurations.text({"ec2.spot": True}), where="test")
    made = resources.imagined("kennel", "us-east-1")
    job = ec2_request.job_of(chosen, made, name="kennel-1", data_uri="s3://d/x", pretrained_uri="")
    assert job.hyperparameters == {**chosen.training.hyperparameters, "seed": "15"}
    assert job.channels == {"training": "s3://d/x"}
    assert (job.instance_type, job.spot) == (chosen.ec2.instance_type, True)
    assert job.launch_template == made.launch_template
    assert job.output_uri == f"s3://{made.names.bucket}/models/kennel-1/output"


@pytest.mark.parametrize("value", ["'; reboot; '", '"$(reboot)"', "`reboot`", "a\nb", "\\", "é ☂", "$HOME", "-n", "!!"])
def test_hostile_values_reach_the_script_as_they_are(value):
    job = changed(hyperparameters={"x": value}, channels={"training": f"s3://bucket/{value}".replace("\n", "")})
    assert json.loads(assigned(job, "HYPERPARAMETERS")) == {"x": value}
    assert assigned(job, "CHANNELS") == f"training {job.channels['training']}"


def test_user_data_begins_as_a_script_does_and_sets_what_the_script_asks_for():
    lines = ec2_request.user_data(JOB, SCRIPT).splitlines()
    assert lines[0] == "#!/bin/bash"
    given = {line.partition("=")[0] for line in lines[1 : lines.index("#!/bin/bash", 1)]}
    asked = {line.split("{")[1].partition("?")[0].rstrip(":") for line in lines if line.startswith(': "${')}
    assert given == {*asked, "TIME_LIMIT_MINUTES"}


def test_checkpoints_that_are_not_finished_are_left_where_they_are():
    assert f"--exclude '*{contract.PARTIAL_SUFFIX}'" in SCRIPT


def test_user_data_above_the_limit_of_ec2_is_refused():
    room = ec2_request.MAX_USER_DATA_BYTES - len(
        ec2_request.user_data(changed(hyperparameters={"x": ""}), SCRIPT).encode()
    )
    ec2_request.user_data(changed(hyperparameters={"x": "y" * room}), SCRIPT)
    with pytest.raises(InvalidArguments, match="has 16385 bytes, and EC2 takes 16384"):
        ec2_request.user_data(changed(hyperparameters={"x": "y" * (room + 1)}), SCRIPT)


def test_most_of_the_user_data_is_free_for_parameters():
    assert len(SCRIPT.encode()) < ec2_request.MAX_USER_DATA_BYTES * 0.6


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a/b", "a'b", "x" * 64])
def test_a_name_that_cannot_be_a_job_is_refused(name):
    with pytest.raises(InvalidArguments, match="is no name for a training job"):
        ec2_request.request(changed(name=name), SCRIPT)


@pytest.mark.parametrize("channels", [{"a b": "s3://x"}, {"a": "s3://x\nb s3://y"}])
def test_a_channel_that_would_be_read_as_two_is_refused(channels):
    with pytest.raises(InvalidArguments, match="spaces"):
        ec2_request.user_data(changed(channels=channels), SCRIPT)


def test_a_job_always_has_the_same_token_and_another_job_another():
    token = ec2_request.request(JOB, SCRIPT)["ClientToken"]
    assert ec2_request.request(JOB, SCRIPT)["ClientToken"] == token
    assert ec2_request.request(changed(name="other"), SCRIPT)["ClientToken"] != token
    assert len(token) <= 64


def test_the_request_is_one_that_ec2_takes():
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    shape = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for job in (JOB, changed(spot=True)):
        report = ParamValidator().validate(ec2_request.request(job, SCRIPT), shape)
        assert not report.has_errors(), report.generate_report()


def test_the_disk_is_encrypted_though_its_size_is_our_own():
    (mapping,) = ec2_request.request(JOB, SCRIPT)["BlockDeviceMappings"]
    assert mapping["Ebs"] == {
        "VolumeSize": 100,
        "VolumeType": "gp3",
        "Encrypted": True,
        "KmsKeyId": JOB.kms_key_arn,
        "DeleteOnTermination": True,
    }


def test_only_a_spot_job_asks_for_spare_capacity():
    assert "InstanceMarketOptions" not in ec2_request.request(JOB, SCRIPT)
    options = ec2_request.request(changed(spot=True), SCRIPT)["InstanceMarketOptions"]
    assert (options["MarketType"], options["SpotOptions"]["SpotInstanceType"]) == ("spot", "one-time")


def test_the_time_limit_leaves_room_around_the_training():
    assert ec2_request.time_limit_minutes(JOB) == 60 + 2 + 30
    assert f"TIME_LIMIT_MINUTES={shlex.quote('92')}\n" in ec2_request.user_data(JOB, SCRIPT)


# --- following ------------------------------------------------------------------------------


class FakeEc2:
    def __init__(self, *states, fails=None):
        self.states = list(states)
        self.fails = fails
        self.asked = []
        self.terminated = []
        self.console = ""

    def run_instances(self, **asked):
        self.asked.append(asked)
        if self.fails:
            raise self.fails
        return {"Instances": [{"InstanceId": "i-1"}]}

    def describe_instances(self, *, InstanceIds):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, BaseException):
            raise state
        reason = {"StateReason": {"Message": "Server.InternalError"}} if state == "terminated" else {}
        return {"Reservations": [{"Instances": [{"InstanceId": "i-1", "State": {"Name": state}, **reason}]}]}

    def terminate_instances(self, *, InstanceIds):
        if self.fails:
            raise self.fails
        self.terminated += InstanceIds

    def get_console_output(self, *, InstanceId):
        return {"Output": self.console}


class FakeS3:
    def __init__(self, **objects):
        self.objects = {f"{OUTPUT}/{name.replace('_', '.', 1)}": body for name, body in objects.items()}

    def get_object(self, *, Bucket, Key, Range="bytes=0-"):
        if Key not in self.objects:
            raise refused("NoSuchKey")
        rest = self.objects[Key][int(Range.removeprefix("bytes=").rstrip("-")) :]
        if not rest:
            raise refused("InvalidRange")
        return {"Body": io.BytesIO(rest)}

    def head_object(self, *, Bucket, Key):
        if Key not in self.objects:
            raise refused("404")
        return {}

    def download_file(self, bucket, key, file):
        Path(file).write_bytes(self.objects[key])


class FakeAws:
    def __init__(self, ec2, s3=None, endpoint_url="http://127.0.0.1:1"):
        self._clients = {"ec2": ec2, "s3": s3 or FakeS3()}
        self.endpoint_url = endpoint_url

    def client(self, service):
        return self._clients[service]


def run(aws, folder, *, sleep=lambda _: None, job=JOB):
    events, said = [], []
    times = iter(range(1000))
    result = ec2_training.run(
        aws,
        job,
        script=SCRIPT,
        folder=folder,
        show=events.append,
        say=said.append,
        sleep=sleep,
        clock=lambda: next(times),
    )
    return result, events, said


def status(name="Completed", **more):
    return json.dumps({"Status": name, "FailureReason": "", "ExitStatus": 0, **more}).encode()


def test_a_training_that_completes_leaves_its_log_and_its_model_in_the_folder(tmp_path):
    s3 = FakeS3(train_log=b"kennel-metrics epoch=1 validation:loss=0.5\n", status_json=status())
    s3.objects[f"{OUTPUT}/model.tar.gz"] = b"model"
    result, events, said = run(FakeAws(FakeEc2("running", "terminated"), s3), tmp_path)
    assert events == [
        JobStarted(name=JOB.name, tuned={}, hosts=1),
        Metrics(job=JOB.name, epoch=1, values={"validation:loss": 0.5}),
        JobEnded(name=JOB.name, status="Completed", objective=None, reason=""),
    ]
    assert (result.status, result.model, result.seconds) == ("Completed", f"{JOB.output_uri}/model.tar.gz", 1)
    assert (tmp_path / "train.log").read_bytes() == s3.objects[f"{OUTPUT}/train.log"]
    assert (tmp_path / "model.tar.gz").read_bytes() == b"model"
    assert said == ["Instance i-1 (g5.xlarge)"]


def test_each_line_of_the_log_is_told_once_when_it_is_complete(tmp_path):
    s3 = FakeS3()
    following = ec2_training.Following(FakeAws(FakeEc2("running"), s3), JOB, instance_id="i-1", folder=tmp_path)
    log = f"{OUTPUT}/train.log"
    assert following.poll() == [JobStarted(name=JOB.name, tuned={}, hosts=1)]
    s3.objects[log] = b"kennel-progress epoch=1/2 step=1/2\nkennel-metrics ep"
    assert following.poll() == [Progress(job=JOB.name, fraction=0.25)]
    assert following.poll() == []
    s3.objects[log] += b"och=1 train:loss=1.5\n"
    assert following.poll() == [Metrics(job=JOB.name, epoch=1, values={"train:loss": 1.5})]
    assert (tmp_path / "train.log").read_bytes() == s3.objects[log]


def test_a_status_counts_once_the_instance_leaves(tmp_path):
    s3 = FakeS3(status_json=status("Failed", FailureReason="why"))
    ec2 = FakeEc2("running", "shutting-down")
    following = ec2_training.Following(FakeAws(ec2, s3), JOB, instance_id="i-1", folder=tmp_path)
    following.poll()
    assert not following.ended
    assert following.poll() == [JobEnded(name=JOB.name, status="Failed", objective=None, reason="why")]
    assert following.ended


@pytest.mark.parametrize("left", [None, b"no JSON", b"[]", b'{"Status": "Great"}'])
def test_an_instance_that_ends_without_a_status_failed_for_what_ec2_and_its_console_say(tmp_path, left):
    ec2 = FakeEc2("running", "shutting-down", "terminated")
    ec2.console = "\n".join(f"line {number}" for number in range(30))
    s3 = FakeS3(**({} if left is None else {"status_json": left}))
    result, _, _ = run(FakeAws(ec2, s3), tmp_path)
    assert (result.status, result.model) == ("Failed", "")
    assert "Server.InternalError" in result.reason
    assert "line 15\n" in result.reason
    assert "line 14\n" not in result.reason


def test_an_instance_that_is_not_known_yet_is_waited_for_and_one_that_is_forgotten_has_ended(tmp_path):
    unknown = refused("InvalidInstanceID.NotFound")
    result, events, _ = run(FakeAws(FakeEc2(unknown, "running", unknown)), tmp_path)
    assert [type(event) for event in events] == [JobStarted, JobEnded]
    assert result.status == "Failed"


def test_ctrl_c_terminates_the_instance_and_says_so(tmp_path):
    ec2 = FakeEc2("running")
    said = []

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ec2_training.run(
            FakeAws(ec2),
            JOB,
            script=SCRIPT,
            folder=tmp_path,
            show=lambda _: None,
            say=said.append,
            sleep=interrupt,
            clock=lambda: 0.0,
        )
    assert ec2.terminated == ["i-1"]
    assert said[-1] == "i-1 is being terminated; its checkpoints and its log stay in S3."


def test_an_instance_that_cannot_be_terminated_is_named_with_the_command_that_does_it(tmp_path):
    said = []
    ec2_training.terminate(FakeAws(FakeEc2("running", fails=refused("RequestLimitExceeded"))), "i-1", say=said.append)
    assert "i-1 could not be terminated" in said[0]
    assert said[1].endswith("aws ec2 terminate-instances --instance-ids i-1")


def test_aws_runs_an_image_only_by_its_digest():
    aws = FakeAws(FakeEc2("running"), endpoint_url=None)
    with pytest.raises(InvalidArguments, match="has no digest"):
        ec2_training.launch(aws, changed(image="kennel-training:1"), script=SCRIPT)
    assert aws.client("ec2").asked == []
    assert ec2_training.launch(aws, JOB, script=SCRIPT) == "i-1"


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("IdempotentParameterMismatch", InvalidArguments, "Give this one another name"),
        ("InsufficientInstanceCapacity", PipelineFailed, "ec2.spot = false"),
        ("VcpuLimitExceeded", PipelineFailed, "quota"),
        ("InvalidLaunchTemplateId.NotFound", PipelineFailed, "Deploy the stack first"),
        ("SomethingElse", PipelineFailed, "Check the credentials"),
    ],
)
def test_what_ec2_refuses_is_told_with_what_to_do(code, kind, said):
    with pytest.raises(kind, match=said):
        ec2_training.launch(FakeAws(FakeEc2("running", fails=refused(code))), JOB, script=SCRIPT)
