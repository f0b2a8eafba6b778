"""kennel.pipeline.policies: every call that is made is allowed, and little else."""

import state_machine

from kennel.pipeline import policies
from kennel.pipeline.resources import Names

NAMES = Names(name="kennel", account="123456789012", region="eu-west-1")
TOPIC, KEY = NAMES.arn("sns", "kennel-failures"), NAMES.arn("kms", "key/1")

REPOSITORIES = {part: [NAMES.arn("ecr", f"repository/kennel-{part}")] for part in ("training", "serving")}

KNOW_NO_RESOURCE = {
    "ecr:GetAuthorizationToken",
    "cloudwatch:PutMetricData",
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
}
IAM_NAMES = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification",
}
"""Calls whose permission has another name."""


def by_role(reads=()):
    return policies.by_role(NAMES, topic_arn=TOPIC, kms_key_arn=KEY, repositories=REPOSITORIES, reads=reads)


def statements():
    return [(role, item) for role, policy in by_role().items() for item in policy["Statement"]]


def test_no_action_is_a_wildcard():
    for role, statement in statements():
        assert not [action for action in statement["Action"] if "*" in action], role


def test_wildcard_resources_stand_only_where_aws_knows_no_narrower_one():
    for role, statement in statements():
        if "*" in statement["Resource"]:
            assert set(statement["Action"]) <= KNOW_NO_RESOURCE, role


def test_resources_of_ours_are_named_after_the_configuration():
    for role, statement in statements():
        for resource in statement["Resource"]:
            if resource.split(":")[2:3] in (["s3"], ["sagemaker"], ["lambda"], ["ecr"]):
                assert "kennel" in resource, (role, resource)


def test_every_call_of_the_state_machine_is_allowed_to_its_role():
    allowed = {action for item in by_role()["states"]["Statement"] for action in item["Action"]}
    for name, task in state_machine.tasks().items():
        service, operation = state_machine.call(task["Resource"])
        needed = {f"{service}:{operation}"}
        if task["Resource"].endswith(".sync"):
            job = operation.removeprefix("Create")
            needed |= {f"sagemaker:Describe{job}", f"sagemaker:Stop{job}", "events:PutRule", "events:PutTargets"}
        assert {IAM_NAMES.get(action, action) for action in needed} <= allowed, name


def test_states_may_pass_the_two_sagemaker_roles_only_and_only_to_sagemaker():
    (passing,) = [item for item in by_role()["states"]["Statement"] if item["Action"] == ["iam:PassRole"]]
    assert passing["Resource"] == [NAMES.role_arn("training"), NAMES.role_arn("serving")]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_function_may_invoke_one_endpoint_read_uploads_and_write_predictions():
    found = by_role()["function"]["Statement"]
    granted = {action: item["Resource"] for item in found for action in item["Action"]}
    assert granted["sagemaker:InvokeEndpoint"] == [NAMES.arn("sagemaker", "endpoint/kennel")]
    assert granted["s3:GetObject"] == [f"arn:aws:s3:::{NAMES.bucket}/uploads/*"]
    assert granted["s3:PutObject"] == [f"arn:aws:s3:::{NAMES.bucket}/predictions/*"]


def test_training_may_read_data_that_lies_in_somebody_else_s_bucket():
    reads = ("s3://my-bucket/dogImages", "s3://whole-bucket/")
    granted = {a: item["Resource"] for item in by_role(reads)["training"]["Statement"] for a in item["Action"]}
    assert "arn:aws:s3:::my-bucket/dogImages*" in granted["s3:GetObject"]
    assert "arn:aws:s3:::whole-bucket/*" in granted["s3:GetObject"]
    assert {"arn:aws:s3:::my-bucket", "arn:aws:s3:::whole-bucket"} < set(granted["s3:ListBucket"])
    assert not any("my-bucket" in resource for resource in granted["s3:PutObject"])


def test_each_role_is_taken_by_one_service():
    for role in by_role():
        (statement,) = policies.trust(role)["Statement"]
        assert statement["Principal"]["Service"].endswith(".amazonaws.com")
        assert statement["Action"] == "sts:AssumeRole"


def test_each_job_s_role_may_pull_its_own_image_and_no_other():
    for part in ("training", "serving"):
        pulling = [item for item in by_role()[part]["Statement"] if "ecr:BatchGetImage" in item["Action"]]
        assert [item["Resource"] for item in pulling] == [REPOSITORIES[part]]


def test_no_role_may_push():
    pushing = {"ecr:PutImage", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"}
    assert not [role for role, item in statements() if pushing & {*item["Action"]}]
