import base64
import io
import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kennel.contract import MAX_PAYLOAD_BYTES
from kennel.errors import Unavailable, UnsupportedMediaType
from kennel.invocation import Settings, handle, is_public, sniff

JPEG = b"\xff\xd8\xff\xe0" + b"jpeg"
PNG = b"\x89PNG\r\n\x1a\n" + b"png"
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 "
ANSWER = {"predictions": [{"label": "Beagle", "probability": 0.9}], "model": {"backbone": "resnet18"}}
PUBLIC = "93.184.216.34"


class ClientError(Exception):
    """Has what a botocore ClientError has."""

    def __init__(self, code, status, message="reason", **members):
        super().__init__(message)
        self.response = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
            **members,
        }


def model_error(status, original=None):
    text = (
        json.dumps({"error": {"code": "UnsupportedMediaType", "message": "no image"}}) if original is None else original
    )
    return ClientError("ModelError", 424, OriginalStatusCode=status, OriginalMessage=text)


class FakeRuntime:
    def __init__(self, answer=ANSWER, faults=None):
        self.calls = []
        self.answer = answer
        self.faults = faults or {}

    def invoke_endpoint(self, *, EndpointName, ContentType, Accept, Body):
        self.calls.append((EndpointName, ContentType, Body))
        if fault := self.faults.get(Body):
            raise fault
        text = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return {"Body": io.BytesIO(text)}


class FakeS3:
    def __init__(self, objects=None, put_fault=None):
        self.objects = objects or {}
        self.written = {}
        self.put_fault = put_fault

    def get_object(self, *, Bucket, Key):
        found = self.objects.get(Key)
        if found is None:
            raise ClientError("NoSuchKey", 404)
        if isinstance(found, Exception):
            raise found
        return {"Body": io.BytesIO(found), "ContentLength": len(found), "ETag": '"abc"', "VersionId": "v1"}

    def put_object(self, *, Bucket, Key, Body, ContentType):
        if self.put_fault:
            raise self.put_fault
        assert Bucket == "bucket" and ContentType == "application/json"
        self.written[Key] = json.loads(Body)


class FakeSocket:
    """Plays back bytes; each piece is one recv. Keeps what was sent."""

    def __init__(self, *pieces, on_receive=lambda: None):
        self.pieces = list(pieces)
        self.sent = b""
        self.on_receive = on_receive

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def settimeout(self, _seconds):
        pass

    def sendall(self, data):
        self.sent += data

    def recv_into(self, buffer):
        self.on_receive()
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        taken, rest = piece[: len(buffer)], piece[len(buffer) :]
        if rest:
            self.pieces.insert(0, rest)
        buffer[: len(taken)] = taken
        return len(taken)


def http(body, status="200 OK", *headers):
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Web:
    """Resolver and connector over canned sockets by host."""

    def __init__(self, sockets, addresses=None):
        self.sockets = sockets
        self.addresses = addresses or {}
        self.connected = []

    def resolve(self, host, port):
        return self.addresses.get(host, [PUBLIC])

    def connect(self, address, port, host, timeout):
        assert port == 443 and 0 < timeout <= 10
        self.connected.append((address, host))
        found = self.sockets[host]
        found = found.pop(0) if isinstance(found, list) else found
        if isinstance(found, Exception):
            raise found
        return found


def run(event, *, runtime=None, s3=None, web=None, hosts=("img.example",), log=None, clock=lambda: 0.0):
    web = web or Web({})
    return handle(
        event,
        settings=Settings(endpoint="dogs", bucket="bucket", allowed_hosts=frozenset(hosts)),
        runtime=runtime or FakeRuntime(),
        s3=s3 or FakeS3(),
        request_id="r-1",
        resolve=web.resolve,
        connect=web.connect,
        clock=clock,
        log=(log if log is not None else []).append,
    )


def refusal(response):
    return response["statusCode"], json.loads(response["body"])["error"]["code"]


def record(key, bucket="bucket", name="ObjectCreated:Put"):
    return {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}}


# --- S3 events


def test_every_record_of_an_s3_event_becomes_a_prediction_object():
    s3 = FakeS3({"uploads/a b+ü.jpg": JPEG, "uploads/x/c.png": PNG})
    runtime = FakeRuntime()
    result = run({"Records": [record("uploads/a b+ü.jpg"), record("uploads/x/c.png")]}, runtime=runtime, s3=s3)
    assert result == {"processed": 2, "failed": []}
    assert [call[:2] for call in runtime.calls] == [("dogs", "image/jpeg"), ("dogs", "image/png")]
    assert s3.written["predictions/a b+ü.jpg.json"] == {
        **ANSWER,
        "source": {"bucket": "bucket", "key": "uploads/a b+ü.jpg", "version_id": "v1", "etag": "abc"},
    }
    assert "predictions/x/c.png.json" in s3.written


@pytest.mark.parametrize(
    "ignored",
    [
        record("predictions/a.jpg.json"),
        record("elsewhere/a.jpg"),
        record("uploads/folder/"),
        record("uploads/a.jpg", bucket="other"),
        record("uploads/a.jpg", name="ObjectRemoved:Delete"),
    ],
)
def test_records_that_are_no_new_uploads_are_ignored(ignored):
    runtime, s3 = FakeRuntime(), FakeS3({"uploads/a.jpg": JPEG})
    assert run({"Records": [ignored]}, runtime=runtime, s3=s3) == {"processed": 0, "failed": []}
    assert not runtime.calls and not s3.written


def test_the_test_event_of_s3_is_accepted():
    assert run({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"}) == {"processed": 0, "failed": []}


def test_one_bad_image_is_recorded_and_does_not_stop_the_others():
    s3 = FakeS3({"uploads/1": b"GIF89a", "uploads/2": JPEG, "uploads/3": PNG})
    runtime = FakeRuntime(faults={JPEG: model_error(415)})
    result = run(
        {"Records": [record("uploads/1"), record("uploads/2"), record("uploads/3"), record("uploads/4")]},
        runtime=runtime,
        s3=s3,
    )
    assert result["processed"] == 1
    assert [(f["key"], f["code"]) for f in result["failed"]] == [
        ("uploads/1", "UnsupportedMediaType"),
        ("uploads/2", "UnsupportedMediaType"),
        ("uploads/4", "NotFound"),
    ]
    assert s3.written["predictions/2.json"]["error"] == {"code": "UnsupportedMediaType", "message": "no image"}
    assert s3.written["predictions/2.json"]["source"]["etag"] == "abc"
    assert "predictions" in s3.written["predictions/3.json"]


@pytest.mark.parametrize(
    "fault",
    [
        ClientError("ThrottlingException", 400),
        ClientError("ModelNotReadyException", 429),
        ClientError("ServiceUnavailable", 503),
        ClientError("ValidationError", 400),
        model_error(500),
        model_error(503),
        model_error(429),
        ConnectionResetError("reset"),
    ],
)
def test_a_fault_on_our_side_raises_after_all_records_were_tried(fault):
    s3 = FakeS3({"uploads/1": JPEG, "uploads/2": PNG})
    with pytest.raises(Unavailable, match="uploads/1"):
        run({"Records": [record("uploads/1"), record("uploads/2")]}, runtime=FakeRuntime(faults={JPEG: fault}), s3=s3)
    assert list(s3.written) == ["predictions/2.json"]


def test_a_prediction_that_cannot_be_written_raises():
    with pytest.raises(Unavailable):
        run({"Records": [record("uploads/1")]}, s3=FakeS3({"uploads/1": JPEG}, put_fault=ClientError("SlowDown", 503)))


def test_a_repeated_event_writes_the_same_object():
    first, second = FakeS3({"uploads/1": JPEG}), FakeS3({"uploads/1": JPEG})
    run({"Records": [record("uploads/1")]}, s3=first)
    run({"Records": [record("uploads/1"), record("uploads/1")]}, s3=second)
    assert first.written == second.written


# --- direct events


@pytest.mark.parametrize(
    ("event", "content_type"),
    [
        ({"url": "s3://bucket/any/dog.jpg"}, "image/jpeg"),
        ({"url": "any/dog.jpg"}, "image/jpeg"),
        ({"image": base64.b64encode(PNG).decode()}, "image/png"),
        ({"image": base64.b64encode(WEBP).decode()}, "image/webp"),
        ({"example": True}, "application/json"),
    ],
)
def test_each_form_of_event_is_answered_with_ranked_labels(event, content_type):
    runtime = FakeRuntime()
    response = run(event, runtime=runtime, s3=FakeS3({"any/dog.jpg": JPEG}))
    assert response["statusCode"] == 200
    assert response["headers"] == {"Content-Type": "application/json"}
    assert json.loads(response["body"]) == ANSWER
    assert runtime.calls[0][1] == content_type


def test_the_example_is_the_endpoints_own_and_its_expected_label_is_passed_on():
    runtime = FakeRuntime(answer={**ANSWER, "expected": "Beagle"})
    response = run({"example": True}, runtime=runtime)
    assert json.loads(runtime.calls[0][2]) == {"example": True}
    assert json.loads(response["body"])["expected"] == "Beagle"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({}, (400, "BadRequest")),
        (None, (400, "BadRequest")),
        ([1], (400, "BadRequest")),
        ({"Records": [1]}, (400, "BadRequest")),
        ({"url": "a", "image": "b"}, (400, "BadRequest")),
        ({"example": False}, (400, "BadRequest")),
        ({"image": 3}, (400, "BadRequest")),
        ({"image": "%%%"}, (400, "BadRequest")),
        ({"url": ""}, (400, "BadRequest")),
        ({"url": "s3://bucket/"}, (400, "BadRequest")),
        ({"url": "\ud800"}, (400, "BadRequest")),
        ({"url": "x" * 1025}, (400, "BadRequest")),
        ({"image": "\ud800"}, (400, "BadRequest")),
        ({"requestContext": {}, "body": "\ud800"}, (415, "UnsupportedMediaType")),
        ({"url": "s3://other/dog.jpg"}, (403, "Forbidden")),
        ({"url": "s3://bucket/missing"}, (404, "NotFound")),
        ({"url": "secret"}, (403, "Forbidden")),
        ({"url": "slow"}, (503, "Unavailable")),
        ({"url": "file:///proc/self/environ"}, (403, "Forbidden")),
        ({"url": "http://img.example/a.jpg"}, (403, "Forbidden")),
        ({"url": "gopher://img.example/"}, (403, "Forbidden")),
        ({"image": base64.b64encode(b"%PDF-1.4").decode()}, (415, "UnsupportedMediaType")),
        ({"url": "huge"}, (413, "PayloadTooLarge")),
        ({"image": "A" * (MAX_PAYLOAD_BYTES * 4 // 3 + 8)}, (413, "PayloadTooLarge")),
    ],
)
def test_what_cannot_be_answered_is_refused_without_calling_the_endpoint(event, expected):
    runtime = FakeRuntime()
    s3 = FakeS3(
        {
            "huge": JPEG + bytes(MAX_PAYLOAD_BYTES),
            "secret": ClientError("AccessDenied", 403),
            "slow": ClientError("SlowDown", 503),
        }
    )
    assert refusal(run(event, runtime=runtime, s3=s3)) == expected
    assert not runtime.calls


def test_a_large_base64_image_is_told_the_limit():
    body = json.loads(run({"image": "A" * (MAX_PAYLOAD_BYTES * 4 // 3 + 8)})["body"])
    assert "about 4.5 MB" in body["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (model_error(400), (400, "UnsupportedMediaType")),
        (model_error(413, "plain text"), (413, "BadRequest")),
        (model_error(418, '["odd"]'), (418, "BadRequest")),
        (model_error(500), (503, "Unavailable")),
        (model_error(503), (503, "Unavailable")),
        (ClientError("ThrottlingException", 400), (503, "Unavailable")),
        (ClientError("ModelNotReadyException", 429), (503, "Unavailable")),
        (ClientError("ServiceUnavailable", 503), (503, "Unavailable")),
        (TimeoutError("read timed out"), (503, "Unavailable")),
    ],
)
def test_the_endpoints_errors_are_mapped(fault, expected):
    runtime = FakeRuntime(faults={JPEG: fault})
    assert refusal(run({"image": base64.b64encode(JPEG).decode()}, runtime=runtime)) == expected


@pytest.mark.parametrize("answer", [b"<html>", b"[]", {"outputs": []}])
def test_an_endpoint_that_answers_nonsense_is_unavailable(answer):
    assert refusal(run({"example": True}, runtime=FakeRuntime(answer=answer))) == (503, "Unavailable")


def test_a_bug_is_answered_without_a_trace_and_logged_with_one():
    log = []
    response = run({"example": True}, runtime=object(), log=log)
    assert refusal(response) == (500, "InternalError")
    assert "Traceback" not in response["body"] and "invoke_endpoint" not in response["body"]
    assert any("Traceback" in json.loads(line).get("traceback", "") for line in log)


def test_log_lines_are_json_with_the_request_id():
    log = []
    run({"example": True}, log=log)
    run({}, log=log)
    lines = [json.loads(line) for line in log]
    assert [(line["request_id"], line["level"]) for line in lines] == [("r-1", "INFO"), ("r-1", "WARNING")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["url", "image", "example", "requestContext", "body", "headers", "isBase64Encoded", "Records"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_any_json_event_gets_a_proxy_response_that_is_no_server_error(event):
    response = run(event)
    assert set(response) == {"statusCode", "headers", "body"}
    assert response["statusCode"] == 200 or 400 <= response["statusCode"] < 500
    json.loads(response["body"])


# --- HTTP events

V1 = {"httpMethod": "POST", "requestContext": {"stage": "prod"}}
V2 = {"version": "2.0", "requestContext": {"http": {"method": "POST"}}}


@pytest.mark.parametrize("shape", [V1, V2])
@pytest.mark.parametrize("header", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_an_image_behind_http_is_classified(shape, header):
    runtime = FakeRuntime()
    event = {
        **shape,
        "headers": {header: "image/jpeg"},
        "body": base64.b64encode(JPEG).decode(),
        "isBase64Encoded": True,
    }
    assert run(event, runtime=runtime)["statusCode"] == 200
    assert runtime.calls == [("dogs", "image/jpeg", JPEG)]


@pytest.mark.parametrize("shape", [V1, V2])
@pytest.mark.parametrize("encoded", [True, False])
def test_json_behind_http_takes_the_same_forms(shape, encoded):
    body = json.dumps({"image": base64.b64encode(PNG).decode()})
    event = {**shape, "headers": {"Content-Type": "Application/JSON; charset=utf-8"}, "isBase64Encoded": encoded}
    event["body"] = base64.b64encode(body.encode()).decode() if encoded else body
    runtime = FakeRuntime()
    assert run(event, runtime=runtime)["statusCode"] == 200
    assert runtime.calls[0][2] == PNG


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"body": None}, (400, "BadRequest")),
        ({"body": "", "headers": None}, (400, "BadRequest")),
        ({"body": "{", "headers": {"content-type": "application/json"}}, (400, "BadRequest")),
        ({"body": "\ufffd\ufffd\ufffd", "headers": {"content-type": "image/jpeg"}}, (415, "UnsupportedMediaType")),
        ({"body": "?", "isBase64Encoded": True}, (400, "BadRequest")),
    ],
)
def test_bad_http_bodies_are_refused(members, expected):
    assert refusal(run({**V2, **members})) == expected


def test_an_image_that_the_gateway_mangled_gets_a_hint():
    response = run({**V1, "body": JPEG.decode(errors="replace"), "headers": {"content-type": "image/jpeg"}})
    assert "binary media types" in json.loads(response["body"])["error"]["message"]


# --- fetching


def test_an_allowed_address_is_fetched_from_the_address_that_was_checked():
    socket, runtime = FakeSocket(http(JPEG)), FakeRuntime()
    web = Web({"img.example": socket})
    response = run({"url": "HTTPS://IMG.example./päth/a b.jpg?x=1#frag"}, web=web, runtime=runtime)
    assert response["statusCode"] == 200, response
    assert web.connected == [(PUBLIC, "img.example")]
    assert runtime.calls == [("dogs", "image/jpeg", JPEG)]
    assert socket.sent.startswith(b"GET /p%C3%A4th/a%20b.jpg?x=1 HTTP/1.1\r\nHost: img.example\r\n")


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a.jpg",
        "https://img.example.evil.example/a.jpg",
        "https://img.example@evil.example/a.jpg",
        "https://user:pass@img.example/a.jpg",
        "https://img.example:8443/a.jpg",
        "https://127.0.0.1/a.jpg",
        "https://[::1]/a.jpg",
        "https:///a.jpg",
        "https://img.example/a\r\nHost: evil.example",
    ],
)
def test_addresses_outside_the_allow_list_are_not_even_resolved(url):
    web = Web({})
    web.resolve = None  # calling it would be a bug
    assert refusal(run({"url": url}, web=web)) == (403, "Forbidden")


def test_no_host_is_allowed_unless_configured():
    assert refusal(run({"url": "https://img.example/a.jpg"}, hosts=())) == (403, "Forbidden")


NOT_PUBLIC = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.8.8.8", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:93.184.216.34", "64:ff9b::7f00:1", "64:ff9b:1::1",
    "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "5f00::1", "", "localhost",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_refused(address):
    assert not is_public(address)
    web = Web({"img.example": FakeSocket(http(JPEG))}, {"img.example": [PUBLIC, address]})
    assert refusal(run({"url": "https://img.example/a.jpg"}, web=web)) == (403, "Forbidden")
    assert not web.connected


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_public_addresses_are_allowed(address):
    assert is_public(address)


def test_the_next_address_is_tried_when_one_does_not_connect():
    web = Web({"img.example": [OSError("refused"), FakeSocket(http(JPEG))]}, {"img.example": ["1.1.1.1", "8.8.8.8"]})
    assert run({"url": "https://img.example/a.jpg"}, web=web)["statusCode"] == 200
    assert [address for address, _ in web.connected] == ["1.1.1.1", "8.8.8.8"]


def redirect(location):
    return FakeSocket(http(b"", "302 Found", f"Location: {location}"))


def test_a_redirect_to_an_allowed_host_is_followed():
    web = Web({"img.example": redirect("https://cdn.example/b.jpg"), "cdn.example": FakeSocket(http(JPEG))})
    response = run({"url": "https://img.example/a.jpg"}, web=web, hosts=("img.example", "cdn.example"))
    assert response["statusCode"] == 200
    assert [host for _, host in web.connected] == ["img.example", "cdn.example"]


@pytest.mark.parametrize(
    "location",
    [
        "http://img.example/",
        "https://evil.example/",
        "file:///etc/passwd",
        "//evil.example/x",
        "https://img.example:444/",
    ],
)
def test_each_redirect_is_checked_again(location):
    web = Web({"img.example": redirect(location)})
    assert refusal(run({"url": "https://img.example/a.jpg"}, web=web)) == (403, "Forbidden")
    assert len(web.connected) == 1


def test_a_redirect_to_a_host_that_moved_to_a_private_address_is_refused():
    web = Web({"img.example": redirect("https://cdn.example/")}, {"cdn.example": ["169.254.169.254"]})
    hosts = ("img.example", "cdn.example")
    assert refusal(run({"url": "https://img.example/a.jpg"}, web=web, hosts=hosts)) == (403, "Forbidden")


def test_redirects_end_after_three():
    web = Web({"img.example": [redirect("/again") for _ in range(9)]})
    assert refusal(run({"url": "https://img.example/a.jpg"}, web=web)) == (400, "BadRequest")
    assert len(web.connected) == 4


def test_a_body_that_announces_too_many_bytes_is_not_read():
    socket = FakeSocket(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    web = Web({"img.example": socket})
    assert refusal(run({"url": "https://img.example/a.jpg"}, web=web)) == (413, "PayloadTooLarge")


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_body_without_length_is_capped_while_it_is_read(framing):
    piece = b"x" * 65536
    if framing == "chunked":
        head, pieces = b"Transfer-Encoding: chunked\r\n", [b"10000\r\n" + piece + b"\r\n"] * 200
    else:
        head, pieces = b"", [piece] * 200
    socket = FakeSocket(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", *pieces)
    response = run({"url": "https://img.example/a.jpg"}, web=Web({"img.example": socket}))
    assert refusal(response) == (413, "PayloadTooLarge")
    assert len(socket.pieces) > 50


@pytest.mark.parametrize(
    "answer",
    [
        http(b"", "404 Not Found"),
        http(b"", "204 No Content"),
        http(b"", "304 Not Modified"),
        b"SSH-2.0-OpenSSH\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + JPEG,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,
        b"HTTP/1.1 302 Found\r\nLocation: https://[bad/\r\n\r\n",
    ],
)
def test_a_host_that_does_not_answer_with_a_whole_image_is_the_callers_fault(answer):
    web = Web({"img.example": FakeSocket(answer)})
    assert refusal(run({"url": "https://img.example/a.jpg"}, web=web)) == (400, "BadRequest")


def test_a_host_that_drips_bytes_is_given_up_in_time():
    now = [0.0]

    def later():
        now[0] += 1.0

    socket = FakeSocket(b"HTTP/1.1 200 OK\r\n", *[b"X"] * 1000, on_receive=later)
    response = run({"url": "https://img.example/a.jpg"}, web=Web({"img.example": socket}), clock=lambda: now[0])
    assert refusal(response) == (400, "BadRequest")
    assert now[0] <= 11


def test_settings_need_an_endpoint_and_a_bucket_and_normalize_hosts():
    found = Settings.read({"ENDPOINT_NAME": "e", "BUCKET": "b", "ALLOWED_URL_HOSTS": " IMG.example., ,cdn.example"})
    assert found == Settings(endpoint="e", bucket="b", allowed_hosts=frozenset({"img.example", "cdn.example"}))
    assert Settings.read({"ENDPOINT_NAME": "e", "BUCKET": "b"}).allowed_hosts == frozenset()
    with pytest.raises(KeyError):
        Settings.read({"BUCKET": "b"})


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"RIFFxxxxWAVE", b"<svg", b"\x89PNG", b"BM"])
def test_other_bytes_are_no_image(data):
    with pytest.raises(UnsupportedMediaType):
        sniff(data)
