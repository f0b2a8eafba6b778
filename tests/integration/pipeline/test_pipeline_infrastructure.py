"""The stack is made in two steps, found as it is, changed where it differs, and taken down; by CloudFormation."""

import dataclasses
import itertools
import json
from pathlib import Path

import pytest

import configurations
import local_stack
import stack_readers
from kennel import config as configuration
from kennel.errors import PipelineFailed
from kennel.pipeline import infrastructure, policy, resources, teardown, template
from kennel.pipeline.stack import Stack

ROOT = Path(__file__).parents[3]
SOURCE = infrastructure.source(ROOT)
IMAGES = ("kennel-training", "kennel-serving")
NUMBERS = itertools.count(1)


def config(name, **changes):
    images = {"images.training": f"{name}-training", "images.serving": f"{name}-serving"}
    text = configurations.text({"name": name, "region": "eu-west-1", **images, **changes})
    return configuration.parse(text, where="some.toml")


class Deployment:
    """A stack under test, and what was told of it."""

    def __init__(self, aws, name="kennel"):
        self.aws = aws
        self.name = name
        self.told = []
        self.stack = Stack(
            aws=aws, name=name, new_id=lambda: str(next(NUMBERS)), told=self.told.append, poll_seconds=0.05
        )
        self.names = resources.Names(name=name, account=aws.account, region=aws.region)

    def deploy(self, source=SOURCE, **changes):
        chosen = config(self.name, **changes)
        pulled = (chosen.images.training, chosen.images.serving)
        return infrastructure.deploy(self.aws, self.stack, chosen, source, images=pulled, say=lambda step: None)

    def changes(self, source=SOURCE, images=(), **changes):
        chosen = config(self.name, **changes)
        pulled = (chosen.images.training, chosen.images.serving, *images)
        return infrastructure.changes(self.aws, self.stack, chosen, source, images=pulled)

    def remove(self):
        said = []
        teardown.remove(self.aws, self.stack, self.names, say=said.append)
        return said


@pytest.fixture
def fresh(local_aws):
    made = Deployment(local_aws, name=f"new{next(NUMBERS)}")
    yield made
    made.remove()


@pytest.fixture(scope="module")
def there(local_aws):
    made = Deployment(local_aws)
    made.found = made.deploy()
    yield made
    made.remove()


def test_second_deployment_finds_what_the_first_made_and_changes_nothing(there):
    there.told.clear()
    assert there.deploy() == there.found
    assert there.told == []
    assert there.changes() == []


def test_resources_are_those_of_the_stack(there):
    found = there.found
    ec2 = there.aws.client("ec2")
    subnets = ec2.describe_subnets(SubnetIds=list(found.subnets))["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    groups = ec2.describe_security_groups(GroupIds=[found.training_security_group, found.serving_security_group])
    assert {group["VpcId"] for group in groups["SecurityGroups"]} == {subnet["VpcId"] for subnet in subnets}
    alarms = there.aws.client("cloudwatch").describe_alarms(AlarmNames=list(found.endpoint_alarms))["MetricAlarms"]
    assert len(alarms) == 2
    assert found.names.bucket == "kennel-123456789012-eu-west-1"


def test_every_resource_is_told_when_it_is_made(fresh):
    fresh.deploy()
    made = {event.name for event in fresh.told if event.status == "CREATE_COMPLETE"}
    assert made == {*template.read(SOURCE.template).resources, fresh.name}


def test_definition_is_the_file_byte_for_byte_and_the_function_the_zip(there):
    machine = there.aws.client("stepfunctions").describe_state_machine(stateMachineArn=there.found.state_machine_arn)
    assert machine["definition"].encode() == SOURCE.definition
    code = there.aws.client("lambda").get_function(FunctionName="kennel-classify")["Configuration"]
    assert code["CodeSize"] == len(SOURCE.function_zip)


def test_new_code_and_a_new_definition_are_brought_and_planned_before(fresh):
    fresh.deploy()
    changed = json.loads(SOURCE.definition)
    changed["Comment"] = "another"
    source = dataclasses.replace(SOURCE, definition=json.dumps(changed).encode())
    assert {(change.action, change.name) for change in fresh.changes(source)} == {
        ("Modify", "Function"),
        ("Modify", "StateMachine"),
    }
    found = fresh.deploy(source)
    machine = fresh.aws.client("stepfunctions").describe_state_machine(stateMachineArn=found.state_machine_arn)
    assert machine["definition"].encode() == source.definition


def test_without_the_network_the_endpoints_go_and_the_function_is_outside(fresh):
    fresh.deploy()
    off = {"infrastructure.network": False}
    removed = {change.name for change in fresh.changes(**off) if change.action == "Remove"}
    assert removed == {"SageMakerRuntimeEndpoint", "EcrApiEndpoint", "EcrDockerEndpoint"}
    found = fresh.deploy(**off)
    function = fresh.aws.client("lambda").get_function_configuration(FunctionName=found.names.function)
    assert not function.get("VpcConfig", {}).get("SubnetIds")


def test_data_and_images_of_others_may_be_read_and_pulled(fresh):
    fresh.deploy(
        **{
            "data.source": "s3://their-bucket/photos",
            "images.serving": "210987654321.dkr.ecr.eu-west-1.amazonaws.com/theirs:1",
        }
    )
    iam = fresh.aws.client("iam")
    training = iam.get_role_policy(RoleName=f"{fresh.name}-training", PolicyName="training")["PolicyDocument"]
    statements = {statement["Sid"]: statement for statement in training["Statement"]}
    assert statements["ReadDataElsewhere"]["Resource"] == ["arn:aws:s3:::their-bucket/photos*"]
    assert statements["FindDataElsewhere"]["Resource"] == ["arn:aws:s3:::their-bucket"]
    serving = iam.get_role_policy(RoleName=f"{fresh.name}-serving", PolicyName="serving")["PolicyDocument"]
    (pulling,) = [statement for statement in serving["Statement"] if statement["Sid"] == "PullOtherImages"]
    assert pulling["Resource"] == ["arn:aws:ecr:eu-west-1:210987654321:repository/theirs"]


def test_both_images_of_a_rollout_may_be_pulled(there):
    other = "210987654321.dkr.ecr.eu-west-1.amazonaws.com/theirs:1"
    assert {change.name for change in there.changes(images=(other,))} == {"ServingRole", "TrainingPolicy"}


def test_roles_hold_inline_policies_and_no_others(there):
    iam = there.aws.client("iam")
    for part in ("training", "training-instance", "serving", "function", "states", "rollout"):
        assert iam.list_attached_role_policies(RoleName=f"kennel-{part}")["AttachedPolicies"] == []
        assert len(iam.list_role_policies(RoleName=f"kennel-{part}")["PolicyNames"]) == 1
    states = iam.get_role_policy(RoleName="kennel-states", PolicyName="states")["PolicyDocument"]["Statement"]
    assert {statement["Sid"] for statement in states} == {
        statement["Sid"] for statement in policy.derived(json.loads(SOURCE.definition))
    }


def test_what_serves_is_not_forgotten_by_another_deployment(there):
    s3 = there.aws.client("s3")
    where = {"Bucket": there.names.bucket, "Key": infrastructure.CURRENT_DEPLOYMENT}
    assert s3.get_object(**where)["Body"].read() == b"{}"
    s3.put_object(**where, Body=b'{"Model": {}}')
    there.deploy()
    assert s3.get_object(**where)["Body"].read() == b'{"Model": {}}'


def test_resource_that_is_refused_is_named_with_its_reason_and_the_next_deployment_goes_on(fresh):
    broken = SOURCE.template.replace("Runtime: python3.11", "Runtime: python1.5")
    with pytest.raises(PipelineFailed, match=r"stack new\d+: it ended as \w+: Function \(AWS::Lambda::Function\): "):
        fresh.deploy(dataclasses.replace(SOURCE, template=broken))
    assert next(event.name for event in fresh.told if event.failed) == "Function"
    assert fresh.deploy().state_machine_arn


def test_stack_that_could_not_be_created_is_replaced(fresh):
    broken = SOURCE.template.replace('AllowedPattern: "pl-[0-9a-f]+"', 'AllowedPattern: ".*"')
    broken = broken.replace("CidrBlock: 10.0.16.0/20", "CidrBlock: 10.9.0.0/20")
    with pytest.raises(PipelineFailed, match="SubnetB"):
        fresh.deploy(dataclasses.replace(SOURCE, template=broken))
    assert fresh.deploy().state_machine_arn


def test_template_that_is_none_is_refused_in_cloudformation_s_words(there):
    with pytest.raises(Exception, match="ValidationError"):
        there.deploy(dataclasses.replace(SOURCE, template="Resources: {A: {Type: AWS::No::Such}}"))


def test_deletion_that_is_under_way_is_waited_for(fresh):
    fresh.deploy()
    teardown.remove(fresh.aws, _begun(fresh), fresh.names, say=lambda what: None)
    assert fresh.stack.describe() is None
    fresh.deploy()
    _begun(fresh)
    assert fresh.deploy().state_machine_arn


def _begun(deployment):
    """The deployment's stack, whose deletion CloudFormation has just begun."""
    s3, names = deployment.aws.client("s3"), deployment.names
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=names.bucket):
        for version in page["Versions"]:
            s3.delete_object(Bucket=names.bucket, Key=version["Key"], VersionId=version["VersionId"])
    deployment.aws.client("cloudformation").delete_stack(StackName=deployment.name)
    return deployment.stack


def test_image_that_serves_may_be_pulled_after_any_deployment(fresh):
    fresh.deploy()
    theirs = "210987654321.dkr.ecr.eu-west-1.amazonaws.com/theirs:1"
    body = json.dumps({"Model": {"Image": theirs, "ModelDataUrl": "s3://b/k"}})
    where = {"Bucket": fresh.names.bucket, "Key": infrastructure.CURRENT_DEPLOYMENT}
    fresh.aws.client("s3").put_object(**where, Body=body.encode())
    fresh.deploy()
    policy_of = {"RoleName": f"{fresh.name}-serving", "PolicyName": "serving"}
    statements = fresh.aws.client("iam").get_role_policy(**policy_of)["PolicyDocument"]["Statement"]
    assert "PullOtherImages" in {statement["Sid"] for statement in statements}


def test_what_belongs_to_others_is_not_taken_down(fresh):
    fresh.deploy()
    logs = fresh.aws.client("logs")
    shared, others = "/aws/sagemaker/TrainingJobs", "/aws/sagemaker/TrainingJobsOfOthers"
    longer = f"{fresh.name}0"  # begins with our name, and is another
    for group in (shared, others, f"/aws/sagemaker/Endpoints/{longer}"):
        logs.create_log_group(logGroupName=group)
    for stream in (f"{fresh.name}-1-train-0/algo-1", f"{longer}-1-train-0/algo-1"):
        logs.create_log_stream(logGroupName=shared, logStreamName=stream)
    assert "1 logs of jobs in" in "\n".join(teardown.what_remains(fresh.aws, fresh.names))
    fresh.remove()
    streams = logs.describe_log_streams(logGroupName=shared)["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [f"{longer}-1-train-0/algo-1"]
    groups = {
        group["logGroupName"] for group in logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker")["logGroups"]
    }
    assert groups == {shared, others, f"/aws/sagemaker/Endpoints/{longer}"}
    for group in groups:
        logs.delete_log_group(logGroupName=group)


def test_two_names_share_nothing(there, fresh):
    other = fresh.deploy()
    one = there.found
    assert not {*one.subnets, one.training_security_group, one.kms_key_arn, one.launch_template} & {
        *other.subnets,
        other.training_security_group,
        other.kms_key_arn,
        other.launch_template,
    }


def test_taking_down_leaves_nothing_of_any_type_and_may_be_repeated(fresh):
    view = local_stack.Stack(fresh.aws.endpoint_url, fresh.name, "eu-west-1")
    before = stack_readers.everything(view)
    fresh.deploy()
    bucket = fresh.names.bucket
    fresh.aws.client("s3").put_object(Bucket=bucket, Key="uploads/photo.jpg", Body=b"1")
    fresh.aws.client("s3").delete_object(Bucket=bucket, Key="uploads/photo.jpg")
    fresh.aws.client("s3").create_multipart_upload(Bucket=bucket, Key="data/never-finished")
    assert any("versions of objects" in said for said in fresh.remove())
    assert stack_readers.everything(view) == before
    assert fresh.remove() == []
    remains = teardown.what_remains(fresh.aws, fresh.names)
    assert [what.split()[0] for what in remains] == ["key"]
