"""What an execution needs to exist: bucket, key, network, roles, topic, repositories, function, state machine.

Every call can be repeated: what exists is updated to what is asked for. The names derive from the configuration's
name, so two configurations do not meet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from kennel import contract, references
from kennel.pipeline import ecr, policies
from kennel.pipeline.aws import Aws

FUNCTION_ALIAS = "live"
VARIANT = "AllTraffic"
_ZONES = 2  # an endpoint in a VPC wants two


@dataclass(frozen=True, kw_only=True)
class Names:
    """What everything is called."""

    name: str
    account: str
    region: str

    @property
    def bucket(self) -> str:
        """Data, models, uploads and predictions, each under its prefix."""
        return f"{self.name}-{self.account}-{self.region}"

    @property
    def function(self) -> str:
        """The Lambda function."""
        return f"{self.name}-classify"

    @property
    def state_machine(self) -> str:
        """The state machine."""
        return f"{self.name}-pipeline"

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of ours."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    @property
    def function_arn(self) -> str:
        """Of the function, without a qualifier."""
        return self.arn("lambda", f"function:{self.function}")

    def role_arn(self, part: str) -> str:
        """Of the role of one part: training, serving, function, states."""
        return f"arn:aws:iam::{self.account}:role/{self.name}-{part}"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What exists now."""

    names: Names
    kms_key_arn: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    topic_arn: str
    state_machine_arn: str


def deploy(
    aws: Aws,
    *,
    name: str,
    function_zip: bytes,
    definition: str,
    images: Mapping[str, Sequence[str]],
    reads: tuple[str, ...],
    say: Callable[[str], None],
) -> Resources:
    """Make it all exist; `say` is told each step.

    `images` are the training and the serving images, which their roles may pull; `reads` are s3:// prefixes of
    others that training reads.
    """
    names = Names(name=name, account=aws.account, region=aws.region)
    say(f"bucket {names.bucket}")
    _bucket(aws, names)
    say("key, network and topic")
    kms_key_arn = _key(aws, name)
    subnets, security_groups = _network(aws, name)
    topic_arn = aws.client("sns").create_topic(Name=f"{name}-failures")["TopicArn"]
    say("roles")
    granted = policies.by_role(
        names,
        topic_arn=topic_arn,
        kms_key_arn=kms_key_arn,
        repositories=_repositories(aws, names, images),
        reads=reads,
    )
    for part, policy in granted.items():
        _role(aws, names, part, policy)
    say(f"function {names.function}")
    _function(aws, names, function_zip)
    say(f"state machine {names.state_machine}")
    state_machine_arn = _state_machine(aws, names, definition)
    return Resources(
        names=names,
        kms_key_arn=kms_key_arn,
        subnets=subnets,
        security_groups=security_groups,
        topic_arn=topic_arn,
        state_machine_arn=state_machine_arn,
    )


def _unless(code: str, call: Callable[..., Any], **parameters: Any) -> bool:
    """Make the call; whether it went through. False when AWS answers with the error `code`."""
    try:
        call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise
        return False
    return True


def _bucket(aws: Aws, names: Names) -> None:
    s3 = aws.client("s3")
    # us-east-1 is the one region that may not be named
    place = {} if names.region == "us-east-1" else {"LocationConstraint": names.region}
    _unless(
        "BucketAlreadyOwnedByYou",
        s3.create_bucket,
        Bucket=names.bucket,
        **({"CreateBucketConfiguration": place} if place else {}),
    )
    blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=names.bucket, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True))
    s3.put_bucket_versioning(Bucket=names.bucket, VersioningConfiguration={"Status": "Enabled"})


def _key(aws: Aws, name: str) -> str:
    kms, alias = aws.client("kms"), f"alias/{name}"
    for page in kms.get_paginator("list_aliases").paginate():
        for item in page["Aliases"]:
            if item["AliasName"] == alias:
                return str(kms.describe_key(KeyId=item["TargetKeyId"])["KeyMetadata"]["Arn"])
    key = kms.create_key(Description=f"{name}: volumes of endpoints")["KeyMetadata"]
    kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    return str(key["Arn"])


def _network(aws: Aws, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A VPC without a way out but to S3: two subnets in two zones, one security group whose members may talk."""
    ec2 = aws.client("ec2")
    tagged = {"Name": "tag:kennel", "Values": [name]}
    tags = [{"Key": "kennel", "Value": name}, {"Key": "Name", "Value": name}]
    if vpcs := ec2.describe_vpcs(Filters=[tagged])["Vpcs"]:
        vpc = vpcs[0]["VpcId"]
    else:
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=[_tag("vpc", tags)])["Vpc"]["VpcId"]
    # each part by itself: an earlier deployment may have ended half-way
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = ec2.describe_subnets(Filters=inside)["Subnets"]
    zones = [zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"][:_ZONES]]
    for number, zone in enumerate(zones):
        if zone not in [subnet["AvailabilityZone"] for subnet in subnets]:
            created = ec2.create_subnet(
                VpcId=vpc,
                CidrBlock=f"10.0.{number}.0/24",
                AvailabilityZone=zone,
                TagSpecifications=[_tag("subnet", tags)],
            )
            subnets.append(created["Subnet"])
    group = _security_group(ec2, name, vpc, tags)
    if not ec2.describe_vpc_endpoints(Filters=inside)["VpcEndpoints"]:
        tables = ec2.describe_route_tables(Filters=inside)["RouteTables"]
        ec2.create_vpc_endpoint(
            VpcId=vpc,
            ServiceName=f"com.amazonaws.{aws.region}.s3",
            VpcEndpointType="Gateway",
            RouteTableIds=[table["RouteTableId"] for table in tables],
        )
    return tuple(sorted(subnet["SubnetId"] for subnet in subnets)), (group,)


def _security_group(ec2: Any, name: str, vpc: str, tags: list[dict[str, str]]) -> str:
    """The group of that name in the VPC, whose members may talk to each other and nobody else to them."""
    named = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": [name]}]
    if found := ec2.describe_security_groups(Filters=named)["SecurityGroups"]:
        group = str(found[0]["GroupId"])
    else:
        group = ec2.create_security_group(
            GroupName=name,
            Description="hosts of one job, instances of one endpoint",
            VpcId=vpc,
            TagSpecifications=[_tag("security-group", tags)],
        )["GroupId"]
    _unless(
        "InvalidPermission.Duplicate",
        ec2.authorize_security_group_ingress,
        GroupId=group,
        IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}],
    )
    return group


def _tag(kind: str, tags: list[dict[str, str]]) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": tags}


def _repositories(aws: Aws, names: Names, images: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The ARNs of the images' repositories. One without a registry is ours, and can be pushed to from now on."""
    found: dict[str, list[str]] = {}
    for part, references_ in images.items():
        parsed = [references.parse(image) for image in references_]
        for reference in parsed:
            if not reference.registry:
                ecr.ensure_repository(aws, reference.repository)
        arns = (ecr.repository_arn(reference, account=names.account, region=names.region) for reference in parsed)
        found[part] = sorted({*arns})
    return found


def _role(aws: Aws, names: Names, part: str, policy: dict[str, Any]) -> None:
    iam, role = aws.client("iam"), f"{names.name}-{part}"
    _unless(
        "EntityAlreadyExists",
        iam.create_role,
        RoleName=role,
        AssumeRolePolicyDocument=json.dumps(policies.trust(part)),
    )
    iam.put_role_policy(RoleName=role, PolicyName=part, PolicyDocument=json.dumps(policy))


def _function(aws: Aws, names: Names, code: bytes) -> None:
    functions = aws.client("lambda")
    created = _unless(
        "ResourceConflictException",
        functions.create_function,
        FunctionName=names.function,
        Runtime="python3.11",
        Role=names.role_arn("function"),
        Handler="classify.handler",
        Code={"ZipFile": code},
        Timeout=30,
        MemorySize=256,
        TracingConfig={"Mode": "Active"},
    )
    if not created:
        functions.update_function_code(FunctionName=names.function, ZipFile=code)
        functions.get_waiter("function_updated_v2").wait(FunctionName=names.function)
    functions.get_waiter("function_active_v2").wait(FunctionName=names.function)
    try:
        functions.get_alias(FunctionName=names.function, Name=FUNCTION_ALIAS)
    except functions.exceptions.ResourceNotFoundException:
        version = functions.publish_version(FunctionName=names.function)["Version"]
        functions.create_alias(FunctionName=names.function, Name=FUNCTION_ALIAS, FunctionVersion=version)
    _unless(
        "ResourceConflictException",
        functions.add_permission,
        FunctionName=names.function,
        Qualifier=FUNCTION_ALIAS,
        StatementId="uploads",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{names.bucket}",
        SourceAccount=names.account,
    )


def _state_machine(aws: Aws, names: Names, definition: str) -> str:
    states = aws.client("stepfunctions")
    arn = names.arn("states", f"stateMachine:{names.state_machine}")
    asked = {"definition": definition, "roleArn": names.role_arn("states")}
    # first: creating what exists is an error only on AWS, and there only if the definition differs
    if not _unless("StateMachineDoesNotExist", states.update_state_machine, stateMachineArn=arn, **asked):
        states.create_state_machine(name=names.state_machine, **asked)
    return arn


def remove_what_costs(aws: Aws, *, name: str, say: Callable[[str], None]) -> None:
    """Remove what is paid by the hour: the endpoint, its scaling, provisioned concurrency. The rest stays."""
    names = Names(name=name, account=aws.account, region=aws.region)
    resource = f"endpoint/{name}/variant/{VARIANT}"
    steps: list[tuple[str, Callable[[], Any]]] = [
        (
            f"scaling of {resource}",
            lambda: aws.client("application-autoscaling").deregister_scalable_target(
                ServiceNamespace="sagemaker",
                ResourceId=resource,
                ScalableDimension="sagemaker:variant:DesiredInstanceCount",
            ),
        ),
        (f"endpoint {name}", lambda: aws.client("sagemaker").delete_endpoint(EndpointName=name)),
        (
            f"provisioned concurrency of {names.function}",
            lambda: aws.client("lambda").delete_provisioned_concurrency_config(
                FunctionName=names.function, Qualifier=FUNCTION_ALIAS
            ),
        ),
    ]
    for what, remove in steps:
        try:
            remove()
        except ClientError as error:
            say(f"{what}: {error.response['Error']['Message']}")
        else:
            say(f"{what}: removed")


def uploads_notification(names: Names) -> dict[str, Any]:
    """S3's notification of the function's alias about new objects under uploads/."""
    return {
        "LambdaFunctionConfigurations": [
            {
                "Id": "uploads",
                "LambdaFunctionArn": f"{names.function_arn}:{FUNCTION_ALIAS}",
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": contract.UPLOADS_PREFIX}]}},
            }
        ]
    }
