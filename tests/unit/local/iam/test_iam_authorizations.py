"""What each call needs, as the Service Authorization Reference and the services' guides have it."""

import pytest
from fake_facts import ACCOUNT, KEY, REGION, FakeFacts

from kennel.local.iam.access import Call
from kennel.local.iam.authorizations import needed

ROLE = f"arn:aws:iam::{ACCOUNT}:role/jobs"


def sagemaker(kind):
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}"


def accesses(service, operation, facts=None, /, **parameters):
    call = Call(service=service, operation=operation, parameters=parameters, region=REGION, account=ACCOUNT)
    return needed(call, facts or FakeFacts())


def pairs(*arguments, **parameters):
    return [(access.action, access.resource) for access in accesses(*arguments, **parameters)]


def test_a_training_job_passes_its_role_to_sagemaker_and_hands_on_its_volumes_key():
    found = accesses(
        "sagemaker",
        "CreateTrainingJob",
        TrainingJobName="My-Job",
        RoleArn=ROLE,
        ResourceConfig={"VolumeKmsKeyId": "one"},
    )
    assert [(access.action, access.resource) for access in found] == [
        ("sagemaker:CreateTrainingJob", sagemaker("training-job/my-job")),
        ("iam:PassRole", ROLE),
        ("kms:CreateGrant", KEY),
        ("kms:DescribeKey", KEY),
    ]
    assert found[1].context["iam:PassedToService"] == "sagemaker.amazonaws.com"
    assert found[2].context["kms:GrantIsForAWSResource"] == "true"
    assert found[0].context["sagemaker:VolumeKmsKey"] == KEY


def test_tags_on_a_new_resource_need_add_tags_and_are_in_the_context():
    found = accesses("sagemaker", "CreateModel", ModelName="m", Tags=[{"Key": "team", "Value": "red"}])
    assert [access.action for access in found] == ["sagemaker:CreateModel", "sagemaker:AddTags"]
    assert found[1].context == {"aws:TagKeys": ["team"], "aws:RequestTag/team": "red"}


def test_a_tuning_job_passes_the_role_of_its_trials():
    definition = {"RoleArn": ROLE, "ResourceConfig": {"InstanceType": "ml.m5.large"}, "EnableNetworkIsolation": True}
    found = accesses(
        "sagemaker", "CreateHyperParameterTuningJob", HyperParameterTuningJobName="t", TrainingJobDefinition=definition
    )
    assert [(access.action, access.resource) for access in found] == [
        ("sagemaker:CreateHyperParameterTuningJob", sagemaker("hyper-parameter-tuning-job/t")),
        ("iam:PassRole", ROLE),
    ]
    assert found[0].context["sagemaker:InstanceTypes"] == ["ml.m5.large"]
    assert found[0].context["sagemaker:NetworkIsolation"] == "true"


def test_an_endpoint_is_made_of_an_endpoint_and_its_configuration():
    for operation in ("CreateEndpoint", "UpdateEndpoint"):
        assert pairs("sagemaker", operation, EndpointName="e", EndpointConfigName="c") == [
            (f"sagemaker:{operation}", sagemaker("endpoint/e")),
            (f"sagemaker:{operation}", sagemaker("endpoint-config/c")),
        ]
    assert pairs("sagemaker-runtime", "InvokeEndpoint", EndpointName="e") == [
        ("sagemaker:InvokeEndpoint", sagemaker("endpoint/e"))
    ]


def test_the_key_of_an_endpoints_volumes_is_handed_on():
    variant = {"InstanceType": "ml.m5.large"}
    found = pairs(
        "sagemaker", "CreateEndpointConfig", EndpointConfigName="c", KmsKeyId=KEY, ProductionVariants=[variant]
    )
    assert found[1:] == [("kms:CreateGrant", KEY), ("kms:DescribeKey", KEY)]


def test_scaling_asks_for_the_endpoint_its_alarms_and_the_service_linked_role():
    target = {
        "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/e/variant/v",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }  # fmt: skip
    scaling = "application-autoscaling"
    arn = f"arn:aws:{scaling}:{REGION}:{ACCOUNT}:scalable-target/endpoint/e/variant/v"
    linked = (
        "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    )
    assert pairs(scaling, "RegisterScalableTarget", FakeFacts(configs={"e": "c"}), **target) == [
        (f"{scaling}:RegisterScalableTarget", arn),
        ("sagemaker:DescribeEndpoint", sagemaker("endpoint/e")),
        ("sagemaker:UpdateEndpointWeightsAndCapacities", sagemaker("endpoint/e")),
        ("sagemaker:DescribeEndpointConfig", sagemaker("endpoint-config/c")),
        ("iam:CreateServiceLinkedRole", f"arn:aws:iam::{ACCOUNT}:role/{linked}"),
    ]
    found = pairs(scaling, "PutScalingPolicy", **target)
    assert found[0] == (f"{scaling}:PutScalingPolicy", arn)
    assert {action for action, _ in found[1:]} == {
        "cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms",
    }  # fmt: skip
    alarms = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:TargetTracking-endpoint/e/variant/v-"
    assert all(alarm.startswith(alarms) for _, alarm in found[1:])


def test_objects_of_an_encrypted_bucket_need_its_key_too():
    facts = FakeFacts(bucket_keys={"b": KEY}, object_keys={("b", "k"): KEY})
    arn = "arn:aws:s3:::b/k"
    assert pairs("s3", "GetObject", facts, Bucket="b", Key="k") == [("s3:GetObject", arn), ("kms:Decrypt", KEY)]
    assert pairs("s3", "PutObject", facts, Bucket="b", Key="k") == [("s3:PutObject", arn), ("kms:GenerateDataKey", KEY)]
    assert pairs("s3", "PutObject", facts, Bucket="b", Key="k", ServerSideEncryption="AES256") == [
        ("s3:PutObject", arn)
    ]
    assert pairs("s3", "UploadPart", facts, Bucket="b", Key="k") == [
        ("s3:PutObject", arn), ("kms:GenerateDataKey", KEY), ("kms:Decrypt", KEY),
    ]  # fmt: skip
    (_, decrypt) = accesses("s3", "GetObject", facts, Bucket="b", Key="k")
    assert decrypt.context["kms:ViaService"] == f"s3.{REGION}.amazonaws.com"
    assert decrypt.context["kms:EncryptionContext:aws:s3:arn"] == arn


def test_a_copy_reads_what_it_copies():
    facts = FakeFacts(object_keys={("from", "a b"): KEY})
    assert pairs("s3", "CopyObject", facts, Bucket="to", Key="k", CopySource="from/a%20b") == [
        ("s3:PutObject", "arn:aws:s3:::to/k"), ("s3:GetObject", "arn:aws:s3:::from/a b"), ("kms:Decrypt", KEY),
    ]  # fmt: skip


def test_a_listing_tells_its_prefix():
    (access,) = accesses("s3", "ListObjectsV2", Bucket="b", Prefix="data/")
    assert (access.action, access.resource) == ("s3:ListBucket", "arn:aws:s3:::b")
    assert access.context == {"s3:prefix": "data/"}


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "action", "resource"),
    [
        ("s3", "HeadObject", {"Bucket": "b", "Key": "k"}, "s3:GetObject", "arn:aws:s3:::b/k"),
        ("s3", "GetObject", {"Bucket": "b", "Key": "k", "VersionId": "v"}, "s3:GetObjectVersion", "arn:aws:s3:::b/k"),
        ("s3", "PutBucketNotificationConfiguration", {"Bucket": "b"}, "s3:PutBucketNotification", "arn:aws:s3:::b"),
        ("lambda", "Invoke", {"FunctionName": "f", "Qualifier": "v"}, "lambda:InvokeFunction", "lambda:function:f:v"),
        ("lambda", "Invoke", {"FunctionName": "a:b:function:f:v"}, "lambda:InvokeFunction", "lambda:function:f:v"),
        ("lambda", "UpdateAlias", {"FunctionName": "f", "Name": "live"}, "lambda:UpdateAlias", "lambda:function:f"),
        ("sqs", "SendMessage", {"QueueUrl": "http://localhost:1/123456789012/q"}, "sqs:SendMessage", "sqs:q"),
        ("logs", "CreateLogGroup", {"logGroupName": "/g"}, "logs:CreateLogGroup", "logs:log-group:/g:log-stream:"),
        ("cloudwatch", "PutMetricAlarm", {"AlarmName": "a"}, "cloudwatch:PutMetricAlarm", "cloudwatch:alarm:a"),
        ("events", "PutRule", {"Name": "r"}, "events:PutRule", "events:rule/r"),
        ("ecr", "BatchGetImage", {"repositoryName": "r"}, "ecr:BatchGetImage", "ecr:repository/r"),
        ("ecr", "GetAuthorizationToken", {}, "ecr:GetAuthorizationToken", "*"),
        ("kms", "Decrypt", {"KeyId": "one"}, "kms:Decrypt", "kms:key/one"),
        ("sagemaker", "ListTags", {"ResourceArn": "arn:x"}, "sagemaker:ListTags", "arn:x"),
        ("ec2", "DescribeVpcs", {}, "ec2:DescribeVpcs", "*"),
    ],
)  # fmt: skip
def test_most_calls_need_one_action_on_what_they_name(service, operation, parameters, action, resource):
    if resource != "*" and not resource.startswith("arn:"):
        kind, _, name = resource.partition(":")
        resource = f"arn:aws:{kind}:{REGION}:{ACCOUNT}:{name}"
    assert pairs(service, operation, **parameters) == [(action, resource)]


def test_an_encrypted_topic_or_queue_needs_its_key_of_who_sends():
    topic, queue = f"arn:aws:sns:{REGION}:{ACCOUNT}:t", f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
    facts = FakeFacts(topic_keys={topic: KEY}, queue_keys={queue: KEY})
    key = [("kms:GenerateDataKey", KEY), ("kms:Decrypt", KEY)]
    assert pairs("sns", "Publish", facts, TopicArn=topic) == [("sns:Publish", topic), *key]
    assert pairs("sqs", "SendMessage", facts, QueueUrl="http://x/1/q") == [("sqs:SendMessage", queue), *key]


@pytest.mark.parametrize(
    ("service", "operation"),
    [("sagemaker", "CreateProcessingJob"), ("s3", "DeleteBucket"), ("lambda", "CreateFunction"), ("iam", "CreateRole")],
)
def test_what_is_in_no_table_is_unknown(service, operation):
    assert accesses(service, operation, FunctionName="f", Bucket="b") is None
