"""Data and weights are brought to S3 once; what AWS says becomes words for people: against a local AWS."""

import pytest
from botocore.exceptions import ClientError

from kennel import sample
from kennel.errors import InvalidArguments, InvalidData, PipelineFailed
from kennel.pipeline import data, execution, live
from kennel.pipeline.aws import Aws


@pytest.fixture(scope="module")
def aws(local_aws: Aws) -> Aws:
    return local_aws


@pytest.fixture(scope="module")
def bucket(aws) -> str:
    aws.client("s3").create_bucket(Bucket="ours", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return "ours"


def test_data_is_uploaded_once_and_again_only_what_is_missing(aws, bucket, tmp_path):
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


def test_pretrained_weights_are_uploaded_named_after_their_content(aws, bucket, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    uri = data.upload_pretrained(aws, source=str(tmp_path / "w.safetensors"), bucket=bucket)
    key = f"{uri.removeprefix(f's3://{bucket}/')}/w.safetensors"
    assert aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == b"weights"
    assert data.upload_pretrained(aws, source="", bucket=bucket) == ""
    assert data.upload_pretrained(aws, source="s3://theirs/w", bucket=bucket) == "s3://theirs/w"
    with pytest.raises(InvalidArguments, match="no such file"):
        data.upload_pretrained(aws, source=str(tmp_path / "none.pth"), bucket=bucket)


def test_status_of_an_aws_in_which_nothing_ran_is_empty(aws):
    assert live.read(aws, name="nothing") == {"executions": [], "endpoint": None, "console": {}}


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
