"""Every statement of every policy of the stack is needed: without any single one, a run that was green is red.

The stack, the state machine, the policies and their enforcement are the real ones; jobs and instances are small scripts
(`fake_runtime`), and the state machine has no retries here: what is denied once is denied seven times, minutes later.
"""

import dataclasses
import json
import time
from pathlib import Path

import pytest

import configurations
import local_stack
from kennel import config
from kennel.pipeline import document, resources, template
from local_rig import packed, wait_for

ROOT = Path(__file__).parents[3]
TEMPLATE = template.read((ROOT / "statemachine" / "infrastructure.yaml").read_text())
NAME = "suffice"
FOREIGN = "210987654321.dkr.ecr.us-east-1.amazonaws.com/others:1"
ANSWER = {"predictions": [{"label": "a dog", "probability": 1.0}], "expected": "a dog"}
OTHER_ONES = ("ReadDataElsewhere", "FindDataElsewhere", "PullOtherImages")


def policies():
    """(Logical id of a role, name of the policy, Sid) of every statement of the template."""
    for role in TEMPLATE.of_type("AWS::IAM::Role"):
        for policy in role.items("Policies"):
            for statement in template.items(policy["PolicyDocument"]["Statement"]):
                yield role.id, policy["PolicyName"], statement["Sid"]
    for policy in TEMPLATE.of_type("AWS::IAM::Policy"):
        for statement in template.items(policy.body["Properties"]["PolicyDocument"]["Statement"]):
            for role in policy.texts("Roles"):
                yield role.strip("${}"), policy.text("PolicyName"), statement["Sid"]


STATEMENTS = [one for one in policies() if one[0] != "TrainingInstanceRole"]  # the same policy; EC2 has its own tests


class Rig:
    """The stack in a local AWS, and what can be done with it."""

    def __init__(self, aws, stack, state):
        self.aws = aws
        self.stack = stack
        self.names = resources.Names(name=NAME, account="123456789012", region="us-east-1")
        self.found = resources.from_outputs(self.names, stack.outputs())
        self._state = state
        self._config = config.parse(
            configurations.text(
                {
                    "name": NAME,
                    "images.training": f"{NAME}-training",
                    "images.serving": f"{NAME}-serving",
                    "tuning.max_jobs": 1,
                    "tuning.max_parallel_jobs": 1,
                    "training.instance_count": 1,
                    "function.reserved_concurrency": 2,
                }
            ),
            where="local.toml",
        )
        self.definition = _without_retries((ROOT / "statemachine" / "pipeline.asl.json").read_bytes())

    def role(self, part):
        return self.stack.ids()[part]

    def redeploy(self):
        """What a deployment asks of the roles: the state machine and the function are given theirs once more."""
        machine = {"stateMachineArn": self.found.state_machine_arn, "definition": self.definition}
        log = self.aws.logs.describe_log_groups(logGroupNamePrefix="/aws/vendedlogs")["logGroups"][0]["arn"]
        self.aws.stepfunctions.update_state_machine(
            **machine,
            roleArn=self.names.role_arn("states"),
            loggingConfiguration={
                "level": "ALL",
                "includeExecutionData": False,
                "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": log}}],
            },
            tracingConfiguration={"enabled": True},
        )
        function = {"FunctionName": self.names.function}
        settings = self.aws.client("lambda").get_function_configuration(**function)
        self.aws.client("lambda").update_function_configuration(**function, Timeout=settings["Timeout"])
        self.aws.client("lambda").put_function_event_invoke_config(
            **function,
            Qualifier="live",
            DestinationConfig={"OnFailure": {"Destination": self._queue_arn()}},
            MaximumRetryAttempts=0,
        )

    def execute(self, asked, name):
        """Run the state machine; the description of the execution when it has ended."""
        arn = self.aws.stepfunctions.start_execution(
            stateMachineArn=self.found.state_machine_arn, name=name, input=json.dumps(asked)
        )["executionArn"]
        return self._ended(arn)

    def _ended(self, arn):
        return wait_for(
            lambda: self.aws.stepfunctions.describe_execution(executionArn=arn),
            lambda execution: execution["status"] != "RUNNING",
            60,
        )

    def train(self, *, elsewhere=False):
        """An execution from tuning to the smoke test; with `elsewhere` of images and data that are somebody else's."""
        name = f"{NAME}-{time.time_ns() % 10**10}"
        chosen = self._config
        if elsewhere:
            chosen = dataclasses.replace(
                chosen, images=dataclasses.replace(chosen.images, training=FOREIGN, serving=FOREIGN)
            )
        data = "s3://others-data/images" if elsewhere else f"s3://{self.names.bucket}/data/1"
        asked = document.execution_input(chosen, self.found, execution=name, data_uri=data, pretrained_uri="")
        asked["Model"]["Environment"] = {"STATE": str(self._state), "ANSWER": json.dumps(ANSWER)}
        return self.execute(asked, name)

    def fail(self):
        """An execution that fails at once, and tells."""
        asked = {"Mode": "pushed", "Notification": {"TopicArn": self.found.topic_arn}, "Pushed": {"Bucket": "nobody-s"}}
        return self.execute(asked, f"{NAME}-{time.time_ns() % 10**10}")

    def pushed(self):
        """ECR tells of a new serving image; how the rollout ended, or that it did not start."""
        states, machine = self.aws.stepfunctions, {"stateMachineArn": self.found.state_machine_arn}
        before = {one["executionArn"] for one in states.list_executions(**machine)["executions"]}
        detail = {"repository-name": f"{NAME}-serving", "image-digest": f"sha256:{'0' * 64}"}
        detail |= {"action-type": "PUSH", "result": "SUCCESS"}
        self.aws.server.bus.emit(source="aws.ecr", detail_type="ECR Image Action", detail=detail)
        started = [
            one["executionArn"]
            for one in states.list_executions(**machine)["executions"]
            if one["executionArn"] not in before
        ]
        return self._ended(started[0])["status"] if started else "not started"

    def upload(self, body=b"\xff\xd8\xff an image"):
        """An upload; whether a prediction came of it, or the failure came to the queue."""
        key = f"uploads/{time.time_ns()}.jpg"
        self.aws.s3.put_object(Bucket=self.names.bucket, Key=key, Body=body)
        prediction = key.replace("uploads/", "predictions/") + ".json"
        found = []

        def look():
            listed = self.aws.s3.list_objects_v2(Bucket=self.names.bucket, Prefix=prediction).get("Contents", [])
            messages = self.aws.sqs.receive_message(QueueUrl=self._queue_url(), MaxNumberOfMessages=10)
            found[:] = ["predicted"] * len(listed) + ["failed"] * len(messages.get("Messages", []))
            return found or self.denied()

        wait_for(look, bool, 20)
        return found[0] if found else "neither"

    def denied(self):
        """What was denied since `forget`."""
        return [one for one in self.aws.server.decisions() if not one.allowed and one not in self._before]

    def forget(self):
        self._before = set(self.aws.server.decisions())

    def _queue_url(self):
        return self.aws.sqs.get_queue_url(QueueName=f"{NAME}-failures")["QueueUrl"]

    def _queue_arn(self):
        return f"arn:aws:sqs:us-east-1:123456789012:{NAME}-failures"


def _without_retries(definition):
    document = json.loads(definition)
    for state in document["States"].values():
        state.pop("Retry", None)
    return json.dumps(document)


@pytest.fixture(scope="module")
def rig(aws, tmp_path_factory):
    parameters = {
        "TrainingDataArns": "arn:aws:s3:::others-data/images/*",
        "TrainingDataBucketArns": "arn:aws:s3:::others-data",
        "RolloutOnPush": "ENABLED",
        "OtherRepositoryArns": "arn:aws:ecr:us-east-1:210987654321:repository/others",
    }
    stack = local_stack.deploy(aws.url, name=NAME, parameters=parameters)
    made = Rig(aws, stack, tmp_path_factory.mktemp("served") / "state")
    aws.s3.create_bucket(Bucket="others-data")
    for bucket, key in ((made.names.bucket, "data/1/image.jpg"), ("others-data", "images/image.jpg")):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"an image")
    aws.s3.put_object(Bucket=made.names.bucket, Key="models/m/model.tar.gz", Body=packed(weights=b"w"))
    made.redeploy()
    yield made
    aws.sagemaker.delete_endpoint(EndpointName=NAME)


@pytest.fixture
def without(rig):
    """Takes one statement out of a policy, for the length of a test."""
    iam, before = rig.aws.iam, {}

    def take(part, policy, sid):
        asked = {"RoleName": rig.role(part), "PolicyName": policy}
        whole = iam.get_role_policy(**asked)["PolicyDocument"]
        before.update(asked, PolicyDocument=json.dumps(whole))
        rest = [statement for statement in whole["Statement"] if statement["Sid"] != sid]
        assert len(rest) == len(whole["Statement"]) - 1
        if rest:
            iam.put_role_policy(**asked, PolicyDocument=json.dumps({**whole, "Statement": rest}))
        else:  # IAM takes no policy without statements
            iam.delete_role_policy(**asked)

    yield take
    iam.put_role_policy(**before)


def test_with_all_statements_everything_is_green(rig):
    rig.forget()
    rig.redeploy()
    assert rig.train()["status"] == "SUCCEEDED"
    assert rig.train(elsewhere=True)["status"] == "SUCCEEDED"
    assert rig.pushed() == "SUCCEEDED"
    assert rig.upload() == "predicted"
    assert rig.denied() == []


@pytest.mark.parametrize(("role", "policy", "sid"), STATEMENTS, ids=[f"{role}-{sid}" for role, _, sid in STATEMENTS])
def test_without_any_single_statement_it_is_red(rig, without, role, policy, sid):
    without(role, policy, sid)
    rig.forget()
    red = _red(rig, role, sid)
    assert red, "nothing was missed"
    assert rig.denied(), "it failed for another reason"


def _red(rig, role, sid):
    """What went wrong; empty if nothing did. What is cheap to ask is asked first."""
    try:
        rig.redeploy()
    except (rig.aws.stepfunctions.exceptions.ClientError, rig.aws.client("lambda").exceptions.ClientError) as error:
        return str(error)
    if (role, sid) == ("StateMachineRole", "Notify"):
        rig.fail()
        return [decision.action for decision in rig.denied()]
    if role == "RolloutRole":
        return rig.pushed() == "not started"
    execution = rig.train(elsewhere=sid in OTHER_ONES)
    if execution["status"] != "SUCCEEDED":
        return execution["cause"]
    came = rig.upload()
    return came if came != "predicted" else [decision.action for decision in rig.denied()]
