"""Reads the resources of a stack back through the services' own APIs, in the template's terms; and lists what is left.

`READERS`: type → (stack, physical id, the properties that were asked for) → properties as the service tells them.
`LISTED`: type → stack → names of all that the account has.
"""

import json


def _policy(text):
    return json.loads(text)


def _tags(tags):
    return [{"Key": tag["Key"], "Value": tag["Value"]} for tag in tags if not tag["Key"].startswith("aws:")]


def key(stack, name, _said):
    kms = stack.client("kms")
    found = kms.describe_key(KeyId=name)["KeyMetadata"]
    return {
        "Description": found["Description"],
        "KeyPolicy": _policy(kms.get_key_policy(KeyId=name, PolicyName="default")["Policy"]),
        "EnableKeyRotation": kms.get_key_rotation_status(KeyId=name)["KeyRotationEnabled"],
    }


def key_alias(stack, name, _said):
    aliases = {alias["AliasName"]: alias for alias in stack.client("kms").list_aliases()["Aliases"]}
    return {"AliasName": name, "TargetKeyId": aliases[name]["TargetKeyId"]}


def bucket(stack, name, _said):
    s3 = stack.client("s3")
    encryption = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    logging = s3.get_bucket_logging(Bucket=name).get("LoggingEnabled")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    return {
        "BucketName": name,
        "VersioningConfiguration": {"Status": s3.get_bucket_versioning(Bucket=name)["Status"]},
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {
                    **({"BucketKeyEnabled": True} if rule["BucketKeyEnabled"] else {}),
                    "ServerSideEncryptionByDefault": rule["ApplyServerSideEncryptionByDefault"],
                }
                for rule in encryption
            ]
        },
        "PublicAccessBlockConfiguration": s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
        "OwnershipControls": s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"],
        "LoggingConfiguration": logging
        and {"DestinationBucketName": logging["TargetBucket"], "LogFilePrefix": logging["TargetPrefix"]},
        "LifecycleConfiguration": {"Rules": [_lifecycle(rule) for rule in rules]},
    }


def _lifecycle(rule):
    rule = dict(rule)
    prefix = rule.pop("Filter").get("Prefix")
    days = rule.pop("Expiration", {}).get("Days")
    return {
        "Id": rule.pop("ID"),
        **({"Prefix": prefix} if prefix else {}),
        **({"ExpirationInDays": days} if days else {}),
        **rule,
    }


def bucket_policy(stack, name, _said):
    return {"Bucket": name, "PolicyDocument": _policy(stack.client("s3").get_bucket_policy(Bucket=name)["Policy"])}


def vpc(stack, name, _said):
    ec2 = stack.client("ec2")
    (found,) = ec2.describe_vpcs(VpcIds=[name])["Vpcs"]
    dns = {
        written: ec2.describe_vpc_attribute(VpcId=name, Attribute=asked)[written]["Value"]
        for written, asked in (("EnableDnsSupport", "enableDnsSupport"), ("EnableDnsHostnames", "enableDnsHostnames"))
    }
    return {"CidrBlock": found["CidrBlock"], "Tags": _tags(found["Tags"]), **dns}


def subnet(stack, name, _said):
    (found,) = stack.client("ec2").describe_subnets(SubnetIds=[name])["Subnets"]
    return {**found, "Tags": _tags(found["Tags"])}


def route_table(stack, name, _said):
    (found,) = stack.client("ec2").describe_route_tables(RouteTableIds=[name])["RouteTables"]
    return {**found, "Tags": _tags(found["Tags"])}


def route_table_association(stack, name, _said):
    tables = stack.client("ec2").describe_route_tables()["RouteTables"]
    return next(a for table in tables for a in table["Associations"] if a["RouteTableAssociationId"] == name)


def security_group(stack, name, _said):
    ec2 = stack.client("ec2")
    (found,) = ec2.describe_security_groups(GroupIds=[name])["SecurityGroups"]
    own = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [name]}])["SecurityGroupRules"]
    others = {
        physical_id for kind, physical_id, _ in said_of(stack).values() if kind.startswith("AWS::EC2::SecurityGroup")
    }
    rules = [rule for rule in own if rule["SecurityGroupRuleId"] not in others]
    return {
        "GroupDescription": found["Description"],
        "VpcId": found["VpcId"],
        "Tags": _tags(found["Tags"]),
        "SecurityGroupIngress": [_rule(rule, "Source") for rule in rules if not rule["IsEgress"]],
        "SecurityGroupEgress": [_rule(rule, "Destination") for rule in rules if rule["IsEgress"]],
    }


def _rule(rule, side):
    told = {key: rule[key] for key in ("IpProtocol", "FromPort", "ToPort", "Description") if key in rule}
    if "PrefixListId" in rule:
        return {**told, f"{side}PrefixListId": rule["PrefixListId"]}
    if "ReferencedGroupInfo" in rule:
        return {**told, f"{side}SecurityGroupId": rule["ReferencedGroupInfo"]["GroupId"]}
    return {**told, "CidrIp": rule["CidrIpv4"]}


def security_group_rule(stack, name, _said):
    (found,) = stack.client("ec2").describe_security_group_rules(SecurityGroupRuleIds=[name])["SecurityGroupRules"]
    side = "DestinationSecurityGroupId" if found["IsEgress"] else "SourceSecurityGroupId"
    return {**found, side: found["ReferencedGroupInfo"]["GroupId"]}


def vpc_endpoint(stack, name, _said):
    (found,) = stack.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[name])["VpcEndpoints"]
    return {
        **found,
        "PolicyDocument": _policy(found["PolicyDocument"]),
        "SecurityGroupIds": [group["GroupId"] for group in found["Groups"]],
    }


def repository(stack, name, _said):
    ecr = stack.client("ecr")
    (found,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    return {
        "RepositoryName": found["repositoryName"],
        "ImageTagMutability": found["imageTagMutability"],
        "ImageScanningConfiguration": {"ScanOnPush": found["imageScanningConfiguration"]["scanOnPush"]},
        "EncryptionConfiguration": {"EncryptionType": found["encryptionConfiguration"]["encryptionType"]},
        "LifecyclePolicy": {
            "LifecyclePolicyText": ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]
        },
    }


def role(stack, name, said):
    iam = stack.client("iam")
    found = iam.get_role(RoleName=name)["Role"]
    names = [policy["PolicyName"] for policy in said.get("Policies", [])]
    return {
        **found,
        "Policies": [{"PolicyName": policy, "PolicyDocument": role_policy(stack, name, policy)} for policy in names],
    }


def role_policy(stack, role_name, policy):
    return stack.client("iam").get_role_policy(RoleName=role_name, PolicyName=policy)["PolicyDocument"]


def policy_of_roles(stack, _name, said):
    documents = [role_policy(stack, role_name, said["PolicyName"]) for role_name in said["Roles"]]
    assert all(document == documents[0] for document in documents)
    return {"PolicyName": said["PolicyName"], "Roles": said["Roles"], "PolicyDocument": documents[0]}


def instance_profile(stack, name, _said):
    found = stack.client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    return {**found, "Roles": [role_["RoleName"] for role_ in found["Roles"]]}


def log_group(stack, name, _said):
    (found,) = stack.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return {"LogGroupName": name, "RetentionInDays": found["retentionInDays"], "KmsKeyId": found["kmsKeyId"]}


def log_policy(stack, name, _said):
    policies = stack.client("logs").describe_resource_policies()["resourcePolicies"]
    document = next(policy["policyDocument"] for policy in policies if policy["policyName"] == name)
    return {"PolicyName": name, "PolicyDocument": document}


def queue(stack, name, _said):
    return stack.client("sqs").get_queue_attributes(QueueUrl=name, AttributeNames=["All"])["Attributes"] | {
        "QueueName": name.rpartition("/")[2]
    }


def queue_policy(stack, _name, said):
    (url,) = said["Queues"]
    return {"Queues": [url], "PolicyDocument": _policy(queue(stack, url, said)["Policy"])}


def topic(stack, name, _said):
    found = stack.client("sns").get_topic_attributes(TopicArn=name)["Attributes"]
    return {**found, "TopicName": found["TopicArn"].rpartition(":")[2]}


def topic_policy(stack, _name, said):
    (arn,) = said["Topics"]
    return {"Topics": [arn], "PolicyDocument": _policy(topic(stack, arn, said)["Policy"])}


def function(stack, name, _said):
    found = stack.client("lambda").get_function(FunctionName=name)["Configuration"]
    vpc_config = found.get("VpcConfig", {})
    return {
        **found,
        "LoggingConfig": {"LogGroup": found.get("LoggingConfig", {}).get("LogGroup")},
        "VpcConfig": {key: vpc_config.get(key) for key in ("SubnetIds", "SecurityGroupIds")},
    }


def function_version(stack, name, _said):
    found = stack.client("lambda").get_function(FunctionName=name)["Configuration"]
    return {"FunctionName": found["FunctionName"]}


def function_alias(stack, _name, said):
    found = stack.client("lambda").get_alias(FunctionName=said["FunctionName"], Name=said["Name"])
    return {**found, "FunctionName": said["FunctionName"]}


def invoke_config(stack, _name, said):
    where = {"FunctionName": said["FunctionName"], "Qualifier": said["Qualifier"]}
    found = stack.client("lambda").get_function_event_invoke_config(**where)
    on_failure = found["DestinationConfig"]["OnFailure"]
    return {**found, **where, "DestinationConfig": {"OnFailure": on_failure}}


def permission(stack, name, said):
    function_, _, qualifier = said["FunctionName"].rpartition(":function:")[2].partition(":")
    policy = _policy(stack.client("lambda").get_policy(FunctionName=function_, Qualifier=qualifier)["Policy"])
    (found,) = [statement for statement in policy["Statement"] if statement["Sid"] == name]
    return {
        "FunctionName": found["Resource"],
        "Action": found["Action"],
        "Principal": found["Principal"]["Service"],
        "SourceArn": found["Condition"]["ArnLike"]["AWS:SourceArn"],
        "SourceAccount": found["Condition"]["StringEquals"]["AWS:SourceAccount"],
    }


def state_machine(stack, name, said):
    found = stack.client("stepfunctions").describe_state_machine(stateMachineArn=name)
    location = said["DefinitionS3Location"]
    stored = stack.client("s3").get_object(Bucket=location["Bucket"], Key=location["Key"])["Body"].read().decode()
    return {
        "StateMachineName": found["name"],
        "StateMachineType": found["type"],
        "RoleArn": found["roleArn"],
        "DefinitionS3Location": location if found["definition"] == stored else found["definition"],
        "LoggingConfiguration": capitalized(found["loggingConfiguration"]),
        "TracingConfiguration": capitalized(found["tracingConfiguration"]),
    }


def capitalized(value):
    if isinstance(value, dict):
        return {f"{key[0].upper()}{key[1:]}": capitalized(item) for key, item in value.items()}
    return [capitalized(item) for item in value] if isinstance(value, list) else value


def rule(stack, name, _said):
    events = stack.client("events")
    found = events.describe_rule(Name=name)
    targets = events.list_targets_by_rule(Rule=name)["Targets"]
    return {**found, "EventPattern": _policy(found["EventPattern"]), "Targets": targets}


def alarm(stack, name, _said):
    (found,) = stack.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return found


def launch_template(stack, name, _said):
    ec2 = stack.client("ec2")
    (found,) = ec2.describe_launch_templates(LaunchTemplateIds=[name])["LaunchTemplates"]
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=name, Versions=["$Latest"])
    return {**found, "LaunchTemplateData": versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]}


READERS = {
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::EC2::LaunchTemplate": launch_template,
    "AWS::EC2::RouteTable": route_table,
    "AWS::EC2::SecurityGroup": security_group,
    "AWS::EC2::SecurityGroupEgress": security_group_rule,
    "AWS::EC2::SecurityGroupIngress": security_group_rule,
    "AWS::EC2::Subnet": subnet,
    "AWS::EC2::SubnetRouteTableAssociation": route_table_association,
    "AWS::EC2::VPC": vpc,
    "AWS::EC2::VPCEndpoint": vpc_endpoint,
    "AWS::ECR::Repository": repository,
    "AWS::Events::Rule": rule,
    "AWS::IAM::InstanceProfile": instance_profile,
    "AWS::IAM::Policy": policy_of_roles,
    "AWS::IAM::Role": role,
    "AWS::KMS::Alias": key_alias,
    "AWS::KMS::Key": key,
    "AWS::Lambda::Alias": function_alias,
    "AWS::Lambda::EventInvokeConfig": invoke_config,
    "AWS::Lambda::Function": function,
    "AWS::Lambda::Permission": permission,
    "AWS::Lambda::Version": function_version,
    "AWS::Logs::LogGroup": log_group,
    "AWS::Logs::ResourcePolicy": log_policy,
    "AWS::S3::Bucket": bucket,
    "AWS::S3::BucketPolicy": bucket_policy,
    "AWS::SNS::Topic": topic,
    "AWS::SNS::TopicPolicy": topic_policy,
    "AWS::SQS::Queue": queue,
    "AWS::SQS::QueuePolicy": queue_policy,
    "AWS::StepFunctions::StateMachine": state_machine,
}


def said_of(stack):
    """Logical id → (type, physical id, the properties that were last asked for), out of the events."""
    said = {}
    for event in stack.events():
        if event["ResourceStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE") and event.get("ResourceProperties"):
            asked = json.loads(event["ResourceProperties"])
            said[event["LogicalResourceId"]] = (event["ResourceType"], event["PhysicalResourceId"], asked)
    return said


def same(said, found):
    """Whether two values are the same, text or not: templates write `"true"` and `true`."""
    if isinstance(said, dict) and isinstance(found, dict):
        return said.keys() == found.keys() and all(same(said[key], found[key]) for key in said)
    if isinstance(said, list) and isinstance(found, list):
        return len(said) == len(found) and all(same(one, other) for one, other in zip(said, found, strict=True))
    return str(said).lower() == str(found).lower() or _is_number(said, found)


def _is_number(said, found):
    try:
        return float(said) == float(found)
    except (TypeError, ValueError):
        return False


def differences(stack):
    """(type, property) → (asked for, found), for everything that the services do not tell as it was asked for."""
    different = {}
    for kind, physical_id, asked in said_of(stack).values():
        found = READERS[kind](stack, physical_id, asked)
        for name, value in asked.items():
            if not same(value, found.get(name)):
                different[kind, name] = (value, found.get(name))
    return different


def _names(found, key):
    return [item[key] for item in found]


def _usable_keys(stack):
    """A key is deleted days after it was asked for, on AWS and here: what counts is that it is scheduled."""
    kms = stack.client("kms")
    states = {key["KeyId"]: kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]}
    return [name for name, told in states.items() if told["KeyState"] != "PendingDeletion"]


def _role_policies(stack):
    iam = stack.client("iam")
    roles = _names(iam.list_roles()["Roles"], "RoleName")
    return [f"{name}/{policy}" for name in roles for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]]


LISTED = {
    "alarms": lambda s: _names(s.client("cloudwatch").describe_alarms()["MetricAlarms"], "AlarmName"),
    "aliases": lambda s: _names(s.client("kms").list_aliases()["Aliases"], "AliasName"),
    "buckets": lambda s: _names(s.client("s3").list_buckets()["Buckets"], "Name"),
    "functions": lambda s: _names(s.client("lambda").list_functions()["Functions"], "FunctionArn"),
    "instance profiles": lambda s: _names(
        s.client("iam").list_instance_profiles()["InstanceProfiles"], "InstanceProfileName"
    ),
    "keys": _usable_keys,
    "launch templates": lambda s: _names(
        s.client("ec2").describe_launch_templates()["LaunchTemplates"], "LaunchTemplateId"
    ),
    "log groups": lambda s: _names(s.client("logs").describe_log_groups()["logGroups"], "logGroupName"),
    "log policies": lambda s: _names(s.client("logs").describe_resource_policies()["resourcePolicies"], "policyName"),
    "queues": lambda s: s.client("sqs").list_queues().get("QueueUrls", []),
    "repositories": lambda s: _names(s.client("ecr").describe_repositories()["repositories"], "repositoryName"),
    "role policies": _role_policies,
    "roles": lambda s: _names(s.client("iam").list_roles()["Roles"], "RoleName"),
    "route tables": lambda s: _names(s.client("ec2").describe_route_tables()["RouteTables"], "RouteTableId"),
    "rules": lambda s: _names(s.client("events").list_rules()["Rules"], "Name"),
    "security groups": lambda s: _names(s.client("ec2").describe_security_groups()["SecurityGroups"], "GroupId"),
    "security group rules": lambda s: _names(
        s.client("ec2").describe_security_group_rules()["SecurityGroupRules"], "SecurityGroupRuleId"
    ),
    "state machines": lambda s: _names(
        s.client("stepfunctions").list_state_machines()["stateMachines"], "stateMachineArn"
    ),
    "subnets": lambda s: _names(s.client("ec2").describe_subnets()["Subnets"], "SubnetId"),
    "topics": lambda s: _names(s.client("sns").list_topics()["Topics"], "TopicArn"),
    "VPC endpoints": lambda s: [
        found["VpcEndpointId"]
        for found in s.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
        if found["State"] != "deleted"
    ],
    "VPCs": lambda s: _names(s.client("ec2").describe_vpcs()["Vpcs"], "VpcId"),
}
"""What versions, aliases, permissions and settings belong to goes with it, and is not listed for itself."""


def everything(stack):
    """{(sort, name)} of all that the account has of the sorts that the template knows."""
    return {(sort, name) for sort, listed in LISTED.items() for name in listed(stack)}
