"""The requests that the state machine would make, and what is found wrong with them without any AWS."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import configurations
from kennel import config
from kennel.pipeline import document
from kennel.pipeline.plans.config_keys import with_keys
from kennel.pipeline.plans.requests import Request, problems, requests
from kennel.pipeline.resources import imagined

DEFINITION = json.loads((Path(__file__).parents[3] / "statemachine" / "pipeline.asl.json").read_text())
NAME = "kennel-20260101-120000"


def run_input(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    parsed = with_keys(config.parse(configurations.text(changes), where="some.toml"))
    resources = imagined(parsed.name, parsed.region)
    return document.execution_input(
        parsed, resources, execution=NAME, data_uri="s3://bucket/data", pretrained_uri="s3://bucket/weights"
    )


def made(changes: dict[str, Any] | None = None) -> dict[str, Request]:
    return {one.state: one for one in requests(DEFINITION, run_input(changes), execution_name=NAME)}


def found(changes: dict[str, Any] | None = None) -> list[Any]:
    return [problem for request in made(changes).values() for problem in problems(request)]


def small(resource: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    state = {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters, "End": True, **more}
    return {"StartAt": "Only", "States": {"Only": state}}


def of(definition: dict[str, Any], given: dict[str, Any] | None = None) -> tuple[Request, ...]:
    return requests(definition, given or {}, execution_name=NAME)


@pytest.mark.parametrize("file", ["local.toml", "aws.toml"])
def test_nothing_is_known_against_the_requests_of_the_configurations_as_they_are(file):
    parsed = with_keys(config.parse((configurations.ROOT / "config" / file).read_text(), where=file))
    asked = document.execution_input(
        parsed, imagined(parsed.name, parsed.region), execution=NAME, data_uri="s3://b/d", pretrained_uri="s3://b/p"
    )
    listed = requests(DEFINITION, asked, execution_name=NAME)
    assert [problem for request in listed for problem in problems(request)] == []
    assert len(listed) > 10


def test_every_task_is_reached_in_some_mode_and_training_in_none_of_a_rollout():
    rules = [rule for state in DEFINITION["States"].values() for rule in state.get("Choices", ())]
    modes = {rule["StringEquals"] for rule in rules if rule.get("Variable") == "$.Mode"}
    reached = {mode: of(DEFINITION, {**run_input(), "Mode": mode}) for mode in modes}
    tasks = {name for name, state in DEFINITION["States"].items() if state["Type"] == "Task"}
    assert {one.state for listed in reached.values() for one in listed} == tasks
    trains = {"CreateTrainingJob", "CreateHyperParameterTuningJob"}
    assert trains <= {one.operation for one in reached["train"]}
    assert not trains & {one.operation for one in reached["rollout"]}


def test_requests_come_in_the_order_in_which_a_run_that_succeeds_makes_them():
    operations = [one.operation for one in made().values()]
    ordered = ["CreateHyperParameterTuningJob", "CreateTrainingJob", "CreateModel", "CreateEndpointConfig", "Invoke"]
    assert [operation for operation in operations if operation in ordered] == ordered
    assert operations.index("Invoke") < operations.index("DeleteEndpoint")


def test_nothing_is_known_against_the_requests_of_a_rollout():
    parsed = config.parse((configurations.ROOT / "config" / "aws.toml").read_text(), where="aws.toml")
    asked = document.rollout_input(
        parsed, imagined(parsed.name, parsed.region), image="image", model_uri="s3://bucket/model.tar.gz"
    )
    assert [problem for request in of(DEFINITION, asked) for problem in problems(request)] == []


def test_a_choice_that_the_input_decides_has_one_outcome():
    provisions = "PutProvisionedConcurrencyConfig"
    assert provisions in {one.operation for one in made().values()}
    none = made({"function.provisioned_concurrency": 0})
    assert provisions not in {one.operation for one in none.values()}


def test_values_arrive_in_the_requests_and_those_of_results_are_examples_of_the_right_kind():
    job = next(one for one in made().values() if one.operation == "CreateTrainingJob")
    assert job.parameters["ResourceConfig"]["InstanceType"] == "ml.m5.large"
    assert job.parameters["TrainingJobName"].startswith(NAME)
    model = next(one for one in made().values() if one.operation == "CreateModel")
    assert model.parameters["PrimaryContainer"]["ModelDataUrl"].startswith("s3://")


@pytest.mark.parametrize("key", ["tuning.instance_type", "training.instance_type", "endpoint.instance_type"])
def test_a_wrong_instance_type_is_found_with_its_key_and_types_like_it(key):
    problem, *others = found({key: "ml.m5.lrge"})
    assert others == []
    assert problem.key == key
    assert "'ml.m5.lrge'" in problem.what
    assert "ml.m5.large" in problem.hint
    assert problem.path.endswith("nstanceType")


def test_a_type_that_only_endpoints_have_is_refused_for_training():
    (problem,) = found({"training.instance_type": "ml.c5.large"})
    assert problem.state == "TrainModel"
    assert "ml.c5.xlarge" in problem.hint


def test_a_value_above_its_bound_is_found_with_its_key_wherever_it_ends_up():
    listed = found({"training.hyperparameters.backbone": "x" * 2501})
    assert {problem.key for problem in listed} == {"training.hyperparameters.backbone"}
    assert {problem.state for problem in listed} == {"TuneHyperparameters", "TrainModel"}
    assert "less than or equal to 2500" in listed[0].what


def test_a_misspelt_member_of_the_definition_is_found():
    definition = copy.deepcopy(DEFINITION)
    definition["States"]["CreateModel"]["Parameters"]["ModelNmae"] = "a"
    listed = [p for one in of(definition, run_input()) for p in problems(one)]
    assert [problem.state for problem in listed] == ["CreateModel"]
    assert "Unknown parameter 'modelNmae'" in listed[0].what


def test_a_path_that_leads_nowhere_is_found_in_parameters_and_in_selectors():
    (request,) = of(
        small(
            "sagemaker:createTrainingJob.sync",
            {"TrainingJobName.$": "$.Nothing"},
            ResultSelector={"A.$": "$.ModelArtifact.S3"},
        )
    )
    assert request.unresolved == ("$.Nothing", "$.ModelArtifact.S3")
    assert {problem.path for problem in problems(request)} >= {"$.Nothing", "$.ModelArtifact.S3"}


def test_an_operation_that_aws_does_not_have_is_found():
    (request,) = of(small("aws-sdk:lambda:publishVersions", {}))
    (problem,) = problems(request)
    assert "PublishVersions" in problem.what


def test_the_answer_of_a_function_may_have_any_members_and_its_request_is_sent_as_text():
    selector = {"Status.$": "$.Payload.statusCode", "Body.$": "States.StringToJson($.Payload.body)"}
    definition = small("lambda:invoke", {"FunctionName": "a", "Payload": {"example": True}}, ResultSelector=selector)
    (request,) = of(definition)
    assert problems(request) == ()
    assert json.loads(request.parameters["Payload"]) == {"example": True}


def test_a_number_where_text_is_wanted_is_found_though_it_is_an_example():
    definition = small(
        "sagemaker:createTrainingJob.sync",
        {},
        Next="Then",
        ResultPath="$.Job",
        ResultSelector={"S.$": "$.CreationTime"},
    )
    del definition["States"]["Only"]["End"]
    wrong = {"FunctionName": "a", "ReservedConcurrentExecutions.$": "$.Job.S"}
    definition["States"]["Then"] = small("aws-sdk:lambda:putFunctionConcurrency", wrong)["States"]["Only"]
    (problem,) = problems(of(definition)[1])
    assert "Member must be a integer" in problem.what
