"""Roles of the local AWS under test: policies in few lines."""

import contextlib
import json


def allow(actions, resources="*", **statement):
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **statement}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(*services):
    principal = {"Service": [f"{name}.amazonaws.com" for name in services]}
    return document({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})


def make_role(iam, name, *statements, trusted):
    """Make a role with one inline policy (another, if it exists); return its ARN. `trusted` are services."""
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(*trusted))
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="it", PolicyDocument=document(*statements))
    return iam.get_role(RoleName=name)["Role"]["Arn"]


JOBS = (
    allow(
        [
            "s3:GetObject",
            "s3:PutObject",
            "s3:ListBucket",
            "logs:*",
            "ecr:*",
            "cloudwatch:PutMetricData",
            "cloudwatch:DescribeAlarms",
        ]
    ),
    allow(["kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant", "ec2:*"]),
)
"""What jobs and instances of most tests may do."""

EXECUTIONS = (allow(["sagemaker:*", "iam:PassRole", "events:*", "application-autoscaling:*", "lambda:*", "s3:*"]),)
"""What executions of most tests may do."""
