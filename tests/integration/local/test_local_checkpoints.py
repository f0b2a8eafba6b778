"""Checkpoints in S3, and spot jobs that lose their instances: over HTTP, with real processes for hosts."""

import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from kennel import contract, sample
from local_rig import wait_for
from local_roles import JOBS, allow, make_role
from waiting import until

SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600},
}
COUNTING = """
folder = base / "checkpoints"
count = len(list(folder.iterdir())) + 1
if rank == 0:
    (folder / ".part.partial").write_text("half")
    (folder / f"{count}").write_text(f"of attempt {count}")
say(f"ready: attempt {count}")
if count < 3: time.sleep(300)
rank or model(f"after {count} attempts")
"""


REAL = f"""
environment = {contract.TRAINING_IMAGE_ENV} | {{"{contract.BASE_DIR_ENV}": str(base), "OMP_NUM_THREADS": "1"}}
os.execve("{Path(sys.executable).parent}/train", ["train"], {{**os.environ, **environment}})
"""
DOGS = {
    "ChannelName": "training",
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/dogs"}},
}


def config(name):
    return {"S3Uri": f"s3://bucket/checkpoints/{name}", "LocalPath": "/opt/ml/checkpoints"}


def stored(aws, name, *, below="checkpoints"):
    prefix = f"{below}/{name}/"
    found = aws.s3.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])
    return {
        item["Key"].removeprefix(prefix): aws.s3.get_object(Bucket="bucket", Key=item["Key"])["Body"].read()
        for item in found
    }


def training(aws, name, *, attempt, hosts=1):
    """Wait until the job trains in the given attempt, and every host has said so."""

    def starts(job):
        return [each["Status"] for each in job["SecondaryStatusTransitions"]].count("Training")

    wait_for(lambda: aws.sagemaker.describe_training_job(TrainingJobName=name), lambda job: starts(job) == attempt)
    aws.started(name, times=hosts)


def statuses(job):
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_spot_job_that_loses_its_instances_starts_again_from_its_checkpoints(aws, hosts):
    name = aws.name("spot")
    definition = aws.definition(COUNTING, hosts=hosts, CheckpointConfig=config(name), **SPOT)
    aws.sagemaker.create_training_job(TrainingJobName=name, **definition)
    for attempt in (1, 2):
        training(aws, name, attempt=attempt, hosts=hosts)
        aws.server.interrupt(name)
    job = aws.ended_job(name)
    attempt = ["Starting", "Downloading", "Training"]
    assert statuses(job) == [*[*attempt, "Interrupted"] * 2, *attempt, "Uploading", "Completed"]
    assert (job["TrainingJobStatus"], job["EnableManagedSpotTraining"]) == ("Completed", True)
    assert job["CheckpointConfig"] == config(name)
    assert stored(aws, name) == {str(number): f"of attempt {number}".encode() for number in (1, 2, 3)}
    hosts_of = [asked for asked in aws.runtime.asked if asked.get("job") == name]
    assert len(hosts_of) == 3


def test_a_real_training_that_loses_its_instances_leaves_the_bytes_of_one_that_did_not(aws, tmp_path):
    sample.generate(tmp_path, seed=7, classes=2, per_split={"train": 8, "valid": 2, "test": 2})
    for file in tmp_path.rglob("*.jpg"):
        key = f"dogs/{file.relative_to(tmp_path).as_posix()}"
        aws.s3.put_object(Bucket="bucket", Key=key, Body=file.read_bytes())
    names = [aws.name("real") for _ in range(2)]
    for name in names:
        request = aws.definition(REAL, CheckpointConfig=config(name), InputDataConfig=[DOGS], **SPOT)
        small = {"backbone": "mobilenet_v3_small", "image_size": "32", "batch_size": "8", "epochs": "12"}
        aws.sagemaker.create_training_job(TrainingJobName=name, HyperParameters=small, **request)
    folder = aws.server_dir / "training-jobs" / names[0]
    until(lambda: list(folder.glob("*/checkpoints/epoch-0002-*.safetensors")), 90)
    aws.server.interrupt(names[0])
    lost, whole = [aws.ended_job(name, 120) for name in names]
    assert (statuses(lost).count("Interrupted"), statuses(whole).count("Interrupted")) == (1, 0)
    assert "Going on from the checkpoint of epoch" in (folder / "algo-1.log").read_text()
    models = [stored(aws, f"{name}/output", below="out")["model.tar.gz"] for name in names]
    assert models[0] == models[1]


def test_a_spot_job_without_checkpoints_starts_from_nothing(aws):
    script = (
        "say('ready'); (base / 'left').touch(); time.sleep(0.5 if (base.parent.parent / 'again').exists() else 300)"
    )
    name = aws.start_job(script + "; model(str([p.name for p in base.iterdir()]))", **SPOT)
    training(aws, name, attempt=1)
    again = aws.server_dir / "training-jobs/again"
    again.touch()
    aws.server.interrupt(name)
    job = aws.ended_job(name)
    again.unlink()
    assert statuses(job).count("Interrupted") == 1
    assert (job["TrainingJobStatus"], "CheckpointConfig" in job) == ("Completed", False)


def test_only_a_spot_job_that_trains_can_lose_its_instances(aws):
    on_demand = aws.start_job("say('ready'); time.sleep(300)")
    training(aws, on_demand, attempt=1)
    ended = aws.start_job("model()", **SPOT)
    aws.ended_job(ended)
    for name in (on_demand, ended):
        with pytest.raises(Exception, match="has no spot instances to lose"):
            aws.server.interrupt(name)
    aws.sagemaker.stop_training_job(TrainingJobName=on_demand)
    assert aws.ended_job(on_demand)["SecondaryStatus"] == "Stopped"


def test_a_spot_job_that_waits_too_long_is_stopped(aws):
    condition = {"MaxRuntimeInSeconds": 2, "MaxWaitTimeInSeconds": 2}
    name = aws.start_job("say('ready'); time.sleep(300)", **{**SPOT, "StoppingCondition": condition})
    training(aws, name, attempt=1)
    aws.server.interrupt(name)
    job = aws.ended_job(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")


@pytest.mark.parametrize("may_delete", [True, False])
def test_checkpoints_reach_s3_while_the_job_runs_and_go_when_the_job_deletes_them(aws, may_delete):
    script = """
folder = base / "checkpoints"
(folder / "below").mkdir()
(folder / "below/1").write_text("one"); (folder / "2").write_text("two")
say("ready")
while not (base.parent / "deleting").exists(): time.sleep(0.01)
(folder / "2").unlink(); (folder / "below/1").write_text("one again")
model()
"""
    name = aws.name("synced")
    granted = (*JOBS, allow("s3:DeleteObject", f"arn:aws:s3:::bucket/checkpoints/{name}/*"))
    role = make_role(aws.iam, name, *(granted if may_delete else JOBS), trusted=["sagemaker"])
    definition = aws.definition(script, CheckpointConfig=config(name), RoleArn=role)
    aws.sagemaker.create_training_job(TrainingJobName=name, **definition)
    folder = aws.started(name)
    wait_for(lambda: stored(aws, name), {"below/1": b"one", "2": b"two"}.__eq__)
    (folder / "deleting").touch()
    assert aws.ended_job(name)["TrainingJobStatus"] == "Completed"
    assert stored(aws, name) == {"below/1": b"one again"} | ({} if may_delete else {"2": b"two"})


def test_what_a_failed_job_kept_is_there_for_the_next_one_of_the_same_place(aws):
    for place in ("place", "place-of-another-job"):
        aws.s3.put_object(Bucket="bucket", Key=f"checkpoints/{place}/old", Body=place.encode())
    failed = aws.job("(base / 'checkpoints/1').write_text('kept'); fail('so what')", CheckpointConfig=config("place"))
    assert "so what" in failed["FailureReason"]
    script = "model(str(sorted((p.name, p.read_text()) for p in (base / 'checkpoints').iterdir())))"
    job = aws.job(f"{script}; say((base / 'model/model.bin').read_text())", CheckpointConfig=config("place/"))
    log = (aws.server_dir / "training-jobs" / job["TrainingJobName"] / "algo-1.log").read_text()
    assert log == "[('1', 'kept'), ('old', 'place')]\n"


def test_links_in_the_folder_of_checkpoints_are_not_followed(aws, tmp_path):
    (tmp_path / "secret").write_text("of this machine")
    script = f"""
folder = base / "checkpoints"
(folder / "file").symlink_to("{tmp_path}/secret"); (folder / "folder").symlink_to("{tmp_path}")
os.mkfifo(folder / "pipe"); (folder / "good").touch()
model()
"""
    assert aws.job(script, CheckpointConfig=config("links"))["TrainingJobStatus"] == "Completed"
    assert stored(aws, "links") == {"good": b""}
    script = f"(base / 'checkpoints').rmdir(); (base / 'checkpoints').symlink_to('{tmp_path}'); model()"
    assert aws.job(script, CheckpointConfig=config("linked"))["TrainingJobStatus"] == "Completed"
    assert stored(aws, "linked") == {}


def test_a_job_that_throws_its_folder_away_has_its_checkpoints_still(aws):
    aws.s3.put_object(Bucket="bucket", Key="checkpoints/thrown/old", Body=b"")
    script = "import shutil; shutil.rmtree(base / 'checkpoints'); model()"
    assert aws.job(script, CheckpointConfig=config("thrown"))["TrainingJobStatus"] == "Completed"
    assert stored(aws, "thrown") == {"old": b""}


def test_a_job_without_a_checkpoint_config_has_no_folder_for_them(aws):
    script = "model() if not (base / 'checkpoints').exists() else fail('there is one')"
    assert aws.job(script)["TrainingJobStatus"] == "Completed"


def test_a_role_that_may_not_write_checkpoints_fails_its_job(aws):
    denied = {**allow("s3:PutObject", "arn:aws:s3:::bucket/checkpoints/denied/*"), "Effect": "Deny"}
    read_only = make_role(aws.iam, "reader", *JOBS, denied, trusted=["sagemaker"])
    script = "(base / 'checkpoints/1').touch(); model()"
    job = aws.job(script, CheckpointConfig=config("denied"), RoleArn=read_only)
    assert job["FailureReason"].startswith("ClientError: Could not write s3://bucket/checkpoints/denied/1")
    assert "AccessDenied" in job["FailureReason"]
    failed = aws.job(script.replace("model()", "fail('first')"), CheckpointConfig=config("denied"), RoleArn=read_only)
    assert failed["FailureReason"] == "AlgorithmError: first, exit code: 1"


def test_checkpoints_that_s3_does_not_take_fail_the_job(aws):
    lost = {"S3Uri": "s3://no-such-bucket/checkpoints"}
    reason = aws.job("model()", CheckpointConfig=lost)["FailureReason"]
    assert reason.startswith("ClientError: ")
    assert "no-such-bucket" in reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"EnableManagedSpotTraining": True}, "must be present and be greater than or equal"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 2}}, "only supported when"),
        ({"CheckpointConfig": {"S3Uri": "https://bucket/key"}}, "Invalid S3 URI"),
        ({"CheckpointConfig": {"S3Uri": "s3://bucket", "LocalPath": "/tmp/x"}}, "keeps checkpoints at /opt/ml/check"),
    ],
)
def test_what_cannot_work_is_refused(aws, changes, said):
    with pytest.raises(ClientError, match=said) as caught:
        aws.start_job("model()", **changes)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_every_trial_has_checkpoints_of_its_own(aws):
    script = "say('objective=1'); (base / 'checkpoints/mine').write_text(os.environ['TRAINING_JOB_NAME']); model()"
    name = aws.name("tune")
    aws.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name,
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "objective"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]},
        },
        TrainingJobDefinition=aws.definition(
            script, metrics=[("objective", r"objective=(\S+)")], CheckpointConfig=config(name), **SPOT
        ),
    )
    trials = aws.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job
    names = [
        each["TrainingJobName"]
        for each in wait_for(
            lambda: trials(HyperParameterTuningJobName=name)["TrainingJobSummaries"], lambda found: len(found) == 2
        )
    ]
    for trial in names:
        described = aws.ended_job(trial)
        assert described["CheckpointConfig"] == {**config(name), "S3Uri": f"s3://bucket/checkpoints/{name}/{trial}"}
        assert described["EnableManagedSpotTraining"] is True
    assert stored(aws, name) == {f"{trial}/mine": trial.encode() for trial in names}
