"""What CloudFormation does with a stack that goes well or wrong, on small templates."""

import json
import threading

import pytest
from botocore.exceptions import ClientError

from local_rig import wait_for
from local_stack import Refused, Stack
from stack_readers import everything

GROUP = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": {"Fn::Sub": "/${AWS::StackName}/one"}}}
BUCKET = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": {"Ref": "AWS::StackName"}}}
ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
    },
}


def body(**resources):
    return json.dumps({"Resources": resources})


def with_properties(resource, **properties):
    return {**resource, "Properties": {**resource["Properties"], **properties}}


@pytest.fixture
def stack(aws):
    made = Stack(aws.url, aws.name("small"))
    before = everything(made)
    yield made
    if any(found["StackName"] == made.name for found in made.api.describe_stacks()["Stacks"]):
        assert made.delete()["StackStatus"] == "DELETE_COMPLETE"
    assert everything(made) - before == set()


def statuses(stack, name):
    return [e["ResourceStatus"] for e in stack.events() if e["LogicalResourceId"] == name]


def test_a_stack_that_is_only_planned_is_in_review_and_has_no_resources(stack):
    planned = stack.plan(body(Group=GROUP), "CREATE")
    assert planned["ExecutionStatus"] == "AVAILABLE"
    assert planned["Changes"] == [
        {
            "Type": "Resource",
            "ResourceChange": {
                "Action": "Add",
                "LogicalResourceId": "Group",
                "ResourceType": "AWS::Logs::LogGroup",
                "Scope": [],
                "Details": [],
            },
        }
    ]
    assert stack.described()["StackStatus"] == "REVIEW_IN_PROGRESS"
    assert stack.ids() == {}


def test_a_failed_creation_is_taken_back(stack):
    failed = stack.change(body(Group=with_properties(GROUP, RetentionInDays="many"), Bucket=BUCKET), "CREATE")
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    assert statuses(stack, "Group") == ["CREATE_IN_PROGRESS", "CREATE_FAILED"]
    assert statuses(stack, stack.name)[-2:] == ["ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"]
    with pytest.raises(ClientError, match="is in ROLLBACK_COMPLETE state and can not be updated"):
        stack.plan(body(Group=GROUP))


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"RetentionInDays": "many"}, "expected type: Integer, found: String"),
        ({"Colour": "red"}, "Encountered unsupported property Colour"),
        ({"LogGroupName": "a b"}, "HandlerErrorCode: InvalidRequest"),
    ],
)
def test_a_failed_resource_says_why(stack, properties, reason):
    stack.change(body(Group=with_properties(GROUP, **properties)), "CREATE")
    assert stack.described()["StackStatus"] == "ROLLBACK_COMPLETE"
    assert reason in stack.failures()[0]


def test_what_the_stack_did_not_make_is_not_taken_over(stack):
    s3 = stack.client("s3")
    s3.create_bucket(Bucket=stack.name)
    stack.change(body(Bucket=BUCKET), "CREATE")
    assert "already exists" in stack.failures()[0]
    assert "HandlerErrorCode: AlreadyExists" in stack.failures()[0]
    s3.delete_bucket(Bucket=stack.name)


def test_a_failed_update_removes_what_it_made_and_changes_back(stack):
    stack.change(body(Group=with_properties(GROUP, RetentionInDays=1)), "CREATE")
    broken = {
        "Type": "AWS::ECR::Repository",
        "Properties": {"ImageTagMutability": "NO"},
        "DependsOn": ["Group", "Bucket"],
    }
    changed = with_properties(GROUP, RetentionInDays=3)
    failed = stack.change(body(Group=changed, Bucket=BUCKET, Broken=broken))
    assert failed["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.ids().keys() == {"Group"}
    (group,) = stack.client("logs").describe_log_groups(logGroupNamePrefix=f"/{stack.name}/")["logGroups"]
    assert group["retentionInDays"] == 1
    assert statuses(stack, "Bucket") == [
        "CREATE_IN_PROGRESS",
        "CREATE_COMPLETE",
        "DELETE_IN_PROGRESS",
        "DELETE_COMPLETE",
    ]
    assert stack.change(body(Group=changed))["StackStatus"] == "UPDATE_COMPLETE"


def test_a_rollback_that_fails_is_continued_when_what_hindered_it_is_gone(stack):
    stack.change(body(Group=GROUP), "CREATE")
    broken = {"Type": "AWS::ECR::Repository", "Properties": {"ImageTagMutability": "NO"}, "DependsOn": "Filled"}
    s3 = stack.client("s3")
    bucket = f"{stack.name}-filled"
    # the bucket is filled between its creation and the failure that it has to be removed for
    slow = {f"Slow{number}": {**ROLE, "DependsOn": "Filled"} for number in range(15)}
    filled = with_properties(BUCKET, BucketName=bucket)
    planned = stack.plan(body(Group=GROUP, Filled=filled, **slow, Broken={**broken, "DependsOn": list(slow)}))
    stack.api.execute_change_set(ChangeSetName=planned["ChangeSetId"])
    wait_for(lambda: "Filled" in stack.ids() and stack.ids()["Filled"], bool)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert stack.settled(planned["StackId"])["StackStatus"] == "UPDATE_ROLLBACK_FAILED"
    assert stack.ids().keys() == {"Group", "Filled"}
    s3.delete_object(Bucket=bucket, Key="k")
    stack.api.continue_update_rollback(StackName=stack.name)
    assert stack.settled(planned["StackId"])["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.ids().keys() == {"Group"}
    with pytest.raises(ClientError, match="can not be continued"):
        stack.api.continue_update_rollback(StackName=stack.name)


def test_an_update_adds_changes_and_removes(stack):
    stack.change(body(Group=GROUP, Bucket=BUCKET), "CREATE")
    planned = stack.plan(body(Group=with_properties(GROUP, RetentionInDays=5), Role=ROLE))
    changes = {change["ResourceChange"]["LogicalResourceId"]: change["ResourceChange"] for change in planned["Changes"]}
    assert {name: change["Action"] for name, change in changes.items()} == {
        "Group": "Modify",
        "Role": "Add",
        "Bucket": "Remove",
    }
    assert changes["Group"]["Replacement"] == "False"
    assert changes["Group"]["Details"] == [
        {
            "Target": {"Attribute": "Properties", "Name": "RetentionInDays", "RequiresRecreation": "Never"},
            "Evaluation": "Static",
            "ChangeSource": "DirectModification",
        }
    ]
    stack.api.execute_change_set(ChangeSetName=planned["ChangeSetId"])
    assert stack.settled(planned["StackId"])["StackStatus"] == "UPDATE_COMPLETE"
    assert stack.ids().keys() == {"Group", "Role"}


def test_another_name_is_another_resource_and_what_refers_to_it_follows(stack):
    named = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "one"}}
    alarm = {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmActions": [{"Ref": "Topic"}],
            "ComparisonOperator": "GreaterThanThreshold",
            "EvaluationPeriods": 1,
            "MetricName": "Errors",
            "Namespace": "AWS/Lambda",
            "Period": 60,
            "Statistic": "Sum",
            "Threshold": 1,
        },
    }
    stack.change(body(Topic=named, Alarm=alarm), "CREATE")
    first = stack.ids()["Topic"]
    other = body(Topic=with_properties(named, TopicName="two"), Alarm=alarm)
    planned = stack.plan(other)
    replacements = {
        c["ResourceChange"]["LogicalResourceId"]: c["ResourceChange"]["Replacement"] for c in planned["Changes"]
    }
    assert replacements == {"Topic": "True", "Alarm": "False"}
    stack.change(other)
    (found,) = stack.client("cloudwatch").describe_alarms(AlarmNames=[stack.ids()["Alarm"]])["MetricAlarms"]
    assert found["AlarmActions"] == [stack.ids()["Topic"]] != [first]
    topics = [topic["TopicArn"] for topic in stack.client("sns").list_topics()["Topics"]]
    assert first not in topics


def test_a_stack_with_roles_needs_the_users_consent(stack):
    asked = {"StackName": stack.name, "ChangeSetName": "c", "ChangeSetType": "CREATE", "TemplateBody": body(Role=ROLE)}
    with pytest.raises(ClientError, match=r"Requires capabilities : \[CAPABILITY_IAM\]") as refused:
        stack.api.create_change_set(**asked)
    assert refused.value.response["Error"]["Code"] == "InsufficientCapabilitiesException"
    named = body(Role=with_properties(ROLE, RoleName="it"))
    with pytest.raises(ClientError, match=r"Requires capabilities : \[CAPABILITY_NAMED_IAM\]"):
        stack.api.create_change_set(**{**asked, "TemplateBody": named, "Capabilities": ["CAPABILITY_IAM"]})
    with pytest.raises(ClientError, match="does not exist"):
        stack.described()


def test_what_is_retained_stays(stack):
    stack.change(body(Group={**GROUP, "DeletionPolicy": "Retain"}), "CREATE")
    assert stack.delete()["StackStatus"] == "DELETE_COMPLETE"
    name = f"/{stack.name}/one"
    assert stack.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    stack.client("logs").delete_log_group(logGroupName=name)


def test_what_somebody_else_removed_counts_as_removed(stack):
    stack.change(body(Bucket=BUCKET), "CREATE")
    stack.client("s3").delete_bucket(Bucket=stack.name)
    assert stack.delete()["StackStatus"] == "DELETE_COMPLETE"


def test_a_stack_is_not_made_twice_nor_updated_before_it_is_there(stack):
    with pytest.raises(ClientError, match="does not exist"):
        stack.plan(body(Group=GROUP))
    stack.change(body(Group=GROUP), "CREATE")
    with pytest.raises(ClientError, match="already exists and cannot be created again"):
        stack.plan(body(Group=GROUP), "CREATE")


def test_a_change_set_is_executed_once_and_makes_the_others_obsolete(stack):
    stack.change(body(Group=GROUP), "CREATE")
    one = stack.plan(body(Group=with_properties(GROUP, RetentionInDays=1)))
    other = stack.plan(body(Group=with_properties(GROUP, RetentionInDays=3)))
    stack.api.execute_change_set(ChangeSetName=one["ChangeSetId"])
    stack.settled(one["StackId"])
    for planned in (one, other):
        with pytest.raises(ClientError, match="cannot be executed in its current status"):
            stack.api.execute_change_set(ChangeSetName=planned["ChangeSetId"])
    with pytest.raises(Refused, match="didn't contain changes"):
        stack.change(body(Group=with_properties(GROUP, RetentionInDays=1)))


def test_what_the_local_aws_does_not_do_is_refused_rather_than_left_unheard(stack):
    with pytest.raises(ClientError, match="does not do ImportExistingResources of CreateChangeSet"):
        stack.api.create_change_set(
            StackName=stack.name, ChangeSetName="c", TemplateBody=body(Group=GROUP), ImportExistingResources=True
        )


def test_what_asks_for_nothing_is_heard(stack):
    planned = stack.plan(body(Group=GROUP), "CREATE")
    stack.api.execute_change_set(ChangeSetName=planned["ChangeSetId"], DisableRollback=False)  # as the AWS CLI does
    assert stack.settled(planned["StackId"])["StackStatus"] == "CREATE_COMPLETE"


def test_stacks_are_made_at_the_same_time(aws):
    stacks = [Stack(aws.url, aws.name("beside")) for _ in range(4)]
    found = {}

    def make(one):
        found[one.name] = one.change(body(Group=GROUP, Bucket=BUCKET, Role=ROLE), "CREATE")["StackStatus"]
        found[one.name] += one.delete()["StackStatus"]

    threads = [threading.Thread(target=make, args=(one,)) for one in stacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {one.name: "CREATE_COMPLETEDELETE_COMPLETE" for one in stacks}
