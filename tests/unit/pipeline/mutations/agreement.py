"""What template and state machine say of each other."""

from deployed import appends, drops, sets

from mutations.mutation import REF, SUB, allow, flow, infra, resource

MACHINE_POLICY = "StateMachineRole/Policies/0/PolicyDocument/Statement"

AGREEMENT = [
    infra("missing statement", "policy-covers-calls", drops(f"{MACHINE_POLICY}/Sid=Notify")),
    infra(
        "missing action", "policy-covers-calls", sets(f"{MACHINE_POLICY}/Sid=TagJobs/Action", ["sagemaker:ListTags"])
    ),
    infra(
        "roles that may be passed are written in another way than derived",
        "policy-covers-calls policy-is-used",
        sets(
            f"{MACHINE_POLICY}/Sid=PassRolesToSageMaker/Resource",
            [{"Fn::GetAtt": ["ServingRole", "Arn"]}, {"Fn::GetAtt": ["TrainingRole", "Arn"]}],
        ),
    ),
    infra(
        "statement denies", "policy-covers-calls policy-is-used", sets(f"{MACHINE_POLICY}/Sid=Notify/Effect", "Deny")
    ),
    infra(
        "unused statement",
        "policy-is-used",
        appends(MACHINE_POLICY, allow("s3:DeleteObject", {SUB: "${Bucket.Arn}/models/*"})),
    ),
    infra(
        "wider than needed",
        "policy-covers-calls policy-is-used",
        sets(f"{MACHINE_POLICY}/Sid=KeepDeployment/Resource", {SUB: "${Bucket.Arn}/*"}),
    ),
    infra(
        "condition gone",
        "policy-covers-calls policy-is-used",
        drops(f"{MACHINE_POLICY}/Sid=ScaleEndpoint/Condition"),
    ),
    infra(
        "statements in another policy of the same role",
        "policy-is-used",
        resource(
            "More",
            "AWS::IAM::Policy",
            Roles=[{REF: "StateMachineRole"}],
            PolicyDocument={"Statement": allow("s3:GetObject", {SUB: "${Bucket.Arn}/data/*"})},
        ),
    ),
    infra(
        "an unused statement that is there under a condition",
        "policy-is-used",
        appends(
            MACHINE_POLICY,
            {"Fn::If": ["NetworkOn", allow("sns:Publish", {REF: "AWS::StackName"}), {REF: "AWS::NoValue"}]},
        ),
    ),
    flow(
        "a call that is made no more",
        "policy-is-used",
        sets("DeleteEndpoint/Resource", "arn:aws:states:::aws-sdk:sagemaker:describeEndpoint"),
    ),
]
