"""A push to the registry starts what a rule of EventBridge says, with the rule's role."""

import json
import threading

import pytest

from fake_registry import digest_of, manifest, serving
from kennel.local.ecr import Ecr
from kennel.local.ecr_events import Pushes
from kennel.local.events import EventBus
from local_rig import REGION, wait_for

ACCOUNT = "123456789012"
TRUST = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sts:AssumeRole"}
ANOTHER = {**TRUST, "Principal": {"Service": "scheduler.amazonaws.com"}}
START = {"Effect": "Allow", "Action": "states:StartExecution", "Resource": "*"}
ECHO = {"StartAt": "Done", "States": {"Done": {"Type": "Pass", "End": True}}}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def registry():
    with serving() as registry:
        yield registry


@pytest.fixture
def rule(aws):
    """A repository, a rule that names it, a state machine, and a dead-letter queue; their names."""
    name = aws.name("pushed")
    aws.ecr.create_repository(repositoryName=name)
    role = aws.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(TRUST))["Role"]["Arn"]
    aws.iam.put_role_policy(RoleName=name, PolicyName="start", PolicyDocument=document(START))
    queue = aws.sqs.create_queue(QueueName=name)["QueueUrl"]
    trusted = {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}
    states = aws.iam.create_role(RoleName=f"{name}-s", AssumeRolePolicyDocument=document(trusted))["Role"]["Arn"]
    machine = aws.stepfunctions.create_state_machine(name=name, definition=json.dumps(ECHO), roleArn=states)
    pattern = {
        "source": ["aws.ecr"],
        "detail-type": ["ECR Image Action"],
        "detail": {"action-type": ["PUSH"], "result": ["SUCCESS"], "repository-name": [name]},
    }
    aws.events.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED")
    transformer = {"InputPathsMap": {"digest": "$.detail.image-digest"}, "InputTemplate": '{"Image": "it@<digest>"}'}
    target = {
        "Id": "one",
        "Arn": machine["stateMachineArn"],
        "RoleArn": role,
        "DeadLetterConfig": {"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"},
        "InputTransformer": transformer,
    }
    aws.events.put_targets(Rule=name, Targets=[target])
    yield name, machine["stateMachineArn"], queue
    aws.events.remove_targets(Rule=name, Ids=["one"])
    aws.events.delete_rule(Name=name)
    aws.ecr.delete_repository(repositoryName=name, force=True)


@pytest.fixture
def ecr(registry):
    return Ecr(registry=registry.address, account=ACCOUNT, has_repository=lambda _: True)


@pytest.fixture
def bus(aws):
    return EventBus(client=aws.client, assume=aws.server._target_client, account=ACCOUNT, region=REGION)


@pytest.fixture
def pushes(rule, bus, ecr):
    return Pushes(bus=bus, list_images=ecr.list_images)


def started(aws, machine):
    found = aws.stepfunctions.list_executions(stateMachineArn=machine)["executions"]
    given = [aws.stepfunctions.describe_execution(executionArn=one["executionArn"]) for one in found]
    return [(one["name"], json.loads(one["input"])) for one in given]


def test_a_new_image_starts_the_state_machine_once(aws, registry, rule, pushes):
    name, machine, _ = rule
    registry.tags[name] = {"old": manifest(1)}
    pushes.look()
    pushes.look()
    assert started(aws, machine) == []
    registry.tags[name]["new"] = manifest(2)
    pushes.look()
    pushes.look()
    ((execution, given),) = started(aws, machine)
    assert given == {"Image": f"it@{digest_of(manifest(2))}"}
    assert [len(part) for part in execution.split("_")] == [36, 36]


def test_another_tag_of_an_image_that_is_there_is_no_push(aws, registry, rule, pushes):
    name, machine, _ = rule
    registry.tags[name] = {"one": manifest(1)}
    pushes.look()
    registry.tags[name]["two"] = manifest(1)
    pushes.look()
    assert started(aws, machine) == []


def test_what_was_pushed_while_the_rule_was_disabled_is_not_told_afterwards(aws, registry, rule, pushes):
    name, machine, _ = rule
    registry.tags[name] = {"one": manifest(1)}
    pushes.look()
    aws.events.disable_rule(Name=name)
    registry.tags[name]["two"] = manifest(2)
    pushes.look()
    aws.events.enable_rule(Name=name)
    pushes.look()
    assert started(aws, machine) == []
    registry.tags[name]["three"] = manifest(3)
    pushes.look()
    assert [given for _, given in started(aws, machine)] == [{"Image": f"it@{digest_of(manifest(3))}"}]


def test_a_role_that_may_not_start_it_leaves_the_event_in_the_dead_letter_queue(aws, registry, rule, pushes):
    name, machine, queue = rule
    aws.iam.delete_role_policy(RoleName=name, PolicyName="start")
    pushes.look()
    registry.tags[name] = {"one": manifest(1)}
    pushes.look()
    assert started(aws, machine) == []
    (message,) = aws.sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    told = {key: value["StringValue"] for key, value in message["MessageAttributes"].items()}
    assert told["RULE_ARN"].endswith(f":rule/{name}")
    assert told["TARGET_ARN"] == machine
    assert "AccessDenied" in told["ERROR_CODE"]
    assert "states:StartExecution" in told["ERROR_MESSAGE"]
    assert json.loads(message["Body"])["detail"]["image-digest"] == digest_of(manifest(1))


def test_a_role_that_eventbridge_may_not_take_is_told_likewise(aws, registry, rule, pushes):
    name, _, queue = rule
    aws.iam.update_assume_role_policy(RoleName=name, PolicyDocument=document(ANOTHER))
    pushes.look()
    registry.tags[name] = {"one": manifest(1)}
    pushes.look()
    (message,) = aws.sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    assert "Could not assume role" in message["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"]


def test_the_watch_goes_on_when_the_registry_was_away_for_a_while(aws, registry, rule, bus, ecr):
    name, machine, _ = rule
    registry.tags[name] = {}
    looked = []

    def list_images(request):
        looked.append(registry.status)
        return ecr.list_images(request)

    pushes = Pushes(bus=bus, list_images=list_images, seconds=0.02)
    pushes.start()
    try:
        wait_for(lambda: len(looked), lambda count: count > 1)
        registry.status = 503
        wait_for(lambda: looked.count(503), lambda count: count > 1)
        registry.tags[name] = {"one": manifest(1)}
        registry.status = 0
        wait_for(lambda: started(aws, machine), bool)
    finally:
        pushes.close()
    assert len(started(aws, machine)) == 1


def test_the_local_aws_watches_its_registry_once_somebody_asked_for_rules(aws, rule):
    assert "ECR pushes" in {thread.name for thread in threading.enumerate()}
