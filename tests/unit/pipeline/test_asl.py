"""kennel.pipeline.asl: what a definition's tasks call, and what comes after what."""

import pytest

from kennel.pipeline import asl

DEFINITION = {
    "StartAt": "A",
    "States": {
        "A": {"Type": "Choice", "Choices": [{"Next": "B"}], "Default": "C"},
        "B": {"Type": "Task", "Resource": "arn:aws:states:::sns:publish", "Catch": [{"Next": "Gone"}], "Next": "A"},
        "C": {"Type": "Succeed"},
        "D": {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:sns:publish", "Next": "C"},
    },
}


@pytest.mark.parametrize(
    ("resource", "service", "operation", "optimized", "sync"),
    [
        ("arn:aws:states:::sns:publish", "sns", "Publish", True, False),
        ("arn:aws:states:::sagemaker:createTrainingJob.sync", "sagemaker", "CreateTrainingJob", True, True),
        ("arn:aws:states:::aws-sdk:s3:getObject", "s3", "GetObject", False, False),
        (
            "arn:aws:states:::aws-sdk:applicationautoscaling:putScalingPolicy",
            "application-autoscaling",
            "PutScalingPolicy",
            False,
            False,
        ),
    ],
)
def test_call_is_in_the_names_of_botocore(resource, service, operation, optimized, sync):
    assert asl.call(resource) == asl.Call(service=service, operation=operation, optimized=optimized, sync=sync)
    assert operation in asl.service_model(service).operation_names


@pytest.mark.parametrize("resource", ["", "arn:aws:lambda:us-east-1:1:function:f", "arn:aws:states:::sns:publish.sink"])
def test_anything_else_is_no_call(resource):
    assert asl.call(resource) is None


def test_tasks_are_found_by_what_they_call():
    assert [name for name, _ in asl.calls(DEFINITION, "Publish")] == ["B", "D"]
    assert list(asl.calls(DEFINITION, "Invoke")) == []


def test_states_are_reached_by_next_default_choice_and_catch():
    assert list(asl.following(DEFINITION["States"]["B"])) == ["A", "Gone"]
    assert asl.reached(DEFINITION, "A") == {"A", "B", "C"}
    assert asl.reached(DEFINITION, "Gone") == set()


def test_parameter_is_a_literal_or_a_path():
    assert asl.parameter({"A": 1}, "A") == 1
    assert asl.parameter({"A.$": "$.A"}, "A") == "$.A"
    assert asl.parameter({}, "A") is None


def test_service_that_aws_does_not_have_has_no_model():
    assert asl.service_model("nothing") is None
