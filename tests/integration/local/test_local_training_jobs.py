"""Training jobs over HTTP, with real processes for hosts."""

import io
import json
import tarfile

import pytest
from botocore.exceptions import ClientError

from local_rig import IMAGE, wait_for
from waiting import gone, until

LOSS = (("loss", r"loss=([0-9.]+)"),)


def members(aws, uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def channel(prefix, name="training", distribution="FullyReplicated"):
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://bucket/{prefix}", "S3DataDistributionType": distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def test_a_job_leaves_its_model_in_s3_and_its_last_metrics_in_its_description(aws):
    job = aws.job("say('loss=0.75'); say('loss=0.5'); model('w')", metrics=LOSS, HyperParameters={"a": "1"})
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Completed"
    assert [(m["MetricName"], m["Value"]) for m in job["FinalMetricDataList"]] == [("loss", 0.5)]
    assert members(aws, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.bin": b"w"}
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://bucket/out/{job['TrainingJobName']}/output/model.tar.gz"
    statuses = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert "FailureReason" not in job


def test_a_host_finds_the_container_contract(aws):
    aws.s3.put_object(Bucket="bucket", Key="contract/train/a.jpg", Body=b"a")
    script = """
config = {name: json.loads((base / f"input/config/{name}.json").read_text())
          for name in ("hyperparameters", "resourceconfig", "inputdataconfig")}
config["data"] = (base / "input/data/training/train/a.jpg").read_text()
config["job"] = os.environ["TRAINING_JOB_NAME"]
config["credentials"] = [name for name in os.environ if name.startswith("AWS_")]
model(json.dumps(config))
"""
    job = aws.job(script, HyperParameters={"lr": "0.1"}, InputDataConfig=[channel("contract")])
    seen = json.loads(members(aws, job["ModelArtifacts"]["S3ModelArtifacts"])["model.bin"])
    assert seen["hyperparameters"] == {"lr": "0.1"}
    assert seen["resourceconfig"]["hosts"] == [seen["resourceconfig"]["current_host"]]
    assert seen["inputdataconfig"]["training"]["S3DistributionType"] == "FullyReplicated"
    assert (seen["data"], seen["job"], seen["credentials"]) == ("a", job["TrainingJobName"], [])


def test_what_the_hosts_print_is_in_cloudwatch_logs(aws):
    name = aws.start_job("say(f'hello from {rank}'); time.sleep(0.1); rank or model()", hosts=2)
    aws.ended_job(name)
    for host in (1, 2):
        events = aws.logs.get_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=f"{name}/algo-{host}"
        )["events"]
        assert [event["message"] for event in events] == [f"hello from {host - 1}"]


def test_the_failure_file_is_the_failure_reason_of_at_most_1024_characters(aws):
    job = aws.job("fail('ValueError: the reason')")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"] == "AlgorithmError: ValueError: the reason, exit code: 1"
    long = aws.job("fail('x' * 5000)")["FailureReason"]
    assert len(long) == 1024
    assert long.startswith("AlgorithmError: xxx")
    assert long.endswith("x, exit code: 1")


def test_a_crash_without_a_reason_is_told_by_that_hosts_last_lines(aws):
    script = """
say(f"line of {rank}")
if rank == 0:
    time.sleep(60)
time.sleep(0.5)
raise RuntimeError("out of luck")
"""
    reason = aws.job(script, hosts=2)["FailureReason"]
    assert "algo-2 left no reason" in reason
    assert "RuntimeError: out of luck" in reason
    assert "line of 1" in reason
    assert "line of 0" not in reason


def test_a_host_killed_by_a_signal_is_said_so(aws):
    reason = aws.job("os.kill(os.getpid(), signal.SIGKILL)")["FailureReason"]
    assert "algo-1 was killed by signal 9" in reason
    assert reason.endswith("exit code: 137")


def test_a_job_that_writes_no_model_fails(aws):
    job = aws.job("pass")
    assert job["TrainingJobStatus"] == "Failed"
    assert "wrote nothing to /opt/ml/model" in job["FailureReason"]
    assert "ModelArtifacts" not in job or not job["ModelArtifacts"].get("S3ModelArtifacts")


def test_two_hosts_that_write_the_same_file_fail_the_job(aws):
    job = aws.job("model(str(rank))", hosts=2)
    assert job["TrainingJobStatus"] == "Failed"
    assert "two hosts wrote model.bin" in job["FailureReason"]


def test_hosts_that_write_different_files_have_them_in_one_artefact(aws):
    job = aws.job("model(str(rank), name=f'{rank}.bin')", hosts=2)
    assert members(aws, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"0.bin": b"0", "1.bin": b"1"}


def test_a_link_in_the_model_folder_fails_the_job_with_a_reason_of_the_users(aws):
    job = aws.job("model(); (base / 'model/link').symlink_to('/etc/passwd')")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert "link" in job["FailureReason"]


@pytest.mark.parametrize("linked", ["model", "output", "output/data"])
def test_a_link_in_the_place_of_a_folder_fails_the_job_and_is_not_followed(aws, tmp_path, linked):
    (tmp_path / "data").mkdir()
    for secret in (tmp_path / "secret", tmp_path / "data/secret"):
        secret.write_text("of this machine")
    script = f"""
import shutil
shutil.rmtree(base / "{linked}")
(base / "{linked}").symlink_to("{tmp_path}")
(base / "model").is_symlink() or model()
"""
    name = aws.start_job(script)
    job = aws.ended_job(name)
    assert job["TrainingJobStatus"] == "Failed"
    shown = "model" if linked == "model" else "output/data"
    assert job["FailureReason"] == (
        f"AlgorithmError: algo-1 has put a symbolic link at /opt/ml/{shown} or above it; "
        "what a job leaves is not read through links"
    )
    assert "Contents" not in aws.s3.list_objects_v2(Bucket="bucket", Prefix=f"out/{name}/")


def test_a_link_in_the_place_of_the_failure_file_is_no_reason(aws, tmp_path):
    (tmp_path / "credentials").write_text("a secret")
    script = f"(base / 'output/failure').symlink_to('{tmp_path}/credentials'); say('last words'); sys.exit(1)"
    assert aws.job(script)["FailureReason"] == (
        "AlgorithmError: algo-1 left no reason; its last lines:\nlast words, exit code: 1"
    )


@pytest.mark.parametrize("name", ["model", "output/data"])
def test_a_file_or_a_pipe_in_the_place_of_a_folder_fails_the_job(aws, name):
    for make in ("place.touch()", "os.mkfifo(place)"):
        script = f"place = base / '{name}'; place.rmdir(); {make}; place.name == 'model' or model()"
        job = aws.job(script)
        assert job["FailureReason"] == f"AlgorithmError: what algo-1 has put at /opt/ml/{name} is no folder"


def test_a_host_that_removes_all_it_was_given_left_no_model(aws):
    # longer than it takes until what the host has written is measured
    reason = aws.job("import shutil; shutil.rmtree(base); time.sleep(2.5)")["FailureReason"]
    assert reason == "AlgorithmError: the training wrote nothing to /opt/ml/model, so there is no model"


def test_what_is_odd_in_a_folder_does_not_hinder_its_measuring(aws):
    script = """
os.mkfifo(base / "pipe"); (base / "to-nothing").symlink_to("nothing"); (base / "loop").symlink_to("loop")
(base / "up").symlink_to(".."); (base / "closed").mkdir(0); (base / os.fsdecode(b"\\xff")).touch()
time.sleep(2.5)
model()
"""
    job = aws.job(script)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]


def test_one_host_that_fails_stops_the_others(aws):
    script = """
if rank == 0:
    forked(); (base / "pid").write_text(str(os.getpid())); time.sleep(300)
while not list(base.parent.glob("*/pid")): time.sleep(0.01)
fail("host two gave up")
"""
    name = aws.start_job(script, hosts=2)
    job = aws.ended_job(name)
    assert "host two gave up" in job["FailureReason"]
    (pid,) = (aws.server_dir / "training-jobs" / name).glob("*/pid")
    assert gone(int(pid.read_text()))


def test_a_stopped_job_gets_sigterm_and_keeps_the_model_it_saved(aws):
    script = """
def stop(*_):
    model("saved in time"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("ready")
time.sleep(300)
"""
    name = aws.start_job(script)
    aws.started(name)
    aws.sagemaker.stop_training_job(TrainingJobName=name)
    job = aws.ended_job(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert members(aws, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.bin": b"saved in time"}
    with pytest.raises(ClientError, match=r"ValidationException.*in status Stopped"):
        aws.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_job_that_ignores_sigterm_is_killed_with_all_it_started(aws):
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    (base / "grandchild").write_text(str(os.getpid()))
    time.sleep(300)
while not (base / "grandchild").exists(): time.sleep(0.01)
say("ready"); time.sleep(300)
"""
    name = aws.start_job(script)
    folder = aws.started(name)
    aws.sagemaker.stop_training_job(TrainingJobName=name)
    job = aws.ended_job(name)
    assert job["TrainingJobStatus"] == "Stopped"
    assert job["FailureReason"] == "AlgorithmError: algo-1 did not end within 1 s of SIGTERM and was killed"
    (pid,) = folder.glob("*/grandchild")
    assert gone(int(pid.read_text()))


def test_a_job_over_its_time_is_stopped(aws):
    job = aws.job("time.sleep(300)", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_job_that_writes_more_than_its_volume_holds_is_stopped(aws):
    script = """
with (base / "code/big").open("wb") as file:
    os.posix_fallocate(file.fileno(), 0, 1100 << 20)
time.sleep(300)
"""
    name = aws.start_job(script)
    job = aws.ended_job(name)
    for big in (aws.server_dir / "training-jobs" / name).rglob("big"):
        big.unlink()
    assert (job["TrainingJobStatus"], job["FailureReason"]) == (
        "Failed",
        "ClientError: no space left on device: algo-1 has written 1.1 GiB to /opt/ml, and VolumeSizeInGB is 1",
    )


def test_the_runtime_is_told_what_the_request_asks_for(aws):
    name = aws.start_job("model()", EnableNetworkIsolation=True)
    aws.ended_job(name)
    (asked,) = (asked for asked in aws.runtime.asked if asked.get("job") == name)
    assert (asked["isolated"], asked["instance_type"], asked["image"]) == (True, "ml.m5.large", IMAGE)


def test_what_the_hosts_had_in_common_is_given_back_however_a_job_ends(aws):
    for script in ("model()", "fail('no')"):
        aws.job(script)
    assert [hosts.closed for hosts in aws.runtime.jobs[-2:]] == [True, True]


def test_sharded_channels_are_disjoint_and_complete(aws):
    keys = [f"shards/{number:02d}/{number}.jpg" for number in range(7)]
    for key in keys:
        aws.s3.put_object(Bucket="bucket", Key=key, Body=b"x")
    script = """
data = base / "input/data/training"
model("\\n".join(sorted(str(p.relative_to(data)) for p in data.rglob("*") if p.is_file())), name=f"{rank}")
"""
    job = aws.job(script, hosts=3, InputDataConfig=[channel("shards", distribution="ShardedByS3Key")])
    shards = [
        content.decode().split("\n") for content in members(aws, job["ModelArtifacts"]["S3ModelArtifacts"]).values()
    ]
    assert sorted(len(shard) for shard in shards) == [2, 2, 3]
    assert sorted(key for shard in shards for key in shard) == [key.removeprefix("shards/") for key in keys]


def test_more_hosts_than_objects_leaves_some_without_data(aws):
    aws.s3.put_object(Bucket="bucket", Key="one/only.jpg", Body=b"x")
    script = "model(str(len(list((base / 'input/data/training').iterdir()))), name=str(rank))"
    job = aws.job(script, hosts=2, InputDataConfig=[channel("one", distribution="ShardedByS3Key")])
    assert members(aws, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"0": b"1", "1": b"0"}


def test_data_that_one_job_deletes_is_there_for_the_next(aws):
    aws.s3.put_object(Bucket="bucket", Key="shared/a.jpg", Body=b"a")
    script = "file = base / 'input/data/training/a.jpg'; model(file.read_text()); file.unlink()"
    for _ in range(2):
        assert aws.job(script, InputDataConfig=[channel("shared")])["TrainingJobStatus"] == "Completed"


def test_a_name_is_used_once(aws):
    name = aws.start_job("model()")
    with pytest.raises(ClientError) as caught:
        aws.sagemaker.create_training_job(TrainingJobName=name, **aws.definition("model()"))
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    assert aws.ended_job(name)["TrainingJobStatus"] == "Completed"


def test_the_folder_of_an_earlier_job_of_the_same_name_is_no_hindrance(aws):
    name = aws.name("job")
    left = aws.server_dir / "training-jobs" / name / "model"
    left.mkdir(parents=True)
    (left / "old.bin").touch()
    aws.sagemaker.create_training_job(TrainingJobName=name, **aws.definition("model()"))
    job = aws.ended_job(name)
    assert members(aws, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.bin": b"weights"}


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"hosts": 0}, "ValidationException", "instanceCount"),
        ({"hosts": 1000}, "ResourceLimitExceeded", "service limit"),
        ({"metrics": [("loss", "(")]}, "ValidationException", "invalid regex"),
        ({"InputDataConfig": [channel("no/such")]}, "ValidationException", "No S3 objects found"),
        ({"InputDataConfig": [channel("model"), channel("model")]}, "ValidationException", "unique"),
        ({"InputDataConfig": [channel("model", name="..")]}, "ValidationException", "unique"),
        ({"OutputDataConfig": {"S3OutputPath": "https://b/out"}}, "ValidationException", "S3"),
        ({"ResourceConfig": {}}, "ValidationException", "InstanceCount"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(aws, changes, code, said):
    before = len(aws.runtime.started)
    with pytest.raises(ClientError, match=said) as caught:
        aws.start_job("model()", **changes)
    assert caught.value.response["Error"]["Code"] == code
    assert len(aws.runtime.started) == before


def test_an_output_that_cannot_be_written_is_the_clients_error(aws):
    job = aws.job("model()", OutputDataConfig={"S3OutputPath": "s3://no-such-bucket/out"})
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Could not write s3://no-such-bucket/out/")


def test_a_regex_whose_group_is_optional_does_not_lose_the_log(aws):
    job = aws.job("say('loss='); say('loss=0.25'); model()", metrics=[("loss", r"loss=([0-9.]+)?")])
    assert [m["Value"] for m in job["FinalMetricDataList"]] == [0.25]


def test_jobs_are_listed_newest_first_filtered_and_in_pages(aws):
    names = [aws.start_job("model()", Tags=[]) for _ in range(3)]
    for name in names:
        aws.ended_job(name)
    stem = names[0].rpartition("-")[0]
    pages = aws.sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains=stem, StatusEquals="Completed", PaginationConfig={"PageSize": 2}
    )
    seen = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
    assert seen[:3] == names[::-1]
    assert len(seen) == len(set(seen))
    answer = aws.sagemaker.list_training_jobs(NameContains=names[0], StatusEquals="Failed")
    assert answer["TrainingJobSummaries"] == []


def test_an_unknown_job_is_not_found(aws):
    for call in (aws.sagemaker.describe_training_job, aws.sagemaker.stop_training_job):
        with pytest.raises(ClientError, match="not found") as caught:
            call(TrainingJobName="nobody")
        assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_tags_are_accepted_listed_added_and_deleted(aws):
    name = aws.start_job("model()", Tags=[{"Key": "team", "Value": "dogs"}])
    arn = aws.ended_job(name)["TrainingJobArn"]
    aws.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "cats"}, {"Key": "cost", "Value": "1"}])
    tags = {tag["Key"]: tag["Value"] for tag in aws.sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags == {"team": "cats", "cost": "1"}
    aws.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    assert aws.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "cost", "Value": "1"}]
    with pytest.raises(ClientError, match="Could not find"):
        aws.sagemaker.list_tags(ResourceArn=arn + "x")


def test_whoever_sees_a_job_failed_sees_why(aws):
    for _ in range(3):
        name = aws.start_job("fail('because')")
        job = wait_for(
            lambda name=name: aws.sagemaker.describe_training_job(TrainingJobName=name),
            lambda job: job["TrainingJobStatus"] != "InProgress",
        )
        assert (job["SecondaryStatus"], "because" in job["FailureReason"]) == ("Failed", True)


def test_no_process_of_an_ended_job_is_left(aws):
    name = aws.start_job("forked(); model()")
    aws.ended_job(name)
    until(lambda: gone(aws.runtime.started[-1].pid))
