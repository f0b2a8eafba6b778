"""ECR of the local AWS: what the registry holds, in ECR's words, through boto3 and over real sockets."""

import base64
import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import fake_registry

ONE, TWO = fake_registry.manifest(100, 20), fake_registry.manifest(300)
NAME = "team/kennel"


@pytest.fixture(scope="module")
def ecr(tmp_path_factory):
    """A client, and the registry behind; a process of its own, for what is changed in moto is the process's."""
    folder = tmp_path_factory.mktemp("ecr")
    with fake_registry.serving() as registry:
        command = [sys.executable, "-m", "kennel.local", "--port", "0", "--state-dir", str(folder)]
        process = subprocess.Popen(
            [*command, "--registry", registry.address, "--until-stdin-ends"], stdin=subprocess.PIPE
        )
        try:
            deadline = time.monotonic() + 60
            while not (folder / "server.json").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            url = json.loads((folder / "server.json").read_text())["endpoint_url"]
            client = boto3.client(
                "ecr",
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id="x",
                aws_secret_access_key="x",
                # the server must refuse what is wrong, not the client
                config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
            )
            client.create_repository(repositoryName=NAME)
            yield client, registry
        finally:
            process.stdin.close()
            assert process.wait(60) == 0


@pytest.fixture
def client(ecr):
    """The registry holds image `one` with two tags, `two` with one, and one without any."""
    client, registry = ecr
    registry.status = 0
    registry.tags = {NAME: {"1": ONE, "latest": ONE, "2": TWO}}
    registry.untagged = {NAME: [fake_registry.manifest(7)]}
    return client


def refused(call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]


def described(client, *images, **more):
    asked = {"imageIds": list(images)} if images else {}
    return client.describe_images(repositoryName=NAME, **asked, **more)["imageDetails"]


def test_repository_and_login_name_the_registry(client, ecr):
    address = ecr[1].address
    (found,) = client.describe_repositories(repositoryNames=[NAME])["repositories"]
    assert found["repositoryUri"] == f"{address}/{NAME}"
    (granted,) = client.get_authorization_token()["authorizationData"]
    assert granted["proxyEndpoint"] == f"http://{address}"
    assert base64.b64decode(granted["authorizationToken"]).startswith(b"AWS:")
    assert granted["expiresAt"] > datetime.now(UTC)


def test_image_is_described_by_tag_by_digest_and_by_both(client):
    digest = fake_registry.digest_of(ONE)
    for image in ({"imageTag": "1"}, {"imageDigest": digest}, {"imageTag": "latest", "imageDigest": digest}):
        (found,) = described(client, image)
        assert (found["imageDigest"], found["imageTags"]) == (digest, ["1", "latest"])
        assert (found["imageSizeInBytes"], found["repositoryName"]) == (130, NAME)
        assert found["imageManifestMediaType"] == fake_registry.MEDIA_TYPE


def test_image_without_a_tag_is_found_by_its_digest_alone(client):
    (found,) = described(client, {"imageDigest": fake_registry.digest_of(fake_registry.manifest(7))})
    assert "imageTags" not in found


def test_all_images_are_listed_page_by_page(client):
    assert {tuple(image["imageTags"]) for image in described(client)} == {("1", "latest"), ("2",)}
    assert described(client, filter={"tagStatus": "UNTAGGED"}) == []
    pages = client.get_paginator("list_images").paginate(repositoryName=NAME, PaginationConfig={"PageSize": 2})
    tags = [[image["imageTag"] for image in page["imageIds"]] for page in pages]
    assert tags == [["1", "2"], ["latest"]]


def test_manifests_are_given_and_what_is_missing_is_a_failure_of_its_own(client):
    asked = [{"imageTag": "2"}, {"imageTag": "3"}]
    answer = client.batch_get_image(repositoryName=NAME, imageIds=asked)
    (image,) = answer["images"]
    assert image["imageManifest"] == TWO.decode()
    assert image["imageId"] == {"imageTag": "2", "imageDigest": fake_registry.digest_of(TWO)}
    assert [(item["imageId"], item["failureCode"]) for item in answer["failures"]] == [(asked[1], "ImageNotFound")]


def test_image_is_deleted_unless_it_would_take_another_tag_along(client):
    answer = client.batch_delete_image(repositoryName=NAME, imageIds=[{"imageTag": "2"}])
    assert answer["imageIds"] == [{"imageTag": "2", "imageDigest": fake_registry.digest_of(TWO)}]
    assert refused(client.describe_images, repositoryName=NAME, imageIds=[{"imageTag": "2"}])["Code"]
    error = refused(client.batch_delete_image, repositoryName=NAME, imageIds=[{"imageTag": "1"}])
    assert (error["Code"], "1, latest are one image" in error["Message"]) == ("InvalidParameterException", True)
    assert len(described(client)) == 1


@pytest.mark.parametrize(
    "image",
    [
        {"imageTag": "3"},
        {"imageDigest": f"sha256:{'0' * 64}"},
        {"imageTag": "2", "imageDigest": fake_registry.digest_of(ONE)},
    ],
    ids=["tag", "digest", "tag of another digest"],
)
def test_missing_image_is_ecr_s_error(client, image):
    error = refused(client.describe_images, repositoryName=NAME, imageIds=[image])
    assert error["Code"] == "ImageNotFoundException"
    assert f"within the repository with name '{NAME}' in the registry with id '123456789012'" in error["Message"]


@pytest.mark.parametrize("operation", ["describe_images", "list_images"])
def test_missing_repository_is_ecr_s_error_whatever_the_registry_holds(client, ecr, operation):
    ecr[1].tags["other"] = {"1": ONE}
    error = refused(getattr(client, operation), repositoryName="other")
    assert error["Code"] == "RepositoryNotFoundException"


def test_repository_to_which_nothing_was_pushed_has_no_images(client, ecr):
    ecr[1].tags = {}
    assert described(client) == []


def test_registry_that_fails_is_named(client, ecr):
    ecr[1].status = 503
    error = refused(client.describe_images, repositoryName=NAME)
    assert error["Code"] == "ServerException"
    assert f"the registry at {ecr[1].address} answers with status 503" in error["Message"]


def test_request_that_aws_would_refuse_is_refused(client):
    error = refused(client.batch_get_image, repositoryName=NAME, imageIds=[{"imageTag": ""}])
    assert error["Code"] == "ValidationException"
