"""What acts with a role may do what the role's policies allow, and nothing else: each part of the local AWS, really."""

import io
import json
import urllib.error
import urllib.request
import zipfile

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_rig import IMAGE, REGION, ROLE, wait_for
from local_roles import EXECUTIONS, JOBS, allow, document, make_role

TRAINING = "arn:aws:states:::sagemaker:createTrainingJob.sync"
HANDLER = """
import boto3, os

def handler(event, context):
    s3 = boto3.client("s3")
    if event.get("fail"):
        raise RuntimeError("on purpose")
    return s3.get_object(Bucket="bucket", Key=event["key"])["Body"].read().decode()
"""


@pytest.fixture
def session(aws):
    """Makes a client that acts with a role of those statements."""

    def make(service, *statements, name=None, **config):
        role = make_role(aws.iam, name or aws.name("acting"), *statements, trusted=["sagemaker"])
        signing = aws.server.roles.assume(role, service="sagemaker.amazonaws.com", name="test").session.credentials
        return boto3.client(
            service,
            endpoint_url=aws.url,
            region_name=REGION,
            aws_access_key_id=signing.access_key_id,
            aws_secret_access_key=signing.secret_access_key,
            aws_session_token=signing.session_token,
            config=Config(retries={"total_max_attempts": 1}, proxies={}, **config),
        )

    return make


def denial(call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return response["Error"]["Code"], response["Error"].get("Message", "")


def run(aws, role, *states):
    """Run the states as an execution of that role; its description in the end."""
    names = [f"S{number}" for number in range(len(states))]
    chain = {
        name: {"Type": "Task", **state, **({"Next": following} if following else {"End": True})}
        for name, state, following in zip(names, states, [*names[1:], ""], strict=True)
    }
    machine = aws.stepfunctions.create_state_machine(
        name=aws.name("machine"), definition=json.dumps({"StartAt": "S0", "States": chain}), roleArn=role
    )
    arn = aws.stepfunctions.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    return wait_for(
        lambda: aws.stepfunctions.describe_execution(executionArn=arn), lambda found: found["status"] != "RUNNING"
    )


# --- requests -------------------------------------------------------------------------------------


def test_a_session_may_do_what_its_role_is_allowed_and_the_owner_everything(aws, session):
    s3 = session("s3", allow("s3:GetObject", "arn:aws:s3:::bucket/allowed/*"))
    for key in ("allowed/1", "other/1"):
        aws.s3.put_object(Bucket="bucket", Key=key, Body=b"it")
    assert s3.get_object(Bucket="bucket", Key="allowed/1")["Body"].read() == b"it"
    code, message = denial(s3.get_object, Bucket="bucket", Key="other/1")
    assert code == "AccessDenied"
    assert "is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::bucket/other/1" in message
    assert denial(s3.put_object, Bucket="bucket", Key="allowed/1", Body=b"x" * 300_000)[0] == "AccessDenied"
    assert aws.s3.get_object(Bucket="bucket", Key="allowed/1")["Body"].read() == b"it"


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "code"),
    [
        ("s3", "list_objects_v2", {"Bucket": "bucket"}, "AccessDenied"),
        ("sagemaker", "describe_endpoint", {"EndpointName": "e"}, "AccessDeniedException"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "e", "Body": b"x"}, "AccessDeniedException"),
        ("lambda", "invoke", {"FunctionName": "f"}, "AccessDeniedException"),
        ("sns", "publish", {"TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": "m"}, "AuthorizationError"),
        ("sqs", "send_message", {"QueueUrl": "http://x/1/q", "MessageBody": "m"}, "AccessDenied"),
        ("ec2", "describe_vpcs", {}, "UnauthorizedOperation"),
        ("logs", "create_log_group", {"logGroupName": "g"}, "AccessDeniedException"),
        ("cloudwatch", "put_metric_data", {"Namespace": "n", "MetricData": []}, "AccessDeniedException"),
        ("events", "put_rule", {"Name": "r", "ScheduleExpression": "rate(1 day)"}, "AccessDeniedException"),
        ("kms", "describe_key", {"KeyId": "k"}, "AccessDeniedException"),
        ("ecr", "get_authorization_token", {}, "AccessDeniedException"),
        ("application-autoscaling", "describe_scaling_policies", {"ServiceNamespace": "ecs"}, "AccessDeniedException"),
        ("stepfunctions", "start_execution", {"stateMachineArn": "arn:aws:states:x"}, "AccessDeniedException"),
    ],
)  # fmt: skip
def test_every_service_says_a_denial_in_its_own_words(session, service, operation, parameters, code):
    found, message = denial(getattr(session(service), operation), **parameters)
    assert found == code
    assert "because no identity-based policy allows" in message


def test_what_the_local_aws_does_not_know_is_denied_to_roles_and_named(session):
    code, message = denial(session("iam", allow("*")).list_roles)
    assert (code, "iam:ListRoles" in message) == ("AccessDenied", True)


def test_a_request_without_what_it_is_about_is_refused_to_roles(session):
    sagemaker = session("sagemaker", allow("*"), parameter_validation=False)
    with pytest.raises(ClientError, match=r"ValidationException.*EndpointName"):
        sagemaker.describe_endpoint()


def test_asking_who_one_is_needs_no_permission(session):
    assert session("sts").get_caller_identity()["Account"] == "123456789012"


def test_a_request_that_is_allowed_reaches_its_service_whole(aws, session):
    topic = aws.sns.create_topic(Name=aws.name("topic"))["TopicArn"]
    assert session("sns", allow("sns:Publish", topic)).publish(TopicArn=topic, Message="m")["MessageId"]
    queue = aws.sqs.create_queue(QueueName=aws.name("queue"))["QueueUrl"]
    sqs = session("sqs", allow(["sqs:SendMessage", "sqs:ReceiveMessage"]))
    sqs.send_message(QueueUrl=queue, MessageBody="the message")
    assert [message["Body"] for message in sqs.receive_message(QueueUrl=queue)["Messages"]] == ["the message"]
    assert session("ec2", allow("ec2:DescribeVpcs")).describe_vpcs()["Vpcs"]
    s3 = session("s3", allow("s3:*"))
    large = bytes(range(256)) * 40_000
    s3.upload_fileobj(io.BytesIO(large), "bucket", "large")
    assert s3.get_object(Bucket="bucket", Key="large")["Body"].read() == large
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "large"}]})
    assert "Contents" not in aws.s3.list_objects_v2(Bucket="bucket", Prefix="large")


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_what_a_session_has_presigned_is_judged_as_its_own(aws, session, version):
    s3 = session("s3", allow("s3:GetObject", "arn:aws:s3:::bucket/presigned/yes"), signature_version=version)

    def presigned(key):
        aws.s3.put_object(Bucket="bucket", Key=key, Body=b"it")
        return s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": key})

    with urllib.request.urlopen(presigned("presigned/yes"), timeout=10) as answer:
        assert answer.read() == b"it"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(presigned("presigned/no"), timeout=10)
    with caught.value:
        assert caught.value.code == 403


def test_decisions_can_be_read_over_http(aws, session):
    denial(session("s3").get_object, Bucket="bucket", Key="decided")
    with urllib.request.urlopen(f"{aws.url}/_kennel/decisions", timeout=10) as answer:
        decisions = json.loads(answer.read())
    (found,) = [decision for decision in decisions if decision["resource"] == "arn:aws:s3:::bucket/decided"]
    assert (found["action"], found["allowed"], found["statement"]) == ("s3:GetObject", False, "")


def test_attached_policies_count_and_a_boundary_limits_them(aws, session):
    name = aws.name("attached")
    s3 = session("s3", name=name)
    assert denial(s3.list_objects_v2, Bucket="bucket")[0] == "AccessDenied"
    wide, narrow = (
        aws.iam.create_policy(PolicyName=aws.name("policy"), PolicyDocument=document(allow(actions)))["Policy"]["Arn"]
        for actions in ("s3:*", "s3:GetObject")
    )
    aws.iam.attach_role_policy(RoleName=name, PolicyArn=wide)
    s3.list_objects_v2(Bucket="bucket")
    aws.iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=narrow)
    assert denial(s3.list_objects_v2, Bucket="bucket")[0] == "AccessDenied"


def test_a_buckets_policy_denies_what_the_role_allows(aws, session):
    bucket = aws.name("guarded")
    aws.s3.create_bucket(Bucket=bucket)
    s3 = session("s3", allow("s3:*"))
    deny = {
        "Sid": "No",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    secure = {**deny, "Sid": "Tls", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    aws.s3.put_bucket_policy(Bucket=bucket, Policy=document(secure))
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    aws.s3.put_bucket_policy(Bucket=bucket, Policy=document(secure, deny))
    assert "explicit deny" in denial(s3.put_object, Bucket=bucket, Key="k", Body=b"x")[1]


def test_an_encrypted_bucket_asks_for_its_key(aws, session):
    bucket, key = aws.name("encrypted"), aws.kms.create_key()["KeyMetadata"]["Arn"]
    aws.s3.create_bucket(Bucket=bucket)
    default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    aws.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [default]})
    without = session("s3", allow("s3:*"))
    writing = session("s3", allow("s3:*"), allow("kms:GenerateDataKey", key))
    reading = session("s3", allow("s3:*"), allow("kms:Decrypt", key))
    assert "kms:GenerateDataKey" in denial(without.put_object, Bucket=bucket, Key="k", Body=b"x")[1]
    writing.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert "kms:Decrypt" in denial(writing.get_object, Bucket=bucket, Key="k")[1]
    assert reading.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


# --- executions -----------------------------------------------------------------------------------

JOB_STATEMENTS = {
    "Start": allow("sagemaker:CreateTrainingJob"),
    "Watch": allow("sagemaker:DescribeTrainingJob"),
    "Tag": allow("sagemaker:AddTags"),
    "ReadTags": allow("sagemaker:ListTags"),
    "Pass": allow("iam:PassRole", ROLE, Condition={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}),
    "Rule": allow(["events:PutRule", "events:PutTargets", "events:DescribeRule"]),
}


def job_of(aws):
    return {"Resource": TRAINING, "Parameters": {"TrainingJobName": aws.name("job"), **aws.definition("model()")}}


def test_an_execution_that_is_allowed_what_it_does_succeeds_and_its_job_carries_step_functions_tag(aws):
    role = make_role(aws.iam, aws.name("states"), *JOB_STATEMENTS.values(), trusted=["states"])
    task = job_of(aws)
    assert run(aws, role, task)["status"] == "SUCCEEDED"
    job = aws.sagemaker.describe_training_job(TrainingJobName=task["Parameters"]["TrainingJobName"])
    tags = aws.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"}]
    made = {(d.action, d.allowed) for d in aws.server.decisions() if d.role_arn == role}
    assert made >= {("sagemaker:CreateTrainingJob", True), ("iam:PassRole", True), ("sagemaker:ListTags", True)}


@pytest.mark.parametrize("missing", sorted(JOB_STATEMENTS))
def test_without_any_one_of_its_statements_the_execution_fails(aws, missing):
    kept = [statement for name, statement in JOB_STATEMENTS.items() if name != missing]
    role = make_role(aws.iam, aws.name("states"), *kept, trusted=["states"])
    if missing == "Rule":
        with pytest.raises(ClientError, match="is not authorized to create managed-rule"):
            run(aws, role, job_of(aws))
        return
    execution = run(aws, role, job_of(aws))
    assert (execution["status"], execution["error"]) == ("FAILED", "SageMaker.AmazonSageMakerException")
    actions = JOB_STATEMENTS[missing]["Action"]
    assert f"is not authorized to perform: {actions}" in execution["cause"]


def test_a_denied_call_of_an_aws_sdk_task_is_the_services_error(aws):
    role = make_role(aws.iam, aws.name("states"), trusted=["states"])
    task = {"Resource": "arn:aws:states:::aws-sdk:s3:getObject", "Parameters": {"Bucket": "bucket", "Key": "k"}}
    execution = run(aws, role, task)
    assert (execution["status"], execution["error"].partition(".")[0]) == ("FAILED", "S3")
    assert "is not authorized to perform: s3:GetObject" in execution["cause"]


def test_an_execution_whose_role_is_gone_fails(aws):
    name = aws.name("states")
    role = make_role(aws.iam, name, allow("s3:*"), trusted=["states"])
    machine = aws.stepfunctions.create_state_machine(
        name=name,
        definition=json.dumps({"StartAt": "S", "States": {"S": {
            "Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:listBuckets", "Parameters": {}, "End": True,
        }}}),
        roleArn=role,
    )  # fmt: skip
    aws.iam.delete_role_policy(RoleName=name, PolicyName="it")
    aws.iam.delete_role(RoleName=name)
    arn = aws.stepfunctions.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    found = wait_for(
        lambda: aws.stepfunctions.describe_execution(executionArn=arn), lambda found: found["status"] != "RUNNING"
    )
    assert "authorized to assume the provided role" in found["cause"]


# --- jobs and endpoints ---------------------------------------------------------------------------


def job_role(aws, *statements):
    return make_role(aws.iam, aws.name("jobs"), *statements, trusted=["sagemaker"])


AGENT = allow(["logs:*", "ecr:*", "cloudwatch:PutMetricData"])
WRITE = allow("s3:PutObject", "arn:aws:s3:::bucket/out/*")
READ = allow("s3:GetObject", "arn:aws:s3:::bucket/channel/*")
FIND = allow("s3:ListBucket", "arn:aws:s3:::bucket", Condition={"StringLike": {"s3:prefix": "channel*"}})


@pytest.fixture(scope="module")
def channel(aws):
    aws.s3.put_object(Bucket="bucket", Key="channel/1.txt", Body=b"one")
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/channel/"}
    return [{"ChannelName": "training", "DataSource": {"S3DataSource": source}}]


def test_a_job_with_a_sufficient_role_completes(aws, channel):
    job = aws.job("model()", RoleArn=job_role(aws, AGENT, WRITE, READ, FIND), InputDataConfig=channel)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]


@pytest.mark.parametrize(
    ("kept", "action"),
    [
        ((WRITE, READ, FIND), "ecr:GetAuthorizationToken"),
        ((AGENT, READ, FIND), "s3:PutObject"),
        ((AGENT, WRITE, FIND), "s3:GetObject"),
        ((AGENT, WRITE, READ), "s3:ListBucket"),
    ],
)
def test_a_job_that_is_denied_what_it_does_fails_with_the_reason(aws, channel, kept, action):
    aws.job("model()", InputDataConfig=channel)  # what another role has read is not this one's to read
    job = aws.job("model()", RoleArn=job_role(aws, *kept), InputDataConfig=channel)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: ")
    assert "AccessDenied" in job["FailureReason"]
    assert f"is not authorized to perform: {action}" in job["FailureReason"]


def test_a_job_in_a_vpc_needs_its_network_interfaces(aws):
    vpc = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    job = aws.job("model()", RoleArn=job_role(aws, AGENT, WRITE), VpcConfig=vpc)
    assert "is not authorized to perform: ec2:CreateNetworkInterface" in job["FailureReason"]
    job = aws.job("model()", RoleArn=job_role(aws, AGENT, WRITE, allow("ec2:*")), VpcConfig=vpc)
    assert job["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("trusted", [["lambda"], None])
def test_a_role_that_is_missing_or_not_sagemakers_is_refused(aws, trusted):
    role = "arn:aws:iam::123456789012:role/nobody"
    if trusted:
        role = make_role(aws.iam, aws.name("jobs"), *JOBS, trusted=trusted)
    with pytest.raises(ClientError, match="Could not assume role"):
        aws.start_job("model()", RoleArn=role)
    with pytest.raises(ClientError, match="Could not access model data"):
        model(aws, role)


def model(aws, role):
    name = aws.name("model")
    container = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/model.tar.gz"}
    aws.sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    return name


def test_a_model_whose_role_may_not_read_it_is_refused(aws):
    with pytest.raises(ClientError, match=r"s3:GetObject"):
        model(aws, job_role(aws, AGENT))


def test_an_endpoint_whose_role_may_not_pull_its_image_fails_with_the_reason(aws):
    name = model(aws, job_role(aws, allow(["s3:GetObject", "logs:*"])))
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    aws.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    aws.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    found = wait_for(
        lambda: aws.sagemaker.describe_endpoint(EndpointName=name), lambda found: found["EndpointStatus"] != "Creating"
    )
    assert found["EndpointStatus"] == "Failed"
    assert "is not authorized to perform: ecr:GetAuthorizationToken" in found["FailureReason"]
    aws.sagemaker.delete_endpoint(EndpointName=name)


# --- functions ------------------------------------------------------------------------------------


def function(aws, role, **options):
    name, code = aws.name("function"), io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", HANDLER)
    client = aws.client("lambda")
    client.create_function(
        FunctionName=name, Runtime="python3.11", Role=role, Handler="app.handler", Code={"ZipFile": code.getvalue()},
        Timeout=30, **options,
    )  # fmt: skip
    return name


def invoke(aws, name, **event):
    answer = aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
    return json.loads(answer["Payload"].read())


def test_a_function_reads_with_its_role_and_logs_with_it(aws):
    group = allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"])
    role = make_role(
        aws.iam, aws.name("function"), group, allow("s3:GetObject", "arn:aws:s3:::bucket/its/*"), trusted=["lambda"]
    )
    for key in ("its/1", "not/1"):
        aws.s3.put_object(Bucket="bucket", Key=key, Body=b"it")
    name = function(aws, role)
    assert invoke(aws, name, key="its/1") == "it"
    assert "is not authorized to perform: s3:GetObject" in invoke(aws, name, key="not/1")["errorMessage"]
    groups = aws.logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    assert [found["logGroupName"] for found in groups] == [f"/aws/lambda/{name}"]


def test_a_functions_log_is_lost_where_its_role_may_not_write_it(aws, caplog):
    role = make_role(aws.iam, aws.name("function"), allow("s3:GetObject"), trusted=["lambda"])
    aws.s3.put_object(Bucket="bucket", Key="its/1", Body=b"it")
    name = function(aws, role)
    assert invoke(aws, name, key="its/1") == "it"
    assert aws.logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"] == []
    assert "are lost" in caplog.text


def test_an_event_that_fails_goes_to_the_queue_that_the_role_may_send_to(aws):
    queue = aws.sqs.create_queue(QueueName=aws.name("failures"))["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    name = aws.name("function")
    role = make_role(aws.iam, name, allow("logs:*"), trusted=["lambda"])
    failing = function(aws, role)
    settings = {
        "FunctionName": failing, "MaximumRetryAttempts": 0, "DestinationConfig": {"OnFailure": {"Destination": arn}},
    }  # fmt: skip
    client = aws.client("lambda")
    with pytest.raises(ClientError, match="does not have permissions to call SendMessage on SQS"):
        client.put_function_event_invoke_config(**settings)
    make_role(aws.iam, name, allow("logs:*"), allow("sqs:SendMessage", arn), trusted=["lambda"])
    client.put_function_event_invoke_config(**settings)
    client.invoke(FunctionName=failing, InvocationType="Event", Payload=b'{"fail": true}')
    (message,) = wait_for(lambda: aws.sqs.receive_message(QueueUrl=queue).get("Messages", []), len)
    record = json.loads(message["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestPayload"] == {"fail": True}


def test_s3_notifies_no_function_that_does_not_let_it(aws):
    role = make_role(aws.iam, aws.name("function"), *JOBS, trusted=["lambda"])
    name, bucket = function(aws, role), aws.name("notifying")
    aws.s3.create_bucket(Bucket=bucket)
    client = aws.client("lambda")
    arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
    wanted = {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    with pytest.raises(ClientError, match="Unable to validate the following destination configurations"):
        aws.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
    client.add_permission(
        FunctionName=name, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{bucket}", SourceAccount="123456789012",
    )  # fmt: skip
    aws.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)


def test_a_function_of_a_role_that_lambda_may_not_take_is_refused(aws):
    role = make_role(aws.iam, aws.name("function"), *JOBS, trusted=["sagemaker"])
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        function(aws, role)


def test_an_execution_stopped_stops_its_job_with_its_role(aws):
    role = make_role(aws.iam, aws.name("states"), *EXECUTIONS, trusted=["states"])
    task = {
        "Resource": TRAINING,
        "Parameters": {"TrainingJobName": aws.name("job"), **aws.definition("say('ready'); time.sleep(60)")},
    }
    machine = aws.stepfunctions.create_state_machine(
        name=aws.name("machine"),
        definition=json.dumps({"StartAt": "S", "States": {"S": {"Type": "Task", "End": True, **task}}}),
        roleArn=role,
    )
    arn = aws.stepfunctions.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    name = task["Parameters"]["TrainingJobName"]
    wait_for(
        lambda: [job["TrainingJobName"] for job in aws.sagemaker.list_training_jobs()["TrainingJobSummaries"]],
        lambda names: name in names,
    )
    aws.stepfunctions.stop_execution(executionArn=arn)
    assert aws.ended_job(name)["TrainingJobStatus"] == "Stopped"
    assert ("sagemaker:StopTrainingJob", True) in {
        (d.action, d.allowed) for d in aws.server.decisions() if d.role_arn == role
    }
