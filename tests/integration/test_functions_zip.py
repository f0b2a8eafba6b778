"""The function's own zip, in a real process, against a SageMaker runtime and an S3 that are a few lines of HTTP."""

import base64
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from kennel.local.function_code import FunctionVersion, unpack_code
from kennel.local.function_runtime import Environment
from kennel.pipeline import template
from kennel.pipeline.function_package import HANDLER, function_zip

ROOT = Path(__file__).resolve().parents[2]
JPEG = b"\xff\xd8\xff\xe0 a dog"
ANSWER = {"predictions": [{"label": "Beagle", "probability": 0.75}], "model": {"backbone": "resnet18"}}
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:classify"


class FakeAws(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), FakeAwsHandler)
        self.objects = {}
        self.invocations = []
        self.refusal = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class FakeAwsHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def _reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked" and "aws-chunked" not in self.headers.get(
            "Content-Encoding", ""
        ):
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def do_GET(self):
        body = self.server.objects.get(unquote(urlsplit(self.path).path))
        if body is None:
            return self._reply(404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")
        return self._reply(200, body, ETag='"tag"', x_amz_version_id="v7")

    def do_PUT(self):
        self.server.objects[unquote(urlsplit(self.path).path)] = self._body()
        self._reply(200, ETag='"new"')

    def do_POST(self):
        self.server.invocations.append((self.path, self.headers["Content-Type"], self._body()))
        if self.server.refusal:
            status, code, members = self.server.refusal
            body = json.dumps({"Message": "refused", **members}).encode()
            return self._reply(status, body, x_amzn_ErrorType=code, Content_Type="application/json")
        return self._reply(200, json.dumps(ANSWER).encode(), Content_Type="application/json")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return function_zip(ROOT)


@pytest.fixture(scope="module")
def aws():
    server = FakeAws()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def function(code, aws, tmp_path_factory):
    path = tmp_path_factory.mktemp("function")
    version = FunctionVersion(
        name="classify",
        version="1",
        arn=ARN,
        handler=HANDLER,
        runtime="python3.11",
        timeout=60,
        memory=256,
        variables={"ENDPOINT_NAME": "dogs", "BUCKET": "bucket"},
        code=code,
    )
    lines = []
    environment = Environment(
        version,
        code=unpack_code(version, path),
        state_dir=path,
        environment_id="one",
        initialization="on-demand",
        endpoint_url=aws.url,
        region="eu-west-1",
        credentials={"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"},
        log=lambda group, stream, new: lines.extend(new),
    )
    failure = environment.wait_ready(60)
    assert failure is None, failure
    environment.lines = lines
    yield environment
    environment.stop()
    environment.join()


@pytest.fixture
def call(function, aws):
    aws.refusal = None
    aws.invocations.clear()

    def call(event):
        outcome = function.invoke(json.dumps(event).encode(), request_id="r-1", arn=ARN)
        return outcome.error, json.loads(outcome.payload)

    return call


def test_the_zip_holds_exactly_the_five_files(code):
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        assert archive.namelist() == [
            "classify.py",
            "kennel/__init__.py",
            "kennel/contract.py",
            "kennel/errors.py",
            "kennel/invocation.py",
        ]
        assert archive.read("kennel/invocation.py") == (ROOT / "src/kennel/invocation.py").read_bytes()


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(code, tmp_path):
    for path in (
        "lambda/classify.py",
        *(f"src/kennel/{name}.py" for name in ("__init__", "contract", "errors", "invocation")),
    ):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / path).read_bytes())
        target.chmod(0o600)
    assert function_zip(tmp_path) == code
    (tmp_path / "lambda" / "classify.py").write_text("changed")
    assert function_zip(tmp_path) != code


def test_the_example_is_answered(call, aws):
    error, response = call({"example": True})
    assert error is None
    assert response["statusCode"] == 200
    assert json.loads(response["body"]) == ANSWER
    assert aws.invocations == [("/endpoints/dogs/invocations", "application/json", b'{"example": true}')]


def test_an_uploaded_image_becomes_a_prediction_object(call, aws):
    aws.objects["/bucket/uploads/a dog+1.jpg"] = JPEG
    key = "uploads/a+dog%2B1.jpg"
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "bucket"}, "object": {"key": key}}}
    assert call({"Records": [record]}) == (None, {"processed": 1, "failed": []})
    assert aws.invocations[0][1:] == ("image/jpeg", JPEG)
    assert json.loads(aws.objects["/bucket/predictions/a dog+1.jpg.json"]) == {
        **ANSWER,
        "source": {"bucket": "bucket", "key": "uploads/a dog+1.jpg", "version_id": "v7", "etag": "tag"},
    }


def test_a_key_and_an_image_are_answered(call, aws):
    aws.objects["/bucket/dog.jpg"] = JPEG
    assert call({"url": "dog.jpg"})[1]["statusCode"] == 200
    assert call({"image": base64.b64encode(JPEG).decode()})[1]["statusCode"] == 200
    assert call({"url": "missing.jpg"})[1]["statusCode"] == 404


def test_what_the_container_refuses_is_refused_with_its_status(call, aws):
    original = json.dumps({"error": {"code": "PayloadTooLarge", "message": "too many pixels"}})
    aws.refusal = (424, "ModelError", {"OriginalStatusCode": 413, "OriginalMessage": original})
    error, response = call({"image": base64.b64encode(JPEG).decode()})
    assert error is None
    assert response["statusCode"] == 413
    assert json.loads(response["body"]) == {"error": {"code": "PayloadTooLarge", "message": "too many pixels"}}


def test_a_fault_of_the_endpoint_makes_lambda_retry_an_s3_event_but_answers_a_request(call, aws):
    aws.objects["/bucket/uploads/1.jpg"] = JPEG
    aws.refusal = (400, "ThrottlingException", {})
    assert call({"example": True})[1]["statusCode"] == 503
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "bucket"}, "object": {"key": "uploads/1.jpg"}},
    }
    error, fault = call({"Records": [record]})
    assert (error, fault["errorType"]) == ("Unhandled", "Unavailable")


def test_log_lines_are_json_with_the_request_id(call, function):
    call({"example": True})
    records = [json.loads(line) for line in function.lines if line.startswith("{")]
    assert records[-1]["request_id"] == "r-1"
    assert records[-1]["status"] == 200


def test_the_template_names_the_handler_that_is_in_the_zip():
    source = (ROOT / "statemachine" / "infrastructure.yaml").read_text()
    assert template.read(source).resources["Function"].text("Handler") == HANDLER
