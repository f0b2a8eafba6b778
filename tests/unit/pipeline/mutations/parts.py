"""The function, the state machine as a resource, alarms, instances, and the template as a whole."""

from typing import Any

from deployed import both, drops, sets, with_size

from mutations.mutation import REF, SUB, Mutation, infra, resource

LAUNCH = "TrainingInstance/LaunchTemplateData"
TARGET = "RolloutOfPushedImage/Targets/0"
DETAIL = "RolloutOfPushedImage/EventPattern/detail"
ELSEWHERE = "arn:aws:states:us-east-1:999999999999:stateMachine:theirs"


def delivery(name: str, **changes: Any) -> Mutation:
    """The policy of the state machine's log with some of its statement changed."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "delivery.logs.amazonaws.com"},
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": {SUB: "${StateMachineLog.Arn}"},
        "Condition": {"StringEquals": {"aws:SourceAccount": {REF: "AWS::AccountId"}}},
    }
    policy = {"Statement": [{**statement, **changes}]}
    return infra(name, "machine-log-delivery", sets("StateMachineLogDelivery/PolicyDocument", policy))


FUNCTION = [
    infra("no on-failure destination", "function-failures known-types", drops("/Resources/FunctionFailures")),
    infra(
        "failures go to a queue that is not there",
        "function-failures",
        sets("FunctionFailures/DestinationConfig/OnFailure/Destination", "arn:aws:sqs:us-east-1:1:gone"),
    ),
    infra(
        "no failure queue",
        "function-failures rollout-target known-types own-resources",
        both(drops("/Resources/FailureQueue"), drops("/Resources/FailureQueuePolicy")),
    ),
    infra("failures of another function", "function-failures", sets("FunctionFailures/FunctionName", "other")),
    infra("failures of another qualifier", "function-failures", sets("FunctionFailures/Qualifier", "$LATEST")),
    infra("the function is not traced", "function-tracing", drops("Function/TracingConfig")),
    infra("the function is outside the VPC", "function-network two-subnets", drops("Function/VpcConfig")),
    infra(
        "the network depends on another condition", "function-network", sets("Function/VpcConfig/Fn::If/0", "OtherData")
    ),
    infra("the network is off by default", "function-network", sets("/Parameters/Network/Default", "off")),
    infra(
        "the function without a security group",
        "function-network",
        drops("Function/VpcConfig/Fn::If/1/SecurityGroupIds"),
    ),
    infra("Lambda makes the log by itself", "function-log", drops("Function/LoggingConfig")),
    infra("no SourceArn", "function-permission", drops("UploadsInvokeFunction/SourceArn")),
    infra("no SourceAccount", "function-permission", drops("UploadsInvokeFunction/SourceAccount")),
    infra("any bucket", "function-permission", sets("UploadsInvokeFunction/SourceArn", "arn:aws:s3:::*")),
    infra(
        "the function instead of its alias",
        "function-permission",
        sets("UploadsInvokeFunction/FunctionName", {REF: "Function"}),
    ),
    infra("anybody may invoke", "function-permission", sets("UploadsInvokeFunction/Principal", "*")),
    infra("S3 may do anything to it", "function-permission", sets("UploadsInvokeFunction/Action", "lambda:*")),
]

MACHINE = [
    infra(
        "no log of executions",
        "machine-logging machine-log-data machine-log-delivery",
        drops("StateMachine/LoggingConfiguration"),
    ),
    infra("errors only are logged", "machine-logging", sets("StateMachine/LoggingConfiguration/Level", "ERROR")),
    infra("logging is off", "machine-logging", sets("StateMachine/LoggingConfiguration/Level", "OFF")),
    infra(
        "executions are logged elsewhere",
        "machine-logging machine-log-delivery",
        sets(
            "StateMachine/LoggingConfiguration/Destinations/0/CloudWatchLogsLogGroup/LogGroupArn",
            "arn:aws:logs:us-east-1:999999999999:log-group:theirs:*",
        ),
    ),
    infra(
        "data is always logged",
        "machine-log-data",
        sets("StateMachine/LoggingConfiguration/IncludeExecutionData", True),
    ),
    infra(
        "data is logged by default",
        "machine-log-data",
        sets("/Parameters/LogExecutionData/Default", "true"),
    ),
    infra("executions are not traced", "machine-tracing", sets("StateMachine/TracingConfiguration/Enabled", False)),
    infra("logs cannot be delivered", "machine-log-delivery known-types", drops("/Resources/StateMachineLogDelivery")),
    delivery("log delivery may write every log", Resource="*"),
    delivery("log delivery is denied", Effect="Deny"),
    delivery("log delivery by another service", Principal={"Service": "logs.amazonaws.com"}),
    delivery("log delivery may delete logs, too", Action=["logs:CreateLogStream", "logs:DeleteLogStream"]),
    infra("alarm tells nobody", "alarms-act", sets("FunctionErrors/AlarmActions", [])),
    infra("alarm's actions are off", "alarms-act", sets("FailedExecutions/ActionsEnabled", False)),
    infra("alarm missing", "alarms-exist", drops("/Resources/FunctionThrottles")),
    infra("alarm of another metric", "alarms-exist", sets("FailedExecutions/MetricName", "ExecutionsStarted")),
    infra("alarm of the endpoint missing", "alarms-exist rollback-alarms", drops("/Resources/EndpointFaults")),
    infra(
        "one alarm rolls back",
        "rollback-alarms",
        sets("/Outputs/EndpointAlarms/Value", {REF: "EndpointFaults"}),
    ),
    infra(
        "the alarm watches another endpoint",
        "rollback-alarms",
        sets("EndpointLatency/Dimensions/Name=EndpointName/Value", "other"),
    ),
    infra("any push starts a rollout", "rollout-pattern", drops(f"{DETAIL}/repository-name")),
    infra("any repository", "rollout-pattern", sets(f"{DETAIL}/repository-name", ["theirs"])),
    infra("deleted images start one, too", "rollout-pattern", sets(f"{DETAIL}/action-type", ["PUSH", "DELETE"])),
    infra("rollouts are on by default", "rollout-pattern", sets("/Parameters/RolloutOnPush/Default", "ENABLED")),
    infra("the rule starts another state machine", "rollout-target", sets(f"{TARGET}/Arn", ELSEWHERE)),
    infra(
        "the rule has the state machine's role",
        "rollout-target",
        sets(f"{TARGET}/RoleArn", {"Fn::GetAtt": ["StateMachineRole", "Arn"]}),
    ),
    infra("events that were not delivered are lost", "rollout-target", drops(f"{TARGET}/DeadLetterConfig")),
    infra(
        "the rule's role may stop executions, too",
        "rollout-target",
        sets(
            "RolloutRole/Policies/0/PolicyDocument/Statement/0/Action",
            ["states:StartExecution", "states:StopExecution"],
        ),
    ),
]

INSTANCES = [
    infra("IMDSv1", "instance-metadata", sets(f"{LAUNCH}/MetadataOptions/HttpTokens", "optional")),
    infra(
        "two hops to the metadata", "instance-metadata", sets(f"{LAUNCH}/MetadataOptions/HttpPutResponseHopLimit", 2)
    ),
    infra("disk unencrypted", "instance-disk", sets(f"{LAUNCH}/BlockDeviceMappings/0/Ebs/Encrypted", False)),
    infra("disk with AWS's key", "instance-disk", drops(f"{LAUNCH}/BlockDeviceMappings/0/Ebs/KmsKeyId")),
    infra("disk stays", "instance-disk", sets(f"{LAUNCH}/BlockDeviceMappings/0/Ebs/DeleteOnTermination", False)),
    infra("disk as the image says", "instance-disk", drops(f"{LAUNCH}/BlockDeviceMappings")),
    infra(
        "public address of the instance",
        "instance-network",
        sets(f"{LAUNCH}/NetworkInterfaces/0/AssociatePublicIpAddress", True),
    ),
    infra("instance in another subnet", "instance-network", sets(f"{LAUNCH}/NetworkInterfaces/0/SubnetId", "subnet-1")),
    infra("instance in no group", "instance-network", sets(f"{LAUNCH}/NetworkInterfaces/0/Groups", [])),
    infra("instance in another group", "instance-network", sets(f"{LAUNCH}/NetworkInterfaces/0/Groups", ["sg-1"])),
    infra("instance in the default network", "instance-network", drops(f"{LAUNCH}/NetworkInterfaces")),
    infra("instance stays", "instance-ends", sets(f"{LAUNCH}/InstanceInitiatedShutdownBehavior", "stop")),
    infra(
        "instance with the serving role",
        "instance-rights",
        sets("TrainingInstanceProfile/Roles", [{REF: "ServingRole"}]),
    ),
    infra("instance without a role", "instance-rights", drops(f"{LAUNCH}/IamInstanceProfile")),
]

GENERAL = [
    infra("resources that a macro makes", "known-types", sets("/Transform", "AWS::Serverless-2016-10-31")),
    infra("a user with keys", "known-types", resource("User", "AWS::IAM::User")),
    infra("a public URL of the function", "known-types", resource("Url", "AWS::Lambda::Url", AuthType="NONE")),
    infra("a fixed name", "stack-names", sets("FailureQueue/QueueName", "failures")),
    infra("no name", "stack-names", drops("FailureTopic/TopicName")),
    infra("the bucket stays", "nothing-left-behind", sets("/Resources/Bucket/DeletionPolicy", "Retain")),
    infra("data is lost when replaced", "nothing-left-behind", drops("/Resources/Bucket/UpdateReplacePolicy")),
    infra("undocumented parameter", "documented-parameters", drops("/Parameters/Release/Description")),
    infra(
        "a password in a parameter",
        "no-secrets",
        sets("/Parameters/DbPassword", {"Type": "String", "Default": "x", "Description": "Of the data base."}),
    ),
    infra(
        "a key of AWS in the function's environment",
        "no-secrets",
        sets("Function/Environment/Variables/KEY", "AKIA" + "ABCDEFGHIJKLMNOP"),
    ),
    Mutation(name="template too large", caught_by=frozenset({"template-size"}), spoiled=lambda: with_size(51_200)),
]
