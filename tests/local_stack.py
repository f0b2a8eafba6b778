"""Deploys statemachine/infrastructure.yaml to a local AWS through CloudFormation, in two steps, by change sets."""

import itertools
import time
from pathlib import Path

import boto3
from botocore.config import Config

from kennel.pipeline.function_package import function_zip

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "statemachine" / "infrastructure.yaml"
DEFINITION = ROOT / "statemachine" / "pipeline.asl.json"
PREFIX_LIST = "pl-63a5400a"
RELEASE = "releases/abc/"
NUMBERS = itertools.count(1)


class Refused(AssertionError):
    """A change set without changes, or a stack that did not become what was wanted."""


class Stack:
    """A stack of a local AWS, by its name."""

    def __init__(self, url, name="kennel", region="us-east-1"):
        self.url = url
        self.name = name
        self.region = region
        self._clients = {}

    def client(self, service):
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=self.region,
                aws_access_key_id="owner",
                aws_secret_access_key="owner",
                config=Config(retries={"total_max_attempts": 1}, proxies={}),
            )
        return self._clients[service]

    @property
    def api(self):
        return self.client("cloudformation")

    def plan(self, body, kind="UPDATE", **parameters):
        """Make a change set; its description."""
        made = self.api.create_change_set(
            StackName=self.name,
            ChangeSetName=f"change-{next(NUMBERS)}",
            ChangeSetType=kind,
            TemplateBody=body,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        return self.api.describe_change_set(ChangeSetName=made["Id"])

    def change(self, body, kind="UPDATE", **parameters):
        """Make a change set and execute it; the stack afterwards, whatever it became. Raises Refused for no changes."""
        planned = self.plan(body, kind, **parameters)
        if planned["Status"] != "CREATE_COMPLETE":
            raise Refused(planned["StatusReason"])
        self.api.execute_change_set(ChangeSetName=planned["ChangeSetId"])
        return self.settled(planned["StackId"])

    def delete(self):
        stack_id = self.described()["StackId"]
        self.api.delete_stack(StackName=self.name)
        return self.settled(stack_id)

    def described(self, name=None):
        return self.api.describe_stacks(StackName=name or self.name)["Stacks"][0]

    def settled(self, stack_id, seconds=60):
        deadline = time.monotonic() + seconds
        while (found := self.described(stack_id))["StackStatus"].endswith("_IN_PROGRESS"):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    def events(self, stack_id=None):
        """The oldest first."""
        return self.api.describe_stack_events(StackName=stack_id or self.name)["StackEvents"][::-1]

    def failures(self):
        return [
            f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
            for event in self.events()
            if event["ResourceStatus"].endswith("_FAILED")
        ]

    def ids(self):
        """Logical id → physical id of what there is."""
        listed = self.api.list_stack_resources(StackName=self.name)["StackResourceSummaries"]
        there = [r for r in listed if r["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED")]
        return {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in there}

    def outputs(self):
        return {output["OutputKey"]: output["OutputValue"] for output in self.described().get("Outputs", [])}

    def put_release(self, release=RELEASE, *, code=None, definition=None):
        s3, bucket = self.client("s3"), self.outputs()["BucketName"]
        s3.put_object(Bucket=bucket, Key=f"{release}function.zip", Body=code or function_zip(ROOT))
        s3.put_object(Bucket=bucket, Key=f"{release}pipeline.asl.json", Body=definition or DEFINITION.read_bytes())

    def empty_buckets(self):
        s3, ids = self.client("s3"), self.ids()
        for bucket in (ids["Bucket"], ids["LogsBucket"]):
            listed = s3.list_object_versions(Bucket=bucket)
            for version in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
                s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def deploy(url, *, name="kennel", parameters=None, release=True, region="us-east-1", body=None):
    """The deployed `Stack`. With `release`, the function and the state machine are there, too."""
    stack = Stack(url, name, region)
    body = body or TEMPLATE.read_text()
    given = {"S3PrefixList": PREFIX_LIST, **(parameters or {})}
    made = stack.change(body, "CREATE", **given)
    if made["StackStatus"] != "CREATE_COMPLETE":
        raise Refused(f"{made['StackStatus']}: {stack.failures()}")
    if release:
        stack.put_release()
        made = stack.change(body, **{**given, "Release": RELEASE})
        if made["StackStatus"] != "UPDATE_COMPLETE":
            raise Refused(f"{made['StackStatus']}: {stack.failures()}")
    return stack
