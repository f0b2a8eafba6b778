"""Roles: what they may do, and who may take them."""

from deployed import appends, drops, sets

from mutations.mutation import SUB, allow, infra, resource

FUNCTION_POLICY = "FunctionRole/Policies/0/PolicyDocument/Statement"
MACHINE_POLICY = "StateMachineRole/Policies/0/PolicyDocument/Statement"
PASS_ROLES = f"{MACHINE_POLICY}/Sid=PassRolesToSageMaker"
SERVING_POLICY = "ServingRole/Policies/0/PolicyDocument/Statement"
TRAINING_POLICY = "TrainingPolicy/PolicyDocument/Statement"

ROLES = [
    infra(
        "the function has SageMakerFullAccess again",
        "no-managed-policies",
        sets("FunctionRole/ManagedPolicyArns", ["arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"]),
    ),
    infra(
        "a managed policy of our own",
        "no-managed-policies known-types",
        resource("Wide", "AWS::IAM::ManagedPolicy", PolicyDocument={"Statement": []}),
    ),
    infra(
        "the function is administrator, inline",
        "no-star-actions star-resources",
        appends(FUNCTION_POLICY, allow("*", "*")),
    ),
    infra(
        "the function may do anything with its bucket",
        "no-star-actions",
        appends(FUNCTION_POLICY, allow("s3:*", {"Fn::GetAtt": ["Bucket", "Arn"]})),
    ),
    infra(
        "a single letter stands for any",
        "no-star-actions",
        appends(FUNCTION_POLICY, allow("s3:?etObject", {SUB: "${Bucket.Arn}/uploads/*"})),
    ),
    infra(
        "the function reads every secret",
        "star-resources",
        appends(FUNCTION_POLICY, allow("secretsmanager:GetSecretValue", "*")),
    ),
    infra("training reads every object", "star-resources", sets(f"{TRAINING_POLICY}/Sid=ReadData/Resource", "*")),
    infra(
        "training reads every bucket, by another name than *",
        "own-resources",
        sets(f"{TRAINING_POLICY}/Sid=ReadData/Resource", "arn:aws:s3:::*"),
    ),
    infra(
        "training reads every bucket that ends with the stack's name",
        "own-resources",
        sets(f"{TRAINING_POLICY}/Sid=ReadData/Resource", {SUB: "arn:aws:s3:::*${AWS::StackName}/*"}),
    ),
    infra(
        "serving reads a bucket that is not ours",
        "own-resources",
        sets(f"{SERVING_POLICY}/Sid=ReadModels/Resource", "arn:aws:s3:::theirs/models/*"),
    ),
    infra(
        "another action on resources that AWS names",
        "own-resources policy-is-used",
        appends(f"{MACHINE_POLICY}/Sid=FindLogPolicy/Action", "logs:DeleteLogGroup"),
    ),
    infra(
        "the function may do everything but IAM",
        "no-inverted-allow",
        appends(FUNCTION_POLICY, {"Effect": "Allow", "NotAction": "iam:*", "Resource": {SUB: "${Bucket.Arn}"}}),
    ),
    infra(
        "every resource but one",
        "no-inverted-allow",
        appends(FUNCTION_POLICY, {"Effect": "Allow", "Action": "s3:GetObject", "NotResource": {SUB: "${Key.Arn}"}}),
    ),
    infra(
        "any role may be passed",
        "pass-role star-resources policy-covers-calls policy-is-used passed-roles",
        sets(f"{PASS_ROLES}/Resource", ["*"]),
    ),
    infra(
        "any role of the stack may be passed",
        "pass-role policy-covers-calls policy-is-used passed-roles",
        sets(
            f"{PASS_ROLES}/Resource", [{SUB: "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${AWS::StackName}-*"}]
        ),
    ),
    infra(
        "roles may be passed to any service",
        "pass-role policy-covers-calls policy-is-used passed-roles",
        drops(f"{PASS_ROLES}/Condition"),
    ),
    infra(
        "roles may be passed to two services",
        "pass-role policy-covers-calls policy-is-used passed-roles",
        sets(
            f"{PASS_ROLES}/Condition/StringEquals/iam:PassedToService",
            ["sagemaker.amazonaws.com", "lambda.amazonaws.com"],
        ),
    ),
    infra(
        "roles may be passed to any service, by another name",
        "pass-role policy-covers-calls policy-is-used passed-roles",
        sets(f"{PASS_ROLES}/Condition/StringEquals/iam:PassedToService", "*.amazonaws.com"),
    ),
    infra(
        "the state machine's own role may be passed",
        "policy-is-used passed-roles",
        appends(f"{PASS_ROLES}/Resource", {"Fn::GetAtt": ["StateMachineRole", "Arn"]}),
    ),
    infra(
        "anybody may take the function's role",
        "trust-one-service",
        sets("FunctionRole/AssumeRolePolicyDocument/Statement/0/Principal", "*"),
    ),
    infra(
        "any service may take the function's role",
        "trust-one-service",
        sets("FunctionRole/AssumeRolePolicyDocument/Statement/0/Principal/Service", "*"),
    ),
    infra(
        "another account may take the function's role",
        "trust-one-service",
        sets("FunctionRole/AssumeRolePolicyDocument/Statement/0/Principal", {"AWS": "arn:aws:iam::999999999999:root"}),
    ),
    infra(
        "two services may take the function's role",
        "trust-one-service",
        sets(
            "FunctionRole/AssumeRolePolicyDocument/Statement/0/Principal/Service",
            ["lambda.amazonaws.com", "ec2.amazonaws.com"],
        ),
    ),
    infra(
        "sessions of the function's role may be tagged",
        "trust-one-service",
        sets("FunctionRole/AssumeRolePolicyDocument/Statement/0/Action", ["sts:AssumeRole", "sts:TagSession"]),
    ),
    infra(
        "SageMaker may take the serving role for any account",
        "trust-own-account",
        drops("ServingRole/AssumeRolePolicyDocument/Statement/0/Condition"),
    ),
    infra(
        "Lambda may take the serving role instead of SageMaker",
        "passed-roles",
        sets("ServingRole/AssumeRolePolicyDocument/Statement/0/Principal/Service", "lambda.amazonaws.com"),
    ),
]
