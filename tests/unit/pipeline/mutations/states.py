"""The state machine's definition."""

from deployed import appends, both, drops, sets

from mutations.mutation import flow

TRIAL = "TuneHyperparameters/Parameters/TrainingJobDefinition"
TRAIN = "TrainModel/Parameters"

JOBS = [
    *(
        mutation
        for name, request in (
            ("TuneHyperparameters", TRIAL),
            ("TrainModel", TRAIN),
            ("CreateModel", "CreateModel/Parameters"),
        )
        for mutation in (
            flow(f"{name}: isolation off", "isolated", sets(f"{request}/EnableNetworkIsolation", False)),
            flow(f"{name}: isolation removed", "isolated", drops(f"{request}/EnableNetworkIsolation")),
            flow(
                f"{name}: isolation as the input says",
                "isolated",
                both(
                    drops(f"{request}/EnableNetworkIsolation"),
                    sets(f"{request}/EnableNetworkIsolation.$", "$.Network.Isolation"),
                ),
            ),
            flow(f"{name}: no VpcConfig", "in-network", drops(f"{request}/VpcConfig")),
            flow(
                f"{name}: no security groups",
                "in-network valid-requests",
                drops(f"{request}/VpcConfig/SecurityGroupIds.$"),
            ),
        )
    ),
    *(
        mutation
        for name, request, settings in (("TuneHyperparameters", TRIAL, "$.Tuning"), ("TrainModel", TRAIN, "$.Training"))
        for mutation in (
            flow(
                f"{name}: in the clear between hosts",
                "encrypted-between-hosts",
                sets(f"{request}/EnableInterContainerTrafficEncryption", False),
            ),
            flow(
                f"{name}: between hosts left out",
                "encrypted-between-hosts",
                drops(f"{request}/EnableInterContainerTrafficEncryption"),
            ),
            flow(
                f"{name}: unencrypted volume",
                "encrypted-volumes",
                sets(f"{request}/ResourceConfig.$", f"{settings}.ResourceConfig"),
            ),
            flow(
                f"{name}: unencrypted output",
                "encrypted-output",
                drops(f"{request}/OutputDataConfig/KmsKeyId.$"),
            ),
            flow(
                f"{name}: no StoppingCondition",
                "task-timeouts" + (" valid-requests" if name == "TuneHyperparameters" else ""),
                drops(f"{request}/StoppingCondition.$"),
            ),
        )
    ),
    flow(
        "something else is merged into the hosts",
        "encrypted-volumes",
        sets(f"{TRAIN}/ResourceConfig.$", "States.JsonMerge($.Training.ResourceConfig, $.Training.Spot, false)"),
    ),
    flow(
        "a training role whatever the input says",
        "passed-roles",
        both(drops(f"{TRAIN}/RoleArn.$"), sets(f"{TRAIN}/RoleArn", "arn:aws:iam::123456789012:role/admin")),
    ),
    flow("endpoint: unencrypted volume", "encrypted-volumes", drops("CreateEndpointConfig/Parameters/KmsKeyId.$")),
    flow("update without alarms", "rollback-alarms", drops("UpdateEndpoint/Parameters/DeploymentConfig.$")),
    flow(
        "a role whatever the input says",
        "passed-roles policy-is-used",
        both(
            drops("CreateModel/Parameters/ExecutionRoleArn.$"),
            sets("CreateModel/Parameters/ExecutionRoleArn", "arn:aws:iam::123456789012:role/admin"),
        ),
    ),
    flow(
        "a role of another place of the input",
        "policy-covers-calls",
        sets("CreateModel/Parameters/ExecutionRoleArn.$", "$.Other.RoleArn"),
    ),
]

TASKS = [
    flow("Task without Retry", "task-retries", drops("PutScalingPolicy/Retry")),
    flow("Retry without jitter", "task-retries", drops("CreateModel/Retry/0/JitterStrategy")),
    flow("Retry without backing off", "task-retries", sets("CreateModel/Retry/0/BackoffRate", 1.0)),
    flow("Retry without a bound", "task-retries", sets("CreateModel/Retry/0/MaxAttempts", 1000)),
    flow("Retry after any delay", "task-retries", drops("CreateModel/Retry/0/MaxDelaySeconds")),
    flow("a job that failed is repeated", "task-retries", sets("TrainModel/Retry/0/ErrorEquals", ["States.ALL"])),
    flow(
        "a job that failed is repeated, among others",
        "task-retries",
        appends("TrainModel/Retry/0/ErrorEquals", "States.TaskFailed"),
    ),
    flow(
        "Task with another role",
        "known-integrations",
        sets("Notify/Credentials", {"RoleArn": "arn:aws:iam::999999999999:role/theirs"}),
    ),
    flow("Task without Catch", "task-catches", drops("PublishVersion/Catch")),
    flow("Catch of some failures", "task-catches", sets("PublishVersion/Catch/0/ErrorEquals", ["States.Timeout"])),
    flow("Catch that loses the input", "task-catches", drops("PublishVersion/Catch/0/ResultPath")),
    flow("nobody is told of a failure", "failures-are-told", sets("CreateModel/Catch/0/Next", "Failed")),
    flow("Task without time limit", "task-timeouts", drops("CreateEndpoint/TimeoutSeconds")),
    flow("Task with an hour", "task-timeouts", sets("SmokeTest/TimeoutSeconds", 3600)),
    flow(
        "unknown integration",
        "known-integrations policy-covers-calls",
        sets("SmokeTest/Resource", "arn:aws:states:::http:invoke"),
    ),
    flow(
        "a function called by its ARN",
        "known-integrations policy-covers-calls",
        sets("SmokeTest/Resource", "arn:aws:lambda:us-east-1:1:function:x"),
    ),
    flow(
        "an operation that AWS does not have",
        "known-integrations policy-covers-calls",
        sets("PublishVersion/Resource", "arn:aws:states:::aws-sdk:lambda:publishVersions"),
    ),
    flow(
        "waiting for what cannot be waited for",
        "known-integrations task-timeouts policy-covers-calls",
        sets("CreateModel/Resource", "arn:aws:states:::sagemaker:createModel.sync"),
    ),
    flow(
        "waiting by an SDK's call",
        "known-integrations task-timeouts policy-covers-calls",
        sets("FindEndpoint/Resource", "arn:aws:states:::aws-sdk:sagemaker:describeEndpoint.sync"),
    ),
    flow("unknown member", "valid-requests", sets("CreateModel/Parameters/Modelname.$", "$.Deployment.Name")),
    flow("unknown member below", "valid-requests", sets(f"{TRAIN}/VpcConfig/Subnet.$", "$.Network.Subnets")),
    flow("missing member", "valid-requests", drops("CreateModel/Parameters/ModelName.$")),
    flow("wrong enum", "valid-requests", sets("RegisterScalableTarget/Parameters/ServiceNamespace", "sage")),
    flow(
        "below its bound",
        "valid-requests",
        sets("CreateEndpointConfig/Parameters/ProductionVariants/0/InitialVariantWeight", -1),
    ),
    flow(
        "wrong type",
        "valid-requests",
        sets("CreateEndpointConfig/Parameters/ProductionVariants/0/InitialVariantWeight", "1"),
    ),
    flow("given twice", "valid-requests", sets("ConfigureFunction/Parameters/Timeout", 30)),
]

STRUCTURE = [
    flow("first state is missing", "transitions reachable", sets("/StartAt", "Begin")),
    flow("Choice to nowhere", "transitions reachable", sets("EndpointMissing?/Choices/0/Next", "CreateEndpoints")),
    flow("Default to nowhere", "transitions reachable", sets("GoodEnough?/Default", "Refused")),
    flow("Next to nowhere", "transitions reachable", sets("PointAlias/Next", "Nowhere")),
    flow("Catch to nowhere", "transitions failures-are-told", sets("PublishVersion/Catch/0/Next", "Nowhere")),
    flow("unreachable state", "reachable", sets("/States/Lost", {"Type": "Pass", "Next": "Failed"})),
    flow("dead end", "ends", drops("SmokeTestFailed/Next")),
    flow("a state ends and goes on", "ends", sets("Notify/End", True)),
    flow("a failure ends as a success", "ends", both(drops("Notify/Next"), sets("Notify/End", True))),
    flow("Choice without Default", "ends reachable", drops("GoodEnough?/Default")),
    flow(
        "states of a kind that the rules do not read",
        "transitions",
        sets("NameDeployment/Type", "Map"),
    ),
    flow("polling without a limit", "bounded-waits", drops("EndpointReady?/Choices/2")),
    flow(
        "polls are not counted", "bounded-waits", sets("CountEndpointPoll/Parameters/Count.$", "$.EndpointPolls.Count")
    ),
    flow("the limit of polling polls on", "bounded-waits", sets("EndpointReady?/Choices/2/Next", "CountEndpointPoll")),
    flow(
        "a limit that can be missed",
        "bounded-waits",
        sets(
            "EndpointReady?/Choices/2",
            {
                "Variable": "$.EndpointPolls.Count",
                "NumericEqualsPath": "$.Endpoint.MaxPolls",
                "Next": "EndpointNotInService",
            },
        ),
    ),
    flow(
        "a wait of a day",
        "bounded-waits",
        both(drops("WaitForEndpoint/SecondsPath"), sets("WaitForEndpoint/Seconds", 86_400)),
    ),
    flow(
        "a state that goes back to itself",
        "bounded-waits",
        sets("EndpointRolledBack?/Choices/0/Next", "EndpointRolledBack?"),
    ),
]
