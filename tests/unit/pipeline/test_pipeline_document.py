"""kennel.pipeline.document: the execution's input, and that AWS would take every request made of it."""

import json
from pathlib import Path
from typing import Any

import pytest

import configurations
from kennel import config
from kennel.constraints import violations
from kennel.pipeline import asl, document
from kennel.pipeline.plans.expressions import Scope, resolve
from kennel.pipeline.resources import imagined

DEFINITION = json.loads((Path(__file__).parents[3] / "statemachine" / "pipeline.asl.json").read_text())
TASKS = asl.tasks(DEFINITION)
GOLDENS = Path(__file__).parents[2] / "goldens"
CONTEXT = {"Execution": {"Name": "golden-20260101-120000"}, "State": {"RetryCount": 0}}
LATER: dict[str, Any] = {
    "TuningJob": {"BestTrainingJob": {"TunedHyperParameters": {"learning_rate": '"0.01"', "batch_size": '"32"'}}},
    "PreviousEndpoint": {"EndpointConfigName": "golden-20251231-120000"},
    "FunctionVersion": {"Version": "7"},
    "Deployment": {"Name": "golden-20260101-120000"},
    "Pushed": {"Bucket": "bucket"},
    "Failure": {"Error": "States.TaskFailed", "Cause": "why"},
}
"""What states add to the input on the way."""


def missing(path: str) -> Any:
    raise KeyError(path)


def refused(task: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What AWS would refuse of the request that a Task makes of this input."""
    request = resolve(task["Parameters"], Scope(data={**found, **LATER}, context=CONTEXT, absent=missing))
    call = asl.call(task["Resource"])
    assert call is not None
    model = asl.service_model(call.service)
    assert model is not None
    if isinstance(request.get("Payload"), dict):
        request["Payload"] = json.dumps(request["Payload"])  # the integration makes text of it
    return violations(model.operation_model(call.operation).input_shape, request)


def built(text: str, *, pretrained_uri: str = "") -> dict[str, Any]:
    parsed = config.parse(text, where="some.toml")
    return document.execution_input(
        parsed,
        imagined(parsed.name, parsed.region),
        execution="golden-20260101-120000",
        data_uri="s3://bucket/data/1",
        pretrained_uri=pretrained_uri,
    )


def test_input_is_the_golden_one(request):
    found = built((GOLDENS / "config.toml").read_text(), pretrained_uri="s3://bucket/pretrained/1")
    golden = GOLDENS / "input.json"
    if request.config.getoption("--update-goldens"):
        golden.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(golden.read_text()), "if that is meant: pytest --update-goldens tests/unit/pipeline"


def rolled_out(text: str) -> dict[str, Any]:
    parsed = config.parse(text, where="some.toml")
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/kennel-serving@sha256:{'0' * 64}"
    model = "s3://golden-123456789012-us-east-1/models/given/1/model.tar.gz"
    return document.rollout_input(parsed, imagined(parsed.name, parsed.region), image=image, model_uri=model)


def test_input_of_a_rollout_is_the_golden_one(request):
    found = rolled_out((GOLDENS / "config.toml").read_text())
    golden = GOLDENS / "rollout-input.json"
    if request.config.getoption("--update-goldens"):
        golden.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(golden.read_text()), "if that is meant: pytest --update-goldens tests/unit/pipeline"


def test_input_of_a_rollout_is_that_of_a_run_without_training_and_with_a_model():
    text = configurations.text()
    run, rollout = built(text), rolled_out(text)
    assert run.keys() - rollout.keys() == {"Tuning", "Training", "Quality"}
    assert {key for key in rollout if rollout[key] != run[key]} == {"Mode", "Model"}
    assert rollout["Model"].keys() - run["Model"].keys() == {"ModelDataUrl"}


def test_aws_would_take_the_requests_of_a_rollout():
    found = rolled_out((configurations.ROOT / "config" / "aws.toml").read_text())
    for name in TASKS.keys() - {"TuneHyperparameters", "TrainModel"}:
        assert refused(TASKS[name], found) == [], name


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("file", ["local.toml", "aws.toml"])
def test_aws_would_take_the_request_of_every_task(file, name):
    found = built((configurations.ROOT / "config" / file).read_text(), pretrained_uri="s3://bucket/pretrained/1")
    found["Model"]["ModelDataUrl"] = "s3://bucket/models/x/output/model.tar.gz"
    assert refused(TASKS[name], found) == []


def test_tuned_hyperparameters_are_not_static_ones_too():
    found = built(configurations.text({"training.hyperparameters.batch_size": "16"}))
    assert "batch_size" not in found["Tuning"]["HyperParameters"]
    assert found["Training"]["HyperParameters"]["batch_size"] == "16"


def test_ranges_go_under_their_kind_as_text():
    changes = {"tuning.ranges.warm": {"type": "integer", "min": 2, "max": 5}}
    ranges = built(configurations.text(changes))["Tuning"]["Config"]["ParameterRanges"]
    assert ranges["IntegerParameterRanges"] == [
        {"Name": "warm", "MinValue": "2", "MaxValue": "5", "ScalingType": "Auto"}
    ]
    assert [item["Name"] for item in ranges["ContinuousParameterRanges"]] == ["learning_rate"]
    assert [item["Name"] for item in ranges["CategoricalParameterRanges"]] == ["batch_size"]


def test_there_is_a_pretrained_channel_only_when_there_are_weights():
    text = configurations.text()
    assert [channel["ChannelName"] for channel in built(text)["Training"]["InputDataConfig"]] == ["training"]
    with_weights = built(text, pretrained_uri="s3://bucket/pretrained/1")["Training"]["InputDataConfig"]
    assert [channel["ChannelName"] for channel in with_weights] == ["training", "pretrained"]


def test_every_path_that_the_definition_reads_is_in_the_input():
    """A key of the input that the definition names, and that is missing, would fail an execution half-way."""
    found = built(configurations.text())
    for name in ("Tuning", "Training", "Quality", "Network", "Model", "Endpoint", "Scaling", "Function", "Uploads"):
        assert found[name]
        assert f"$.{name}." in json.dumps(DEFINITION)


def test_volume_has_the_stack_s_key_unless_the_hardware_encrypts_it():
    text = configurations.text({"tuning.instance_type": "ml.g4dn.xlarge", "training.instance_type": "ml.p3.2xlarge"})
    found = built(text)
    assert found["Tuning"]["VolumeEncryption"] == {}, "SageMaker refuses a key for disks that it has encrypted"
    assert found["Training"]["VolumeEncryption"] == {"VolumeKmsKeyId": found["Network"]["KmsKeyId"]}


def test_spot_training_says_how_long_it_may_wait_and_other_training_does_not():
    spot = built(configurations.text({"training.spot": True, "training.max_wait_seconds": 5000}))["Training"]
    assert (spot["Spot"], spot["StoppingCondition"]["MaxWaitTimeInSeconds"]) == (True, 5000)
    plain = built(configurations.text())["Training"]
    assert plain["Spot"] is False
    assert plain["StoppingCondition"].keys() == {"MaxRuntimeInSeconds"}


def test_a_deployment_rolls_back_on_the_alarms_of_the_stack():
    rollback = built(configurations.text())["Endpoint"]["DeploymentConfig"]["AutoRollbackConfiguration"]
    assert [alarm["AlarmName"] for alarm in rollback["Alarms"]] == ["kennel-endpoint-5xx", "kennel-endpoint-latency"]
