"""What AWS refuses, the local AWS refuses over HTTP, with the same error code; and it serves only this machine."""

import http.client
import json
import socket
from pathlib import Path

import pytest
from botocore.exceptions import ClientError


def refusal(call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response


def post(aws, headers, body=b"{}", path="/"):
    host, port = aws.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.putrequest("POST", path, skip_host="Host" in headers)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def signed(operation, service="sagemaker"):
    return {
        "X-Amz-Target": f"SageMaker.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{service}/aws4_request, Signature=x",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"TrainingJobName": "not_a_name!"}, "regular expression pattern"),
        ({"TrainingJobName": "x" * 64}, "less than or equal to 63"),
        ({"RoleArn": None}, "'roleArn' failed to satisfy constraint: Member must not be null"),
        ({"AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "Psychic"}}, "enum value set"),
        ({"HyperParameters": {"a": 1}}, "Member must be a string"),
        ({"HyperParameters": {"a": "x" * 2501}}, "less than or equal to 2500"),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": "two", "VolumeSizeInGB": 1}}, "integer"),
    ],
)
def test_a_request_that_the_model_forbids_is_a_validation_exception(aws, changes, said):
    request = {"TrainingJobName": aws.name("job"), **aws.definition("model()"), **changes}
    response = refusal(aws.sagemaker.create_training_job, **request)
    assert response["Error"]["Code"] == "ValidationException"
    assert said in response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_all_violations_are_told_at_once(aws):
    response = refusal(aws.sagemaker.create_training_job, TrainingJobName="!", OutputDataConfig={})
    assert response["Error"]["Message"].startswith("3 validation errors detected: ")


def test_an_operation_that_aws_has_but_we_have_not_says_so(aws):
    response = refusal(aws.sagemaker.create_notebook_instance, NotebookInstanceName="n")
    assert response["Error"]["Code"] == "UnknownOperationException"
    assert "CreateNotebookInstance" in response["Error"]["Message"]


def test_an_operation_that_nobody_has_is_unknown(aws):
    status, body = post(aws, signed("MakeCoffee"))
    assert (status, json.loads(body)["__type"]) == (400, "UnknownOperationException")


def test_a_member_that_the_operation_does_not_have_is_a_validation_exception(aws):
    status, body = post(aws, signed("ListModels"), b'{"NameContians": "x"}')
    assert (status, json.loads(body)["__type"]) == (400, "ValidationException")
    assert "Unknown parameter 'nameContians'" in json.loads(body)["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff\xfe"])
def test_a_body_that_is_no_json_object_is_a_serialization_exception(aws, body):
    status, answer = post(aws, signed("ListModels"), body)
    assert (status, json.loads(answer)["__type"]) == (400, "SerializationException")


def test_a_name_with_a_newline_at_its_end_is_no_name(aws):
    assert refusal(aws.sagemaker.describe_endpoint, EndpointName="x\n")["Error"]["Code"] == "ValidationException"


def test_the_body_of_an_invocation_is_limited(aws):
    parameters = {"EndpointName": "x", "Body": b"x" * 6_291_457}
    response = refusal(aws.client("sagemaker-runtime").invoke_endpoint, **parameters)
    assert response["Error"]["Code"] == "ValidationException"
    assert "6291456" in response["Error"]["Message"]


def test_an_unknown_endpoint_is_a_validation_error(aws):
    response = refusal(aws.client("sagemaker-runtime").invoke_endpoint, EndpointName="nobody", Body=b"x")
    assert response["Error"]["Code"] in ("ValidationError", "ValidationException")


@pytest.mark.parametrize("host", ["rebound.example.com", "127.0.0.1.example.com", "localhost.example.com:80", "", None])
def test_a_request_under_another_name_than_this_machines_is_refused(aws, host):
    headers = {**signed("ListModels"), "Host": host}
    assert post(aws, headers)[0] in ({403} if host else {400, 403})
    assert post(aws, {"Host": host}, path="/_kennel")[0] in ({403} if host else {400, 403})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:4566", "[::1]:4566", "bucket.localhost", "LOCALHOST"])
def test_the_names_of_this_machine_are_taken(aws, host):
    assert post(aws, {**signed("ListModels"), "Host": host})[0] == 200


@pytest.mark.parametrize(
    ("origin", "status"), [("https://example.com", 403), ("null", 403), ("http://localhost:1", 200)]
)
def test_a_web_page_from_elsewhere_is_refused(aws, origin, status):
    assert post(aws, {**signed("ListModels"), "Origin": origin})[0] == status


def test_the_server_listens_on_the_loopback_address_only(aws):
    port = int(aws.url.rpartition(":")[2])
    listening = [
        address
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for address, state in (line.split()[1:4:2] for line in Path(table).read_text().splitlines()[1:])
        if state == "0A" and int(address.split(":")[1], 16) == port
    ]
    assert [address.split(":")[0] for address in listening] == ["0100007F"]  # 127.0.0.1
    with socket.socket() as other, pytest.raises(OSError):
        other.connect(("127.0.0.2", port))
