"""What Step Functions, Lambda, S3 and SageMaker ask of the roles and policies that requests name."""

import json

import pytest
from fake_facts import ACCOUNT, KEY, REGION, FakeFacts

from kennel.local.iam import containers
from kennel.local.iam.access import Access
from kennel.local.iam.evaluation import Policy
from kennel.local.iam.roles import Denial, Roles
from kennel.local.iam.service_roles import demand
from kennel.local.iam.sessions import Sessions
from kennel.local.wire import ServiceError

ROLE = f"arn:aws:iam::{ACCOUNT}:role/it"
SYNC = {"Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync"}
DEFINITION = json.dumps({"States": {"A": {"Branches": [{"States": {"B": SYNC}}]}}})
RULE = "StepFunctionsGetEventsForSageMakerTrainingJobsRule"


def policy(*statements):
    return Policy(name="p", document={"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions, resource="*"):
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def account(*actions, service="states", resource="*", condition=None, **facts):
    trusting = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = policy(trusting | ({"Condition": condition} if condition else {}))
    granted = [policy(allow(*actions, resource=resource))] if actions else []
    return roles(FakeFacts(policies={ROLE: granted}, trusts={ROLE: trust}, **facts))


def roles(facts):
    return Roles(
        facts=facts,
        sessions=Sessions(lambda count: bytes(range(count))),
        account=ACCOUNT,
        region=REGION,
        registry="127.0.0.1:5000",
        connect=lambda service, session: (service, session),
    )


def refusal(account, service, operation, **parameters):
    with pytest.raises(ServiceError) as caught:
        demand(account.call(service, operation, **parameters), account)
    return caught.value.code, caught.value.message


def machine(**more):
    return {"name": "m", "roleArn": ROLE, "definition": DEFINITION, **more}


def test_a_state_machine_needs_a_role_that_step_functions_may_take():
    code, message = refusal(account("*", service="lambda"), "stepfunctions", "CreateStateMachine", **machine())
    assert (code, "authorized to assume the provided role" in message) == ("AccessDeniedException", True)


def test_a_trust_policy_may_ask_for_the_account_and_the_state_machine():
    good = {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": "arn:aws:states:*:*:stateMachine:m"},
    }
    for condition, enough in ((good, True), ({"StringEquals": {"aws:SourceAccount": "210987654321"}}, False)):
        arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:m"
        assert account(condition=condition).trusted(ROLE, "states.amazonaws.com", source_arn=arn) is enough


def test_a_trust_policy_that_cannot_be_evaluated_is_refused_with_the_reason():
    odd = account(condition={"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}})
    assert refusal(odd, "stepfunctions", "CreateStateMachine", **machine())[0] == "MalformedPolicyDocument"


@pytest.mark.parametrize("missing", ["PutTargets", "PutRule", "DescribeRule"])
def test_jobs_that_are_waited_for_need_the_managed_rule(missing):
    actions = {"PutTargets", "PutRule", "DescribeRule"}
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{RULE}"
    enough = account(*(f"events:{action}" for action in actions), resource=rule)
    demand(enough.call("stepfunctions", "CreateStateMachine", **machine()), enough)
    too_little = account(*(f"events:{action}" for action in actions - {missing}), resource=rule)
    code, message = refusal(too_little, "stepfunctions", "CreateStateMachine", **machine())
    assert code == "AccessDeniedException"
    assert message.startswith(f"'{ROLE}' is not authorized to create managed-rule.")
    assert missing in message


def test_an_update_is_judged_with_what_stays_as_it_is():
    arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:m"
    kept = account(state_machines={arn: {"roleArn": ROLE, "definition": DEFINITION}})
    refused = refusal(kept, "stepfunctions", "UpdateStateMachine", stateMachineArn=arn, tracingConfiguration={})
    assert "managed-rule" in refused[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"loggingConfiguration": {"level": "ALL"}}, "not authorized to access the Log Destination"),
        ({"tracingConfiguration": {"enabled": True}}, "X-Ray"),
    ],
)
def test_logging_and_tracing_need_their_permissions(more, words):
    code, message = refusal(account("events:*"), "stepfunctions", "CreateStateMachine", **machine(**more))
    assert (code, words in message) == ("AccessDeniedException", True)
    enough = account("events:*", "logs:*", "xray:*")
    demand(enough.call("stepfunctions", "CreateStateMachine", **machine(**more)), enough)
    off = account("events:*")
    demand(off.call("stepfunctions", "CreateStateMachine", **machine(loggingConfiguration={"level": "OFF"})), off)


def test_a_function_needs_a_role_that_lambda_may_take():
    code, message = refusal(account("*"), "lambda", "CreateFunction", FunctionName="f", Role=ROLE)
    assert (code, message) == (
        "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"TracingConfig": {"Mode": "Active"}}, "PutTraceSegments on XRAY"),
        ({"VpcConfig": {"SubnetIds": ["s"], "SecurityGroupIds": ["g"]}}, "CreateNetworkInterface on EC2"),
        ({"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:x:1:q"}}, "SendMessage on SQS"),
        ({"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:x:1:t"}}}, "Publish on SNS"),
    ],
)
def test_a_function_needs_what_lambda_does_with_its_role(more, words):
    given = {"FunctionName": "f", "Role": ROLE, **more}
    code, message = refusal(account(service="lambda"), "lambda", "CreateFunction", **given)
    assert code == "InvalidParameterValueException"
    assert message == f"The provided execution role does not have permissions to call {words}"
    enough = account("xray:*", "ec2:*", "sqs:*", "sns:*", service="lambda")
    demand(enough.call("lambda", "CreateFunction", **given), enough)


def test_a_functions_changed_setting_is_judged_with_its_role():
    known = account(service="lambda", functions={"f": {"Role": ROLE}})
    destination = {"OnFailure": {"Destination": "arn:aws:sqs:x:1:q"}}
    given = {"FunctionName": "f", "DestinationConfig": destination}
    assert "SendMessage" in refusal(known, "lambda", "PutFunctionEventInvokeConfig", **given)[1]


@pytest.mark.parametrize(
    ("source", "who", "allowed"),
    [("arn:aws:s3:::b", ACCOUNT, True), ("arn:aws:s3:::other", ACCOUNT, False), ("arn:aws:s3:::b", "2", False)],
)
def test_s3_notifies_a_function_whose_policy_lets_the_bucket(source, who, allowed):
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f:live"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": function,
        "Condition": {"ArnLike": {"AWS:SourceArn": source}, "StringEquals": {"AWS:SourceAccount": who}},
    }
    given = {
        "Bucket": "b",
        "NotificationConfiguration": {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": function}]},
    }
    bucket = account(resource_policies={function: [policy(statement)]})
    if allowed:
        demand(bucket.call("s3", "PutBucketNotificationConfiguration", **given), bucket)
    else:
        code, message = refusal(bucket, "s3", "PutBucketNotificationConfiguration", **given)
        assert (code, message) == (
            "InvalidArgument", "Unable to validate the following destination configurations",
        )  # fmt: skip


JOB = {
    "AlgorithmSpecification": {"TrainingImage": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/images/training:1"},
    "ResourceConfig": {"VolumeKmsKeyId": KEY},
    "VpcConfig": {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
}


def test_a_training_job_needs_its_network_its_image_its_log_and_its_volumes_key():
    found = containers.of_training_job(account(), JOB, group="/g")
    asked = {(access.action, access.resource.rpartition(":")[2]) for access in found}
    assert {resource for action, resource in asked if action == "ec2:CreateNetworkInterface"} == {
        "network-interface/*", "subnet/subnet-1", "subnet/subnet-2", "security-group/sg-1",
    }  # fmt: skip
    assert {action for action, resource in asked if resource == "repository/images/training"} == {
        "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
    }  # fmt: skip
    assert {action for action, _ in asked} >= {
        "ec2:DescribeDhcpOptions", "ec2:DescribeVpcs", "ec2:DeleteNetworkInterfacePermission", "logs:PutLogEvents",
        "logs:CreateLogGroup", "ecr:GetAuthorizationToken", "cloudwatch:PutMetricData", "kms:CreateGrant",
    }  # fmt: skip


def test_a_log_group_that_exists_need_not_be_made():
    found = containers.of_training_job(account(groups=("/g",)), JOB, group="/g")
    assert "logs:CreateLogGroup" not in {access.action for access in found}


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("kennel-training", "us-east-1:123456789012:repository/kennel-training"),
        ("127.0.0.1:5000/kennel-training:1", "us-east-1:123456789012:repository/kennel-training"),
        ("210987654321.dkr.ecr.eu-west-1.amazonaws.com/a/b:1", "eu-west-1:210987654321:repository/a/b"),
        ("docker.io/library/python:3", ""),
    ],
)
def test_an_image_of_ecr_is_in_a_repository(image, repository):
    found = containers.repository_arn(account().call("ecr", "x"), image, "127.0.0.1:5000")
    assert found == (f"arn:aws:ecr:{repository}" if repository else "")


def test_a_role_acts_only_for_a_service_that_may_take_it_and_each_decision_is_kept():
    states = account("s3:GetObject")
    with pytest.raises(ServiceError, match=r"Could not assume role .*role/it.*'sagemaker\.amazonaws\.com'"):
        states.assume(ROLE, service="sagemaker.amazonaws.com", name="x")
    acting = states.assume(ROLE, service="states.amazonaws.com", name="x")
    assert states.find(acting.session.credentials.access_key_id) is acting.session
    assert states.find("local") is None
    acting.may_read("b", ["k"])
    with pytest.raises(Denial) as caught:
        acting.check([Access(action="s3:PutObject", resource="arn:aws:s3:::b/k")])
    assert str(caught.value) == (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/it/x is not authorized to perform: s3:PutObject on resource: "
        "arn:aws:s3:::b/k because no identity-based policy allows the s3:PutObject action"
    )
    assert [(decision.action, decision.allowed, decision.statement) for decision in states.decisions()] == [
        ("s3:GetObject", True, "p[0]"), ("s3:PutObject", False, ""),
    ]  # fmt: skip


def test_a_policy_that_cannot_be_evaluated_denies_and_says_so():
    odd = allow("*") | {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}
    unknown = roles(FakeFacts(policies={ROLE: [policy(odd)]}))
    with pytest.raises(Denial, match="IpAddress is not evaluated here"):
        unknown.check(ROLE, [Access(action="s3:GetObject", resource="arn:aws:s3:::b/k")], who="me")
