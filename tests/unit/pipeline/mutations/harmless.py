"""Changes that are right: no rule may mind them."""

from deployed import appends, both, drops, sets

from mutations.mutation import REF, SUB, allow, flow, infra

NONE = ""

HARMLESS = [
    infra(
        "what a role may not do is written by what it may",
        NONE,
        appends(
            "FunctionRole/Policies/0/PolicyDocument/Statement",
            {"Effect": "Deny", "NotAction": "s3:*", "Resource": {SUB: "${Bucket.Arn}"}},
        ),
    ),
    infra(
        "the bucket lets a role of the stack in",
        NONE,
        appends(
            "BucketPolicy/PolicyDocument/Statement",
            allow(
                "s3:GetObject",
                {SUB: "${Bucket.Arn}/uploads/*"},
                Principal={"AWS": {"Fn::GetAtt": ["FunctionRole", "Arn"]}},
            ),
        ),
    ),
    infra(
        "the function is in the network whatever the parameter says",
        NONE,
        sets(
            "Function/VpcConfig",
            {"SubnetIds": [{REF: "SubnetA"}, {REF: "SubnetB"}], "SecurityGroupIds": [{REF: "FunctionSecurityGroup"}]},
        ),
    ),
    infra(
        "data of executions is never logged",
        NONE,
        sets("StateMachine/LoggingConfiguration/IncludeExecutionData", False),
    ),
    flow(
        "the volume's key is in the request itself",
        NONE,
        both(
            drops("TrainModel/Parameters/ResourceConfig.$"),
            sets(
                "TrainModel/Parameters/ResourceConfig",
                {"InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 50, "VolumeKmsKeyId.$": "$.Network.KmsKeyId"},
            ),
        ),
    ),
    flow(
        "the time between polls is fixed",
        NONE,
        both(drops("WaitForEndpoint/SecondsPath"), sets("WaitForEndpoint/Seconds", 30)),
    ),
]
