"""statemachine/infrastructure.yaml, deployed, changed and removed by CloudFormation and read back from the services."""

import json
import zipfile
from io import BytesIO

import pytest
from moto.awslambda.models import lambda_backends

from kennel.local.function_registry import MotoRegistry
from local_rig import REGION, wait_for
from local_stack import RELEASE, TEMPLATE, Refused, Stack, deploy
from stack_readers import READERS, differences, everything, said_of

NOT_TOLD = {
    ("AWS::ECR::Repository", "EmptyOnDelete"),  # for the deletion only
    ("AWS::KMS::Key", "PendingWindowInDays"),  # for the deletion only
    ("AWS::Lambda::Function", "Code"),  # Lambda tells its hash; a test below compares the bytes
}
"""What no API of AWS's own tells, either."""

RELEASED = {
    "Function",
    "FunctionVersion",
    "FunctionAlias",
    "FunctionFailures",
    "UploadsInvokeFunction",
    "StateMachine",
    "RolloutOfPushedImage",
}
PASS = {"StartAt": "Done", "States": {"Done": {"Type": "Pass", "Result": {"ran": True}, "End": True}}}


def zipped(text):
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("classify.py", text)
    return target.getvalue()


def code_of(name, qualifier=None):
    return MotoRegistry(lambda: lambda_backends["123456789012"][REGION]).resolve(f"{name}-classify", qualifier).code


def actions(planned):
    changes = [change["ResourceChange"] for change in planned["Changes"]]
    return {(change["Action"], change["LogicalResourceId"]) for change in changes}


@pytest.fixture(scope="module")
def stack(aws):
    return deploy(aws.url, name="whole")


@pytest.fixture
def given():
    return {"S3PrefixList": "pl-63a5400a", "Release": RELEASE}


def test_every_property_of_the_template_is_what_the_services_tell(stack):
    assert differences(stack).keys() == NOT_TOLD


def test_every_type_of_the_template_is_read_back(stack):
    assert {kind for kind, _, _ in said_of(stack).values()} == READERS.keys()


def test_outputs_name_what_is_there(stack):
    outputs, ids = stack.outputs(), stack.ids()
    assert outputs["BucketName"] == ids["Bucket"] == f"whole-123456789012-{REGION}"
    assert outputs["Subnets"] == f"{ids['SubnetA']},{ids['SubnetB']}"
    assert outputs["StateMachineArn"] == ids["StateMachine"]
    assert outputs["KeyArn"].endswith(f":key/{ids['Key']}")
    assert outputs["EndpointAlarms"] == "whole-endpoint-5xx,whole-endpoint-latency"


def test_the_first_step_makes_no_function_and_the_second_makes_just_what_needs_the_release(stack):
    made = [event for event in stack.events() if event["ResourceStatus"] == "CREATE_COMPLETE"]
    first = [event["LogicalResourceId"] for event in made].index("whole")
    assert {event["LogicalResourceId"] for event in made[first + 1 :]} == RELEASED
    assert not RELEASED & {event["LogicalResourceId"] for event in made[:first]}


def test_events_tell_of_each_resource_that_it_begins_and_that_it_is_done(stack):
    events = [(event["LogicalResourceId"], event["ResourceStatus"]) for event in stack.events()]
    for name in stack.ids():
        assert events.index((name, "CREATE_IN_PROGRESS")) < events.index((name, "CREATE_COMPLETE"))


def test_a_resource_is_made_after_those_that_it_refers_to(stack):
    order = [e["LogicalResourceId"] for e in stack.events() if e["ResourceStatus"] == "CREATE_COMPLETE"]
    assert order.index("Key") < order.index("Bucket") < order.index("BucketPolicy")
    assert order.index("StateMachineLogDelivery") < order.index("StateMachine") < order.index("RolloutOfPushedImage")


def test_the_same_again_is_a_change_set_without_changes(stack, given):
    planned = stack.plan(TEMPLATE.read_text() + "\n# a comment\n", **given)
    assert planned["Status"] == "FAILED"
    assert planned["ExecutionStatus"] == "UNAVAILABLE"
    assert planned["StatusReason"] == (
        "The submitted information didn't contain changes. Submit different information to create a change set."
    )


def test_the_function_runs_what_the_release_holds_and_the_state_machine_is_the_file_to_the_byte(stack, given):
    definition = json.dumps(PASS, indent=7).encode()
    code = zipped("new = True")
    stack.put_release("releases/next/", code=code, definition=definition)
    seen = len(stack.events())
    stack.change(TEMPLATE.read_text(), **{**given, "Release": "releases/next/"})
    touched = {event["LogicalResourceId"] for event in stack.events()[seen:]}
    assert touched == {"whole", "Function", "StateMachine"}
    assert code_of("whole") == code
    assert code_of("whole", "live") != code  # the state machine's to publish
    states = stack.client("stepfunctions")
    machine = states.describe_state_machine(stateMachineArn=stack.ids()["StateMachine"])
    assert machine["definition"].encode() == definition
    assert machine["loggingConfiguration"]["level"] == "ALL"
    assert machine["tracingConfiguration"] == {"enabled": True}
    arn = states.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    done = wait_for(lambda: states.describe_execution(executionArn=arn), lambda found: found["status"] != "RUNNING")
    assert json.loads(done["output"]) == {"ran": True}
    stack.change(TEMPLATE.read_text(), **given)


def test_what_the_state_machine_set_on_the_function_is_left_alone(stack, given):
    functions = stack.client("lambda")
    functions.update_function_configuration(FunctionName="whole-classify", Timeout=59, MemorySize=777)
    stack.put_release("releases/other/", code=zipped("other = True"))
    stack.change(TEMPLATE.read_text(), **{**given, "Release": "releases/other/"})
    found = functions.get_function_configuration(FunctionName="whole-classify")
    assert (found["Timeout"], found["MemorySize"]) == (59, 777)
    functions.update_function_configuration(FunctionName="whole-classify", Timeout=30, MemorySize=256)
    stack.change(TEMPLATE.read_text(), **given)


def test_without_the_network_its_endpoints_are_removed_and_the_function_leaves_it(stack, given):
    body = TEMPLATE.read_text()
    planned = stack.plan(body, **given, Network="off")
    assert actions(planned) == {
        ("Remove", "SageMakerRuntimeEndpoint"),
        ("Remove", "EcrApiEndpoint"),
        ("Remove", "EcrDockerEndpoint"),
        ("Modify", "Function"),
    }
    assert {c["ResourceChange"].get("Replacement") for c in planned["Changes"]} == {None, "False"}
    done = stack.change(body, **given, Network="off")
    assert done["StackStatus"] == "UPDATE_COMPLETE"
    found = stack.client("lambda").get_function_configuration(FunctionName="whole-classify")
    assert not found.get("VpcConfig", {}).get("SubnetIds")
    left = stack.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    assert [e["ServiceName"] for e in left if e["State"] != "deleted" and e["VpcId"] == stack.ids()["Vpc"]] == [
        f"com.amazonaws.{REGION}.s3"
    ]
    stack.change(body, **given, Network="on")
    assert differences(stack).keys() == NOT_TOLD


CHANGES = {
    "Alarm": ("Threshold: 5\n", "Threshold: 6\n"),
    "Bucket": ("NoncurrentDays: 30", "NoncurrentDays: 31"),
    "BucketPolicy": ('Action: "s3:*"', 'Action: "s3:Get*"'),
    "Key": ("EnableKeyRotation: true", "EnableKeyRotation: false"),
    "KeyPolicy": (
        '"kms:DescribeKey"]\n            Resource: "*"',
        '"kms:DescribeKey", "kms:List*"]\n            Resource: "*"',
    ),
    "LaunchTemplate": ("VolumeSize: 100", "VolumeSize: 101"),
    "LogGroup": ("RetentionInDays: 90", "RetentionInDays: 60"),
    "Policy": ('"${Bucket.Arn}/models/*"', '"${Bucket.Arn}/model*"'),
    "Queue": ("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 1209599"),
    "Repository": ("ScanOnPush: true", "ScanOnPush: false"),
    "ResourcePolicy": ('"Sid": "ExecutionsOfThisAccount"', '"Sid": "Executions"'),
    "Rule": ("detail-type: [ECR Image Action]", "detail-type: [ECR Image Action, Other]"),
    "SecurityGroup": ("Description: training on EC2}", "Description: those that train}"),
    "Subnet": ('"${AWS::StackName}-a"', '"${AWS::StackName}-z"'),
    "TopicPolicy": ("Sid: AlarmsOfThisAccount", "Sid: Alarms"),
    "Tracing": ("TracingConfig: {Mode: Active}", "TracingConfig: {Mode: PassThrough}"),
    "VPCEndpoint": ("Sid: OurBucketForOurRoles", "Sid: Ours"),
}


def test_changed_properties_are_changed_where_they_are(stack, given):
    body = TEMPLATE.read_text()
    for old, new in CHANGES.values():
        assert old in body
        body = body.replace(old, new)
    before = stack.ids()
    planned = stack.plan(body, **given, LogExecutionData="true", RolloutOnPush="ENABLED")
    assert {change["ResourceChange"]["Replacement"] for change in planned["Changes"]} == {"False"}
    stack.change(body, **given, LogExecutionData="true", RolloutOnPush="ENABLED")
    assert differences(stack).keys() == NOT_TOLD
    assert stack.ids() == before
    assert stack.client("events").describe_rule(Name="whole-rollout")["State"] == "ENABLED"
    stack.change(TEMPLATE.read_text(), **given, LogExecutionData="false", RolloutOnPush="DISABLED")
    assert differences(stack).keys() == NOT_TOLD


def test_a_failing_change_is_taken_back_with_all_that_was_done_before_it(stack, given):
    body = (
        TEMPLATE.read_text()
        .replace("Threshold: 5\n", "Threshold: 7\n")
        .replace("NoncurrentDays: 30", "NoncurrentDays: 33")
    )
    before = everything(stack)
    failed = stack.change(body, **{**given, "Release": "releases/nothing/"})
    assert failed["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "The specified key does not exist" in stack.failures()[-1]
    assert everything(stack) == before
    assert differences(stack).keys() == NOT_TOLD
    (alarm,) = stack.client("cloudwatch").describe_alarms(AlarmNames=["whole-endpoint-5xx"])["MetricAlarms"]
    assert alarm["Threshold"] == 5
    assert {p["ParameterKey"]: p["ParameterValue"] for p in stack.described()["Parameters"]}["Release"] == RELEASE


def test_a_named_resource_is_not_replaced(stack, given):
    body = TEMPLATE.read_text().replace(
        "EncryptionConfiguration: {EncryptionType: KMS}\n", "EncryptionConfiguration: {EncryptionType: AES256}\n"
    )
    failed = stack.change(body, **given)
    assert failed["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "cannot update a stack when a custom-named resource requires replacing" in stack.failures()[-1]


def test_a_role_that_may_not_deliver_logs_fails_the_state_machine(aws):
    with pytest.raises(Refused) as refused:
        deploy(aws.url, name="denied", body=TEMPLATE.read_text().replace("logs:CreateLogDelivery", "logs:Nothing"))
    assert "UPDATE_ROLLBACK_COMPLETE" in str(refused.value)
    assert "not authorized to access the Log Destination" in str(refused.value)
    assert "HandlerErrorCode: AccessDenied" in str(refused.value)
    stack = Stack(aws.url, "denied")
    assert not RELEASED & stack.ids().keys()
    stack.empty_buckets()
    assert stack.delete()["StackStatus"] == "DELETE_COMPLETE"


def test_a_deleted_stack_leaves_nothing(aws):
    account = Stack(aws.url, "gone")
    before = everything(account)
    stack = deploy(aws.url, name="gone")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    stack.client("ecr").put_image(repositoryName="gone-serving", imageManifest=json.dumps(manifest), imageTag="one")
    refused = stack.delete()
    assert refused["StackStatus"] == "DELETE_FAILED"
    assert refused["StackStatusReason"] == "The following resource(s) failed to delete: [Bucket]. "
    assert "The bucket you tried to delete is not empty" in stack.failures()[-2]
    assert {"Bucket", "Key", "LogsBucket"} <= stack.ids().keys()  # it needs them
    stack.empty_buckets()
    stack_id = stack.described()["StackId"]
    assert stack.delete()["StackStatus"] == "DELETE_COMPLETE"
    assert everything(account) - before == set()
    assert stack.events(stack_id)[-1]["ResourceStatus"] == "DELETE_COMPLETE"
    with pytest.raises(stack.api.exceptions.ClientError, match="Stack with id gone does not exist"):
        stack.described()
