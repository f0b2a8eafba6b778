"""Fetching by https, over real TLS to a loopback listener that plays a public host."""

import datetime
import ipaddress
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kennel.invocation import Settings, connect, handle

JPEG = b"\xff\xd8\xff\xe0 a dog"
ANSWER = b'{"predictions": [], "model": {}}'


def certificate(path, *names):
    """A self-signed certificate for `names`; returns the file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    target = path / f"{names[0]}.pem"
    target.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return target


class Host:
    """A listener that answers every connection with the same bytes, by TLS unless `pem` is None."""

    def __init__(self, pem, answer):
        self.names = []
        self.requests = []
        self.answer = answer
        self.context = None
        if pem is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(pem)
            self.context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.held = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            if self.context is None:
                self.held.append(plain)  # accepts and never says a word
                continue
            try:
                with self.context.wrap_socket(plain, server_side=True) as connection:
                    self.requests.append(connection.recv(65536))
                    connection.sendall(self.answer)
            except OSError:
                continue

    def close(self):
        self.listener.close()
        for connection in self.held:
            connection.close()


class Runtime:
    def invoke_endpoint(self, **_):
        import io

        return {"Body": io.BytesIO(ANSWER)}


@pytest.fixture
def fetch(tmp_path):
    hosts = []

    def fetch(certified, *, trusted=True, timeout=5.0):
        pem = certificate(tmp_path, *certified) if certified else None
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(JPEG) + JPEG
        host = Host(pem, answer)
        hosts.append(host)
        context = ssl.create_default_context(cafile=pem if trusted and pem else None)
        asked = []

        def connector(address, port, name, _timeout):
            assert ipaddress.ip_address(address).is_global and port == 443
            return connect("127.0.0.1", host.port, name, timeout, context=context)

        response = handle(
            {"url": "https://img.example/dog.jpg"},
            settings=Settings(endpoint="e", bucket="b", allowed_hosts=frozenset({"img.example"})),
            runtime=Runtime(),
            s3=None,
            request_id="r",
            resolve=lambda name, port: asked.append(name) or ["93.184.216.34"],
            connect=connector,
            log=lambda _: None,
        )
        assert asked == ["img.example"], "a second look-up could give another address"
        return response, host

    yield fetch
    for host in hosts:
        host.close()


def test_an_image_is_fetched_by_tls_under_the_hosts_name(fetch):
    response, host = fetch(["img.example"])
    assert response["statusCode"] == 200, response
    assert host.names == ["img.example"]
    assert host.requests[0].startswith(b"GET /dog.jpg HTTP/1.1\r\nHost: img.example\r\n")


@pytest.mark.parametrize(("certified", "trusted"), [(["evil.example"], True), (["img.example"], False)])
def test_a_certificate_for_another_host_or_of_nobody_we_trust_is_refused(fetch, certified, trusted):
    response, host = fetch(certified, trusted=trusted)
    assert response["statusCode"] == 400
    assert "certificate" in response["body"]
    assert not any(host.requests)


def test_a_host_that_accepts_and_says_nothing_is_given_up(fetch):
    response, _ = fetch(None, timeout=0.3)
    assert response["statusCode"] == 400
    assert "timed out" in response["body"]
