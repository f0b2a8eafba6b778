"""A registry of images over a real socket: what it holds is given, what it was asked is kept. It takes no uploads."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


def manifest(*layers: int) -> bytes:
    """A manifest of layers of these sizes, and a configuration of 10 bytes."""
    return json.dumps({"config": {"size": 10}, "layers": [{"size": size} for size in layers]}).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class FakeRegistry:
    """Repository → tag → manifest, and what has no tag; status 0 is to answer as usual."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.tags: dict[str, dict[str, bytes]] = {}
        self.untagged: dict[str, list[bytes]] = {}
        self.status = 0

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.status:
            return self.status, {}, b""
        name, _, what = path.removeprefix("/v2/").rpartition("/manifests/")
        if path == "/v2/":
            return 200, {}, b"{}"
        if path.endswith("/tags/list"):
            name = path.removeprefix("/v2/").removesuffix("/tags/list")
            if name not in self.tags:
                return 404, {}, b"{}"
            return 200, {}, json.dumps({"name": name, "tags": sorted(self.tags[name]) or None}).encode()
        held = [*self.tags.get(name, {}).items(), *(("", content) for content in self.untagged.get(name, []))]
        for tag, content in held:
            if what in (tag, digest_of(content)):
                if method == "DELETE":
                    self.tags[name] = {t: c for t, c in self.tags[name].items() if digest_of(c) != what}
                    return 202, {}, b""
                return 200, {"Docker-Content-Digest": digest_of(content), "Content-Type": MEDIA_TYPE}, content
        return 404, {}, b"{}"


@contextmanager
def serving() -> Iterator[FakeRegistry]:
    """A registry on a free port, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            status, headers, body = registry.answer(self.command, self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = do

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry = FakeRegistry(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
