"""The state machine's policy follows from its definition, and the template says exactly that."""

import copy
import json
from pathlib import Path

import pytest

from kennel.pipeline import policy, template

ROOT = Path(__file__).parents[3]
DEFINITION = json.loads((ROOT / "statemachine" / "pipeline.asl.json").read_text())
TEMPLATE = template.read((ROOT / "statemachine" / "infrastructure.yaml").read_text())
DERIVED = policy.derived(DEFINITION)


def _written():
    """The template's statements in the form of the derived ones: `!Sub "…"` as its text."""
    (written,) = TEMPLATE.resources["StateMachineRole"].body["Properties"]["Policies"]
    plain = json.loads(json.dumps(written["PolicyDocument"]["Statement"]))
    for statement in plain:
        statement["Resource"] = [template.text(resource) for resource in statement["Resource"]]
    return plain


def _without(name):
    definition = copy.deepcopy(DEFINITION)
    del definition["States"][name]
    return definition


def _with(resource, parameters=None):
    task = {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters or {}}
    return {"States": {"It": task}}


def _actions(statements):
    return {action for statement in statements for action in statement["Action"]}


def test_the_template_says_what_is_derived_nothing_missing_and_nothing_unused():
    assert _written() == DERIVED


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("TuneHyperparameters", "sagemaker:CreateHyperParameterTuningJob"),
        ("TrainModel", "sagemaker:CreateTrainingJob"),
        ("CreateModel", "sagemaker:CreateModel"),
        ("CreateEndpointConfig", "sagemaker:CreateEndpointConfig"),
        ("CreateEndpoint", "sagemaker:CreateEndpoint"),
        ("DeleteEndpoint", "sagemaker:DeleteEndpoint"),
        ("ConfigureFunction", "lambda:UpdateFunctionConfiguration"),
        ("DescribeFunction", "lambda:GetFunctionConfiguration"),
        ("PublishVersion", "lambda:PublishVersion"),
        ("PointAlias", "lambda:UpdateAlias"),
        ("ReserveConcurrency", "lambda:PutFunctionConcurrency"),
        ("ProvisionConcurrency", "lambda:PutProvisionedConcurrencyConfig"),
        ("SubscribeToUploads", "s3:PutBucketNotification"),
        ("SmokeTest", "lambda:InvokeFunction"),
        ("RecordDeployment", "s3:PutObject"),
        ("ReadDeployment", "s3:GetObject"),
        ("Notify", "sns:Publish"),
    ],
)
def test_a_state_that_goes_takes_its_permission_with_it(name, action):
    assert action in _actions(DERIVED) - _actions(policy.derived(_without(name)))


@pytest.mark.parametrize("name", ["UpdateEndpoint", "RestorePreviousEndpoint", "FindEndpoint"])
def test_a_permission_that_another_state_needs_stays(name):
    assert _actions(policy.derived(_without(name))) == _actions(DERIVED)


def test_waiting_for_a_job_needs_to_describe_stop_and_tag_it_and_a_managed_rule():
    waiting = _actions(policy.derived(_with("sagemaker:createTrainingJob.sync")))
    plain = _actions(policy.derived(_with("sagemaker:createTrainingJob")))
    assert waiting - plain == {
        "sagemaker:DescribeTrainingJob",
        "sagemaker:StopTrainingJob",
        "sagemaker:AddTags",
        "sagemaker:ListTags",
        "events:PutRule",
        "events:PutTargets",
        "events:DescribeRule",
    }


def test_a_request_that_carries_a_role_may_pass_that_role_to_sagemaker_only():
    statements = policy.derived(_with("sagemaker:createModel", {"ExecutionRoleArn.$": "$.Model.RoleArn"}))
    (passing,) = [statement for statement in statements if "iam:PassRole" in statement["Action"]]
    assert passing["Resource"] == ["arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${AWS::StackName}-serving"]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_a_request_that_names_a_key_may_use_that_key_for_volumes():
    statements = policy.derived(_with("sagemaker:createEndpointConfig", {"KmsKeyId.$": "$.Network.KmsKeyId"}))
    assert {"kms:CreateGrant", "kms:DescribeKey"} <= _actions(statements)
    (granting,) = [statement for statement in statements if "kms:CreateGrant" in statement["Action"]]
    assert granting["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}


def test_a_role_that_is_not_known_cannot_be_passed():
    with pytest.raises(KeyError):
        policy.derived(_with("sagemaker:createModel", {"ExecutionRoleArn.$": "$.Elsewhere"}))


def test_an_api_that_is_not_known_is_refused():
    with pytest.raises(KeyError):
        policy.derived(_with("aws-sdk:iam:createUser"))


def test_no_action_is_a_wildcard_and_stars_stand_only_where_aws_knows_no_resource():
    assert not [action for action in _actions(DERIVED) if "*" in action]
    starred = {action for statement in DERIVED if "*" in statement["Resource"] for action in statement["Action"]}
    assert {action.partition(":")[0] for action in starred} == {"logs", "xray"}
