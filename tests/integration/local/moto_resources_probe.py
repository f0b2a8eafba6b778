"""Asks moto how it keeps what a stack is made of, in a process of its own; `patched` applies our changes first.

Prints one JSON object: probe → what was seen.
"""

import io
import json
import os
import sys
import zipfile

import boto3
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

TLS_ONLY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": "arn:aws:s3:::tls/*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ],
}
TEMPLATE = {
    "Resources": {
        "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "one"}},
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "one"}, "DependsOn": "Topic"},
    }
}


def outcome(call, **parameters):
    try:
        call(**parameters)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "done"


def buckets(s3):
    for name in ("logged", "logs", "tls"):
        s3.create_bucket(Bucket=name)
    enabled = {"LoggingEnabled": {"TargetBucket": "logs", "TargetPrefix": ""}}
    seen = {"logging": outcome(s3.put_bucket_logging, Bucket="logged", BucketLoggingStatus=enabled)}
    allowed = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::logs/*",
    }
    s3.put_bucket_policy(Bucket="logs", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    s3.put_bucket_logging(Bucket="logged", BucketLoggingStatus=enabled)
    s3.list_objects_v2(Bucket="logged")
    s3.put_bucket_policy(Bucket="tls", Policy=json.dumps(TLS_ONLY))
    seen["lines"] = s3.list_objects_v2(Bucket="logs")["KeyCount"]
    return seen | {"conditional": outcome(s3.put_object, Bucket="tls", Key="k", Body=b"x")}


def queue_policy(sqs):
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
    return "Policy" in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def function(iam, functions):
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("f.py", "def handler(*_): pass")
    role = iam.create_role(RoleName="role", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    functions.create_function(
        FunctionName="f",
        Runtime="python3.11",
        Role=role,
        Handler="f.handler",
        Code={"ZipFile": code.getvalue()},
        LoggingConfig={"LogGroup": "mine"},
    )
    made = functions.get_function_configuration(FunctionName="f").get("LoggingConfig", {}).get("LogGroup")
    changes = {"TracingConfig": {"Mode": "Active"}, "LoggingConfig": {"LogGroup": "other"}}
    functions.update_function_configuration(FunctionName="f", **changes)
    found = functions.get_function_configuration(FunctionName="f")
    return [made, found.get("LoggingConfig", {}).get("LogGroup"), found["TracingConfig"]["Mode"]]


def rule_descriptions(ec2):
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    port = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
    prefixes = {**port, "PrefixListIds": [{"PrefixListId": "pl-1", "Description": "prefixes"}]}
    groups = {**port, "UserIdGroupPairs": [{"GroupId": group, "Description": "groups"}]}
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[prefixes, groups])
    of_group = [{"Name": "group-id", "Values": [group]}]
    rules = ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]
    return sorted(rule["Description"] for rule in rules if rule.get("Description"))


def cloudformation(client):
    """What moto's own CloudFormation tells of two resources, and what types of ours it does not know."""
    from moto.cloudformation.parsing import get_model_map

    from kennel.local.cloudformation.resources.table import KINDS

    api = client("cloudformation")
    api.create_stack(StackName="one", TemplateBody=json.dumps(TEMPLATE))
    told = {event["LogicalResourceId"] for event in api.describe_stack_events(StackName="one")["StackEvents"]}
    return {"told": sorted(told), "unknown": sorted(KINDS.keys() - get_model_map().keys())}


def main():
    if sys.argv[1:] == ["patched"]:
        from kennel.local.moto_patches import buckets as s3
        from kennel.local.moto_patches import lambda_functions, queues, security_groups

        for part in (s3, lambda_functions, queues, security_groups):
            part.apply()
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]

    def client(service):
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        return boto3.client(service, endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", **keys)

    seen = {
        **buckets(client("s3")),
        "queue": queue_policy(client("sqs")),
        "function": function(client("iam"), client("lambda")),
        "rules": rule_descriptions(client("ec2")),
        "cloudformation": cloudformation(client),
    }
    print(json.dumps(seen))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
