"""The whole pipeline, as a user runs it: one command, then the plain AWS CLI against what it left up."""

import hashlib
import json
import time
import urllib.request

import pytest

import pipeline_runs
from kennel import contract
from pipeline_runs import ROOT

NAME = "kennel"


def test_result_is_kept_as_it_is_printed(kept):
    assert json.loads((kept.folder / "result.json").read_text()) == kept.result


def test_result_says_what_was_done(kept):
    result = kept.result
    definition = (ROOT / "statemachine" / "pipeline.asl.json").read_bytes()
    assert result["status"] == "SUCCEEDED"
    assert result["definition_sha256"] == hashlib.sha256(definition).hexdigest()
    assert result["hosts"] == 2
    assert result["endpoint"] == NAME
    assert result["metrics"].keys() == set(contract.METRICS)
    assert [trial["status"] for trial in result["trials"]] == ["Completed", "Completed"]
    for trial in result["trials"]:
        assert trial["name"].startswith(result["execution"])
        assert set(trial["hyperparameters"]) == {"learning_rate", "batch_size"}
        assert trial["objective"] > 0


def test_result_holds_every_state_with_its_times(kept):
    names = [state["name"] for state in kept.result["states"]]
    for name in ("TuneHyperparameters", "TrainModel", "CreateEndpoint", "PutScalingPolicy", "SmokeTest", "Succeeded"):
        assert name in names
    assert "UpdateEndpoint" not in names
    assert all(state["started"] <= state["ended"] for state in kept.result["states"])
    assert {state["name"] for state in kept.result["states"] if state["status"] != "succeeded"} == {"FindEndpoint"}


def test_prediction_is_ranked_and_sums_to_one(kept):
    probabilities = [item["probability"] for item in kept.result["prediction"]]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)


def test_final_training_takes_the_best_trial_s_hyperparameters(kept):
    best = min(kept.result["trials"], key=lambda trial: trial["objective"])
    for name, value in best["hyperparameters"].items():
        assert kept.result["hyperparameters"][name] == value


def test_model_and_a_log_per_host_are_kept(kept):
    assert (kept.folder / "model.tar.gz").stat().st_size > 1000
    jobs = [trial["name"] for trial in kept.result["trials"]]
    wanted = {f"{job}.algo-1.log" for job in jobs} | {f"{kept.result['training_job']}.algo-{n}.log" for n in (1, 2)}
    assert {log.name for log in (kept.folder / "logs").iterdir()} == wanted
    assert contract.METRIC_PREFIX in (kept.folder / "logs" / f"{kept.result['training_job']}.algo-1.log").read_text()


def test_lines_say_what_happens_without_a_terminal_s_codes(kept):
    assert "\x1b" not in kept.said
    for words in ("TuneHyperparameters", "trial 1  started", "learning_rate=", "epoch  2", "final", "✓ SmokeTest"):
        assert words in kept.said
    assert "WaitForEndpoint" in kept.said
    assert f"stays up at {kept.endpoint_url}" in kept.said


def test_aws_cli_lists_the_execution_and_its_history(kept):
    machine = f"arn:aws:states:us-east-1:123456789012:stateMachine:{NAME}-pipeline"
    executions = kept.aws("stepfunctions", "list-executions", "--state-machine-arn", machine)["executions"]
    execution = next(item for item in executions if item["name"] == kept.result["execution"])
    assert execution["status"] == "SUCCEEDED"
    history = kept.aws("stepfunctions", "get-execution-history", "--execution-arn", execution["executionArn"])
    entered = [event["stateEnteredEventDetails"]["name"] for event in history["events"] if "Entered" in event["type"]]
    assert entered == [state["name"] for state in kept.result["states"]]


def test_aws_cli_describes_the_jobs(kept):
    tuning = kept.aws(
        "sagemaker", "describe-hyper-parameter-tuning-job",
        "--hyper-parameter-tuning-job-name", f"{kept.result['execution']}-t0",
    )  # fmt: skip
    assert tuning["HyperParameterTuningJobStatus"] == "Completed"
    assert tuning["TrainingJobStatusCounters"]["Completed"] == 2
    best = min(kept.result["trials"], key=lambda trial: trial["objective"])
    assert tuning["BestTrainingJob"]["TrainingJobName"] == best["name"]
    assert tuning["BestTrainingJob"]["TunedHyperParameters"] == best["hyperparameters"]
    job = kept.aws("sagemaker", "describe-training-job", "--training-job-name", kept.result["training_job"])
    assert job["TrainingJobStatus"] == "Completed"
    assert job["ResourceConfig"]["InstanceCount"] == 2


def test_aws_cli_describes_the_endpoint_and_its_scaling(kept):
    endpoint = kept.aws("sagemaker", "describe-endpoint", "--endpoint-name", NAME)
    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    policies = kept.aws(
        "application-autoscaling", "describe-scaling-policies", "--service-namespace", "sagemaker"
    )["ScalingPolicies"]  # fmt: skip
    assert [policy["PolicyName"] for policy in policies] == ["SageMakerEndpointInvocationScalingPolicy"]


def test_endpoint_its_own_port_and_the_function_give_one_answer(kept, tmp_path):
    out = tmp_path / "answer.json"
    kept.aws(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", NAME, "--content-type", "image/jpeg",
        "--body", f"fileb://{kept.image}", str(out),
    )  # fmt: skip
    answer = json.loads(out.read_text())
    assert len(answer["predictions"]) == 3
    with urllib.request.urlopen(f"{kept.endpoint_url}/_kennel", timeout=10) as response:
        (address,) = json.loads(response.read())["endpoints"][NAME]
    request = urllib.request.Request(
        f"{address}/invocations", data=kept.image.read_bytes(), headers={"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.loads(response.read()) == answer
    kept.aws("s3", "cp", str(kept.image), f"s3://{kept.result['bucket']}/uploads/direct.jpg")
    for qualifier in ((), ("--qualifier", "live")):
        kept.aws(
            "lambda", "invoke", "--function-name", f"{NAME}-classify", *qualifier,
            "--payload", json.dumps({"url": "uploads/direct.jpg"}), str(out),
        )  # fmt: skip
        reply = json.loads(out.read_text())
        assert reply["statusCode"] == 200
        assert json.loads(reply["body"])["predictions"] == answer["predictions"]


def test_image_put_under_uploads_gets_a_prediction_object(kept, tmp_path):
    bucket, key, out = kept.result["bucket"], "a spaniel + friend.jpg", tmp_path / "prediction.json"
    kept.aws("s3", "cp", str(kept.image), f"s3://{bucket}/uploads/{key}")
    deadline = time.monotonic() + 30
    while key not in str(kept.aws("s3", "ls", f"s3://{bucket}/predictions/")):
        assert time.monotonic() < deadline, "no prediction object appeared"
        time.sleep(0.2)
    kept.aws("s3", "cp", f"s3://{bucket}/predictions/{key}.json", str(out))
    assert len(json.loads(out.read_text())["predictions"]) == 3


def test_status_says_what_is_up_and_what_ran_last(kept):
    code, out, _ = pipeline_runs.run("status", "--config", kept.config, home=kept.home)
    assert code == 0
    assert kept.endpoint_url in out
    assert f"{kept.result['execution']}  SUCCEEDED" in out
    assert "endpoint kennel  InService" in out
    code, out, _ = pipeline_runs.run("status", "--config", kept.config, "--json", home=kept.home)
    assert json.loads(out)["last_result"] == kept.result


def test_second_run_updates_the_endpoint_and_survives_a_trial_that_crashes(kept, small_data, tmp_path):
    config = pipeline_runs.configuration(
        tmp_path / "again.toml",
        data=small_data,
        changes={
            "tuning.strategy": "Random",
            "seed": 1,  # with which the search takes one of each
            "tuning.ranges.backbone": {"type": "categorical", "values": ["mobilenet_v3_small", "no-such-network"]},
            "training.instance_count": 1,
            "training.hyperparameters.epochs": "1",
        },
    )
    earlier = (kept.folder / "result.json").read_bytes()
    code, out, err = pipeline_runs.run("run", "--config", config, home=kept.home)
    assert code == 0, out + err
    assert f"Using the local AWS that is up at {kept.endpoint_url}" in out
    (folder,) = {path.parent for path in kept.home.glob("runs/*/result.json")} - {kept.folder}
    result = json.loads((folder / "result.json").read_text())
    statuses = {trial["hyperparameters"]["backbone"].strip('"'): trial["status"] for trial in result["trials"]}
    assert statuses == {"mobilenet_v3_small": "Completed", "no-such-network": "Failed"}
    crashed = next(trial for trial in result["trials"] if trial["status"] == "Failed")
    assert "no-such-network" in crashed["reason"]
    assert crashed["objective"] is None
    assert "no-such-network" in out
    names = [state["name"] for state in result["states"]]
    assert "UpdateEndpoint" in names
    assert "CreateEndpoint" not in names
    endpoint = kept.aws("sagemaker", "describe-endpoint", "--endpoint-name", NAME)
    assert endpoint["EndpointConfigName"] == result["execution"]
    assert (kept.folder / "result.json").read_bytes() == earlier
    assert all(len(line) <= 80 for line in out.splitlines() if "│" in line and "acc" in line)
