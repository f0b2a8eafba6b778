"""What an execution needs is made, made again without harm, and found: against moto, over HTTP."""

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from kennel import sample
from kennel.errors import InvalidArguments, InvalidData, PipelineFailed
from kennel.pipeline import data, execution, live, resources
from kennel.pipeline.aws import Aws

DEFINITION = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield Aws(region="eu-west-1", endpoint_url=f"http://{host}:{port}")
    server.stop()


IMAGES = {"training": ["kennel-training"], "serving": ["127.0.0.1:5000/kennel-serving:1"]}


def deployed(aws, *, name="kennel", code=b"", definition=DEFINITION, reads=(), images=IMAGES):
    said: list[str] = []
    found = resources.deploy(
        aws,
        name=name,
        function_zip=code or _zip(b"1"),
        definition=definition,
        images=images,
        reads=reads,
        say=said.append,
    )
    assert said
    return found


def _zip(content: bytes) -> bytes:
    import io
    import zipfile

    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("classify.py", content)
    return target.getvalue()


def test_second_deployment_finds_what_the_first_made(aws):
    first, second = deployed(aws), deployed(aws)
    assert first == second
    assert len(first.subnets) == 2
    assert len(first.security_groups) == 1
    assert first.names.bucket == "kennel-123456789012-eu-west-1"


def test_second_deployment_brings_new_code_and_a_new_definition(aws):
    found = deployed(aws)
    before = aws.client("lambda").get_function(FunctionName="kennel-classify")["Configuration"]["CodeSha256"]
    changed = DEFINITION.replace('"A"', '"B"')
    deployed(aws, code=_zip(b"2"), definition=changed)
    after = aws.client("lambda").get_function(FunctionName="kennel-classify")["Configuration"]["CodeSha256"]
    described = aws.client("stepfunctions").describe_state_machine(stateMachineArn=found.state_machine_arn)
    assert before != after
    assert described["definition"] == changed


def test_two_names_share_nothing(aws):
    one, other = deployed(aws), deployed(aws, name="other")
    assert not {*one.subnets, *one.security_groups, one.kms_key_arn} & {
        *other.subnets,
        *other.security_groups,
        other.kms_key_arn,
    }


def test_bucket_is_closed_to_the_public_and_keeps_versions(aws):
    bucket = deployed(aws).names.bucket
    s3 = aws.client("s3")
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())
    assert len(blocked) == 4
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_roles_hold_the_policies_and_nothing_else(aws):
    deployed(aws, reads=("s3://their-bucket/photos",))
    iam = aws.client("iam")
    for part in ("training", "serving", "function", "states"):
        assert iam.list_attached_role_policies(RoleName=f"kennel-{part}")["AttachedPolicies"] == []
        assert iam.list_role_policies(RoleName=f"kennel-{part}")["PolicyNames"] == [part]
    policy = iam.get_role_policy(RoleName="kennel-training", PolicyName="training")["PolicyDocument"]
    assert "arn:aws:s3:::their-bucket/photos*" in json.dumps(policy)


def test_group_lets_its_members_talk_and_the_network_has_a_way_to_s3_only(aws):
    found = deployed(aws)
    ec2 = aws.client("ec2")
    (group,) = ec2.describe_security_groups(GroupIds=list(found.security_groups))["SecurityGroups"]
    (rule,) = group["IpPermissions"]
    assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == list(found.security_groups)
    assert rule["IpRanges"] == []
    subnets = ec2.describe_subnets(SubnetIds=list(found.subnets))["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    inside = [{"Name": "vpc-id", "Values": [group["VpcId"]]}]
    assert [e["ServiceName"] for e in ec2.describe_vpc_endpoints(Filters=inside)["VpcEndpoints"]] == [
        "com.amazonaws.eu-west-1.s3"
    ]
    attached = [{"Name": "attachment.vpc-id", "Values": [group["VpcId"]]}]
    assert ec2.describe_internet_gateways(Filters=attached)["InternetGateways"] == []


def test_network_that_was_left_half_made_is_completed(aws):
    found = deployed(aws, name="half")
    ec2 = aws.client("ec2")
    ec2.delete_subnet(SubnetId=found.subnets[1])
    for group in found.security_groups:
        ec2.delete_security_group(GroupId=group)
    again = deployed(aws, name="half")
    assert len(again.subnets) == 2
    assert len(again.security_groups) == 1
    (group,) = ec2.describe_security_groups(GroupIds=list(again.security_groups))["SecurityGroups"]
    assert group["IpPermissions"]


def test_data_is_uploaded_once_and_again_only_what_is_missing(aws, tmp_path):
    bucket = deployed(aws).names.bucket
    sample.generate(tmp_path / "data", seed=1, classes=2, per_split={"train": 2, "valid": 1, "test": 1})
    told: list[tuple[int, int]] = []

    def upload() -> str:
        told.clear()
        source = str(tmp_path / "data")
        return data.upload_data(aws, source=source, bucket=bucket, advance=lambda done, of: told.append((done, of)))

    uri = upload()
    assert told[-1] == (8, 8)
    assert uri.startswith(f"s3://{bucket}/data/")
    keys = [item["Key"] for item in aws.client("s3").list_objects_v2(Bucket=bucket, Prefix="data/")["Contents"]]
    assert len(keys) == 8
    assert (upload(), told) == (uri, [(0, 0)])
    aws.client("s3").delete_object(Bucket=bucket, Key=keys[0])
    assert (upload(), told[-1]) == (uri, (1, 1))
    image = next((tmp_path / "data" / "train").rglob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"changed")
    assert upload() != uri


def test_data_in_s3_stays_where_it_is(aws):
    uri = data.upload_data(aws, source="s3://theirs/photos/", bucket="ours", advance=lambda done, of: None)
    assert uri == "s3://theirs/photos"


def test_data_that_is_none_is_refused(aws, tmp_path):
    with pytest.raises(InvalidData):
        data.upload_data(aws, source=str(tmp_path), bucket="ours", advance=lambda done, of: None)


def test_pretrained_weights_are_uploaded_named_after_their_content(aws, tmp_path):
    bucket = deployed(aws).names.bucket
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    uri = data.upload_pretrained(aws, source=str(tmp_path / "w.safetensors"), bucket=bucket)
    key = f"{uri.removeprefix(f's3://{bucket}/')}/w.safetensors"
    assert aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == b"weights"
    assert data.upload_pretrained(aws, source="", bucket=bucket) == ""
    assert data.upload_pretrained(aws, source="s3://theirs/w", bucket=bucket) == "s3://theirs/w"
    with pytest.raises(InvalidArguments, match="no such file"):
        data.upload_pretrained(aws, source=str(tmp_path / "none.pth"), bucket=bucket)


def test_status_of_an_aws_in_which_nothing_ran_is_empty(aws):
    assert live.read(aws, name="nothing") == {"executions": [], "endpoint": None}


def test_removing_what_costs_goes_on_when_something_is_gone_already(aws):
    said: list[str] = []
    resources.remove_what_costs(aws, name="nothing", say=said.append)
    assert len(said) == 3


def test_refused_call_becomes_an_error_with_aws_s_own_words(aws):
    with pytest.raises(PipelineFailed, match=r"AWS refused a call: .*NoSuchBucket") as caught:
        execution.called(lambda: aws.client("s3").list_objects_v2(Bucket="there-is-none"))
    assert isinstance(caught.value.__cause__, ClientError)


def test_users_credentials_never_go_to_an_endpoint_that_is_not_aws(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    signer = Aws(region="eu-west-1", endpoint_url="http://127.0.0.1:9").client("s3")._request_signer
    assert signer._credentials.access_key == "local"
    assert signer._credentials.token is None


def test_repository_is_made_for_an_image_without_a_registry_and_for_no_other(aws):
    deployed(aws, images={"training": ["own-training:1"], "serving": ["127.0.0.1:5000/elsewhere:1", "own-serving:2"]})
    names = {found["repositoryName"] for found in aws.client("ecr").describe_repositories()["repositories"]}
    assert {"own-training", "own-serving"} <= names
    assert "elsewhere" not in names


def test_both_images_of_a_rollout_may_be_pulled(aws):
    deployed(aws, images={"training": ["own-training"], "serving": ["old-serving:1", "new-serving:1"]})
    policy = aws.client("iam").get_role_policy(RoleName="kennel-serving", PolicyName="serving")["PolicyDocument"]
    (pulling,) = [item for item in policy["Statement"] if "ecr:BatchGetImage" in item["Action"]]
    assert [arn.rpartition("/")[2] for arn in pulling["Resource"]] == ["new-serving", "old-serving"]


def test_settings_of_a_repository_that_exists_are_its_owner_s(aws):
    aws.client("ecr").create_repository(repositoryName="team/shared")
    deployed(aws, images={"training": ["own-training"], "serving": ["team/shared:latest"]})
    (found,) = aws.client("ecr").describe_repositories(repositoryNames=["team/shared"])["repositories"]
    assert found["imageTagMutability"] == "MUTABLE"
