"""What runs in Lambda: an event becomes a call of the SageMaker endpoint, and its answer a response.

Events: S3 notifications; `{"url": …}`, `{"image": "<base64>"}` and `{"example": true}`; the same forms, or the image
itself, through API Gateway (REST and HTTP APIs) or a function URL. The Lambda zip holds this module, so it imports the
standard library, `kennel.contract` and `kennel.errors` only; clients are passed in, the environment is read by
`lambda/classify.py`. It must fetch nothing that `_fetch` has not checked, and answer with no traceback.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import io
import ipaddress
import json
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote_plus, urljoin, urlsplit

from kennel.contract import MAX_PAYLOAD_BYTES, PREDICTIONS_PREFIX, UPLOADS_PREFIX, ContentType
from kennel.errors import (
    BadRequest,
    Forbidden,
    KennelError,
    NotFound,
    PayloadTooLarge,
    Unavailable,
    UnsupportedMediaType,
)

Resolver = Callable[[str, int], Sequence[str]]
"""Host and port to all addresses of the host."""

Connector = Callable[[str, int, str, float], socket.socket]
"""Address, port, host name and timeout in seconds to a connected socket whose peer proved to be that host."""

FETCH_SECONDS: Final = 10.0
"""Name look-up, every hop and the whole body of one fetched address take this long together, at most."""

MAX_REDIRECTS: Final = 3

_URL_CHARACTERS: Final = "/%:@!$&'()*+,;=~?[]"

_FORMS: Final = '{"url": "s3://…", "<key>" or "https://…"}, {"image": "<base64>"} or {"example": true}'
_BASE64_HINT: Final = (
    "Lambda takes 6 MB per event, so a base64 image must stay under about 4.5 MB; "
    f"put larger ones under {UPLOADS_PREFIX} in the bucket"
)
_RETRYABLE_4XX: Final = (408, 429)

# IANA's special-purpose registry. IPv6 is an allow-list: mapped, NAT64, unique-local and link-local all lie outside.
_NOT_PUBLIC_4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the function is configured with. Hosts are lower-case names that https addresses may have."""

    endpoint: str
    bucket: str
    allowed_hosts: frozenset[str] = frozenset()

    @staticmethod
    def read(environment: Mapping[str, str]) -> Settings:
        """Settings from ENDPOINT_NAME, BUCKET and ALLOWED_URL_HOSTS. Raises KeyError for a missing one."""
        hosts = environment.get("ALLOWED_URL_HOSTS", "").split(",")
        return Settings(
            endpoint=environment["ENDPOINT_NAME"],
            bucket=environment["BUCKET"],
            allowed_hosts=frozenset(host.strip().lower().rstrip(".") for host in hosts if host.strip()),
        )


class EndpointRefused(Exception):
    """The model container refused the input with a 4xx status of its own, which is passed on."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def resolve(host: str, port: int) -> list[str]:
    """All addresses of `host`. Raises OSError."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connect(
    address: str, port: int, host: str, timeout: float, *, context: ssl.SSLContext | None = None
) -> socket.socket:
    """Connect to `address` by TLS; the certificate must be for `host`. Raises OSError (ssl.SSLError is one)."""
    plain = socket.create_connection((address, port), timeout)
    try:
        return (context or ssl.create_default_context()).wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def handle(
    event: Any,
    *,
    settings: Settings,
    runtime: Any,
    s3: Any,
    request_id: str,
    resolve: Resolver = resolve,
    connect: Connector = connect,
    clock: Callable[[], float] = time.monotonic,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Answer one event. `runtime` and `s3` are boto3 clients (`sagemaker-runtime`, `s3`); `log` gets JSON lines.

    An S3 event returns `{"processed": n, "failed": [{"key", "code", "message"}]}` and raises Unavailable, after all
    records were tried, if any of them should be tried again. Everything else returns a proxy response:
    `{"statusCode", "headers", "body"}`.
    """
    started = clock()

    def note(level: str, event: str, **members: Any) -> None:
        members["duration_ms"] = round((clock() - started) * 1000, 1)
        log(json.dumps({"level": level, "request_id": request_id, "event": event, **members}))

    work = _Work(settings=settings, runtime=runtime, s3=s3, resolve=resolve, connect=connect, clock=clock, note=note)
    if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":
        return {"processed": 0, "failed": []}
    if _is_notification(event):
        return _answer_notification(event["Records"], work)
    try:
        answer = _answer_request(event, work)
    except Exception as error:
        status, code, message = _describe(error)
        if code == "InternalError":
            note("ERROR", "bug", traceback=traceback.format_exc())
        note("WARNING" if status < 500 else "ERROR", "refused", status=status, code=code, message=message)
        return _response(status, {"error": {"code": code, "message": message}})
    note("INFO", "answered", status=200)
    return _response(200, answer)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What every step needs."""

    settings: Settings
    runtime: Any
    s3: Any
    resolve: Resolver
    connect: Connector
    clock: Callable[[], float]
    note: Callable[..., None]


def _response(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}


def _describe(error: Exception) -> tuple[int, str, str]:
    """Status, code and message with which `error` is answered; a bug says nothing of itself."""
    if isinstance(error, EndpointRefused):
        return error.status, error.code, str(error)
    if isinstance(error, KennelError):
        return int(error.status), error.code, f"{error.what} ({error.hint})" if error.hint else error.what
    return 500, "InternalError", "the function failed; its log has the reason under this request's id"


# --- S3 notifications -----------------------------------------------------------------------


def _is_notification(event: Any) -> bool:
    match event:
        case {"Records": [*records]}:
            shape = all(isinstance(record, dict) and isinstance(record.get("s3"), dict) for record in records)
            return shape and bool(records)
    return False


def _answer_notification(records: Sequence[Mapping[str, Any]], work: _Work) -> dict[str, Any]:
    processed, failed, again = 0, [], []
    for record in records:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        created = str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:")
        if bucket != work.settings.bucket or not created or not key.startswith(UPLOADS_PREFIX) or key.endswith("/"):
            work.note("INFO", "ignored", bucket=bucket, key=key)  # our own predictions among them: no loops
            continue
        try:
            fault = _predict_object(key, work)
        except Exception as error:
            _, code, message = _describe(error)
            work.note("ERROR", "to be retried", key=key, code=code, message=message, traceback=traceback.format_exc())
            again.append(key)
            continue
        if fault is None:
            processed += 1
            work.note("INFO", "answered", key=key)
        else:
            failed.append({"key": key, **fault})
            work.note("WARNING", "refused", key=key, **fault)
    if again:
        raise Unavailable(f"{len(again)} of {len(records)} images wait for a retry: {', '.join(again[:3])}")
    return {"processed": processed, "failed": failed}


def _predict_object(key: str, work: _Work) -> dict[str, str] | None:
    """Write the prediction of one upload; return the fault that was written instead, if the image is at fault.

    The object's present version is read, whichever the event was for: late and repeated events then agree.
    """
    source: dict[str, Any] = {"bucket": work.settings.bucket, "key": key, "version_id": None, "etag": None}
    fault = None
    try:
        image, found = _read_object(key, work)
        source |= {"version_id": found.get("VersionId"), "etag": str(found.get("ETag", "")).strip('"')}
        document = _classify(image, work)
    except (BadRequest, EndpointRefused) as error:
        _, code, message = _describe(error)
        fault = {"code": code, "message": message}
        document = {"error": fault}
    target = f"{PREDICTIONS_PREFIX}{key.removeprefix(UPLOADS_PREFIX)}.json"
    body = json.dumps({**document, "source": source}, sort_keys=True).encode()
    try:
        work.s3.put_object(Bucket=work.settings.bucket, Key=target, Body=body, ContentType=str(ContentType.JSON))
    except Exception as error:
        raise Unavailable(f"cannot write {target}: {error}") from error
    return fault


def _read_object(key: str, work: _Work) -> tuple[bytes, Mapping[str, Any]]:
    """The object `key` of the bucket and what S3 says of it. Raises BadRequest or Unavailable."""
    where = f"s3://{work.settings.bucket}/{key}"
    try:
        found = work.s3.get_object(Bucket=work.settings.bucket, Key=key)
        if found["ContentLength"] > MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge(f"{where} has {found['ContentLength']} bytes; the endpoint takes {MAX_PAYLOAD_BYTES}")
        return found["Body"].read(), found
    except Exception as error:
        status, code, message = _client_fault(error)
        if code in ("NoSuchKey", "NoSuchBucket") or status == 404:
            raise NotFound(f"there is no {where}") from error
        if status == 403:
            raise Forbidden(f"{where} does not exist, or the function may not read it") from error
        raise Unavailable(f"cannot read {where}: {message}") from error


# --- requests -------------------------------------------------------------------------------


def _answer_request(event: Any, work: _Work) -> dict[str, Any]:
    if isinstance(event, dict) and "requestContext" in event:
        body, content_type = _http_body(event)
        if content_type != ContentType.JSON:
            return _classify(body, work)
        try:
            event = json.loads(body)
        except ValueError as error:
            raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(event, dict) or len(forms := {"url", "image", "example"} & event.keys()) != 1:
        raise BadRequest(f"expected exactly one of {_FORMS}")
    match forms.pop(), event:
        case "example", {"example": True}:
            return _invoke(b'{"example": true}', ContentType.JSON, work)
        case "image", {"image": str(text)}:
            return _classify(_decode_base64(text), work)
        case "url", {"url": str(url)} if url.lower().startswith("https://"):
            return _classify(_fetch(url, work), work)
        case "url", {"url": str(url)} if url.startswith("s3://"):
            bucket, _, key = url.removeprefix("s3://").partition("/")
            if bucket != work.settings.bucket:
                raise Forbidden(f"only s3://{work.settings.bucket}/… is read, not bucket {bucket!r}")
            return _classify(_read_object(_key(key), work)[0], work)
        case "url", {"url": str(url)} if "://" not in url:
            return _classify(_read_object(_key(url), work)[0], work)
        case "url", {"url": str(url)}:
            raise Forbidden(f"{url.partition(':')[0][:20]}:// addresses are not fetched, only https:// and s3://")
    raise BadRequest(f"expected exactly one of {_FORMS}")


def _key(key: str) -> str:
    if not key or len(key.encode(errors="replace")) > 1024 or not _is_text(key):
        raise BadRequest("an S3 key has 1 to 1,024 bytes of UTF-8")
    return key


def _is_text(text: str) -> bool:
    """Whether it can be encoded: JSON may hold halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _http_body(event: Mapping[str, Any]) -> tuple[bytes, str]:
    """Body and content type (lower case, no parameters) of an API Gateway or function URL event."""
    headers, body = event.get("headers"), event.get("body")
    named = {str(name).lower(): value for name, value in headers.items()} if isinstance(headers, dict) else {}
    content_type = str(named.get("content-type") or "").partition(";")[0].strip().lower()
    if not isinstance(body, str) or not body:
        raise BadRequest(f"the body is empty: send an image, or JSON: {_FORMS}")
    return (_decode_base64(body) if event.get("isBase64Encoded") else body.encode(errors="replace")), content_type


def _decode_base64(text: str) -> bytes:
    if len(text) > MAX_PAYLOAD_BYTES * 4 // 3 + 4:
        raise PayloadTooLarge("the base64 image is too large", hint=_BASE64_HINT)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"the image is not base64: {error}", hint=_BASE64_HINT) from error


# --- the endpoint ---------------------------------------------------------------------------


def sniff(image: bytes) -> ContentType:
    """Content type by the first bytes. Raises UnsupportedMediaType.

    >>> sniff(bytes.fromhex("ffd8ffe0"))
    <ContentType.JPEG: 'image/jpeg'>
    """
    if image.startswith(b"\xff\xd8\xff"):
        return ContentType.JPEG
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return ContentType.PNG
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return ContentType.WEBP
    hint = "behind a REST API, image/* must be among its binary media types" if b"\xef\xbf\xbd" in image[:16] else ""
    raise UnsupportedMediaType("not a JPEG, PNG or WebP image", hint=hint)


def _classify(image: bytes, work: _Work) -> dict[str, Any]:
    if len(image) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(f"the image has {len(image)} bytes; the endpoint takes {MAX_PAYLOAD_BYTES}")
    return _invoke(image, sniff(image), work)


def _invoke(body: bytes, content_type: ContentType, work: _Work) -> dict[str, Any]:
    """The endpoint's answer. Raises EndpointRefused or Unavailable."""
    endpoint = work.settings.endpoint
    try:
        answer = work.runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType=str(content_type), Accept=str(ContentType.JSON), Body=body
        )
        document = json.loads(answer["Body"].read())
    except ValueError as error:
        raise Unavailable(f"endpoint {endpoint} did not answer with JSON") from error
    except Exception as error:
        _, code, message = _client_fault(error)
        response = getattr(error, "response", {})
        original = int(response.get("OriginalStatusCode") or 0)
        if code == "ModelError" and 400 <= original < 500 and original not in _RETRYABLE_4XX:
            raise EndpointRefused(original, *_container_error(response)) from error
        raise Unavailable(f"endpoint {endpoint} cannot answer now: {code}: {message}") from error
    if not isinstance(document, dict) or "predictions" not in document:
        raise Unavailable(f"endpoint {endpoint} answered without predictions")
    return document


def _container_error(response: Mapping[str, Any]) -> tuple[str, str]:
    """Code and message out of the container's `{"error": {"code", "message"}}`, or its text as it is."""
    text = str(response.get("OriginalMessage") or response.get("Error", {}).get("Message", ""))
    try:
        error = json.loads(text)["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return BadRequest.code, text[:1000]


def _client_fault(error: Exception) -> tuple[int, str, str]:
    """Status, code and message of a boto3 client's exception; anything else is raised again.

    botocore is not imported: its ClientError carries `response`, its connection errors come from its own modules.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        return status, str(response["Error"].get("Code")), str(response["Error"].get("Message"))
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("botocore", "urllib3"):
        return 0, type(error).__name__, str(error)
    raise error


# --- fetching an address --------------------------------------------------------------------


def is_public(address: str) -> bool:
    """Whether an address belongs to the public Internet; those that embed another address do not.

    >>> [is_public(a) for a in ("93.184.216.34", "100.64.0.1", "::ffff:93.184.216.34", "2606:4700::1")]
    [True, False, False, True]
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_4)
    return ip.scope_id is None and ip in _PUBLIC_6 and not any(ip in network for network in _NOT_PUBLIC_6)


def _fetch(url: str, work: _Work) -> bytes:
    """The body behind an https address. Raises Forbidden, BadRequest or PayloadTooLarge."""
    deadline = work.clock() + FETCH_SECONDS
    for _ in range(MAX_REDIRECTS + 1):
        body, location = _fetch_once(_checked(url, work.settings.allowed_hosts), deadline, work)
        if location is None:
            return body
        try:
            url = urljoin(url, location)
        except ValueError as error:
            raise BadRequest(f"redirected to what is not an address: {error}") from error
    raise BadRequest(f"more than {MAX_REDIRECTS} redirects")


def _checked(url: str, allowed_hosts: frozenset[str]) -> SplitResult:
    """The parts of an address that may be fetched as far as its text tells."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError as error:
        raise BadRequest(f"not an address: {error}") from error
    if parts.scheme != "https" or port not in (None, 443) or "@" in parts.netloc or not url.isprintable():
        raise Forbidden("only https://host/… is fetched, on port 443 and without a user name")
    if host not in allowed_hosts:
        raise Forbidden(f"host {host!r} is not among the allowed ones", hint="see ALLOWED_URL_HOSTS")
    return parts


def _fetch_once(parts: SplitResult, deadline: float, work: _Work) -> tuple[bytes, str | None]:
    """Body, or the address to go to instead."""
    host = (parts.hostname or "").rstrip(".")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = (
        f"GET {quote(target, safe=_URL_CHARACTERS)} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        "Accept: image/jpeg, image/png, image/webp\r\nAccept-Encoding: identity\r\nUser-Agent: kennel\r\n\r\n"
    )
    try:
        addresses = work.resolve(host, 443)
        if not addresses or not all(is_public(address) for address in addresses):
            raise Forbidden(f"host {host!r} has an address that is not public")
        with _connected(addresses, host, deadline, work) as connection:
            connection.settimeout(_remaining(deadline, work.clock))
            connection.sendall(request.encode("ascii"))
            response = http.client.HTTPResponse(_TimedStream(connection, deadline, work.clock))  # type: ignore[arg-type]
            response.begin()
            if response.status in (301, 302, 303, 307, 308) and (location := response.headers.get("Location")):
                return b"", location
            if response.status != 200:
                raise BadRequest(f"host {host!r} answered with status {response.status}")
            if (response.length or 0) > MAX_PAYLOAD_BYTES or len(body := response.read(MAX_PAYLOAD_BYTES + 1)) > (
                MAX_PAYLOAD_BYTES
            ):
                raise PayloadTooLarge(f"the image has more than {MAX_PAYLOAD_BYTES} bytes")
            if response.length:  # read(n) does not raise when the body ends early
                raise BadRequest(f"host {host!r} ended the answer {response.length} bytes too early")
            return body, None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise BadRequest(f"cannot fetch from host {host!r}: {str(error) or type(error).__name__}") from error


def _connected(addresses: Sequence[str], host: str, deadline: float, work: _Work) -> socket.socket:
    """A connection to the first address that takes one. Raises OSError."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return work.connect(address, 443, host, _remaining(deadline, work.clock))
    return work.connect(addresses[-1], 443, host, _remaining(deadline, work.clock))


def _remaining(deadline: float, clock: Callable[[], float]) -> float:
    remaining = deadline - clock()
    if remaining <= 0:
        raise TimeoutError(f"it took more than {FETCH_SECONDS:.0f} seconds")
    return remaining


class _TimedStream(io.RawIOBase):
    """What a socket receives, until a deadline: a socket's own timeout starts anew with every byte."""

    def __init__(self, connection: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        self._connection, self._deadline, self._clock = connection, deadline, clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_remaining(self._deadline, self._clock))
        return self._connection.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)
