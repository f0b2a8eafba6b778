"""The gate over real HTTP, with a fake backend whose speed and faults the tests decide."""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field

import aiohttp
import pytest

from kennel import errors
from kennel.serving.backend import Reply
from kennel.serving.gate import Gate, Limits
from kennel.serving.health import Health


@dataclass
class FakeBackend:
    reply: Reply = field(default_factory=lambda: Reply(status=200, body=b'{"predictions":[]}'))
    down: bool = False
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[tuple[bytes, str]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def invoke(self, body, content_type, *, seconds):
        self.seen.append((body, content_type))
        if self.down:
            raise errors.Unavailable("down")
        self.running += 1
        self.most = max(self.most, self.running)
        await self.hold.wait()
        self.running -= 1
        return self.reply


@dataclass
class Rig:
    backend: FakeBackend
    gate: Gate
    health: Health
    session: aiohttp.ClientSession
    url: str
    address: tuple[str, int]

    async def post(self, body=b"x", **headers):
        headers = {"Content-Type": "image/jpeg"} | {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.session.post(f"{self.url}/invocations", data=body, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path, method="GET"):
        async with self.session.request(method, f"{self.url}{path}") as response:
            return response.status, await response.read()

    async def raw(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(request)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(65_536), 5)
        writer.close()
        return answer


def serve(test, *, ready=True, **limits):
    async def main():
        backend = FakeBackend()
        backend.hold.set()

        async def probe():
            return not backend.down

        health = Health(probe, clock=asyncio.get_running_loop().time)
        if ready:
            health.proved()
        gate = Gate(backend, health, Limits(**({"slots": 2} | limits)))
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        await gate.listen(listening)
        async with aiohttp.ClientSession() as session:
            await test(Rig(backend, gate, health, session, "http://{}:{}".format(*address), address))
        await gate.close()
        await health.close()

    asyncio.run(main())


def test_an_invocation_is_passed_on_and_its_answer_returned():
    async def test(rig):
        status, answer, headers = await rig.post(b"bytes", Content_Type="Image/JPEG; q=1")
        assert (status, answer) == (200, {"predictions": []})
        assert rig.backend.seen == [(b"bytes", "Image/JPEG; q=1")]
        assert headers["Content-Type"].startswith("application/json")
        assert "aiohttp" not in headers["Server"]

    serve(test)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/models"),
        ("POST", "/models?url=x"),
        ("DELETE", "/models/model"),
        ("GET", "/invocations"),
        ("POST", "/ping"),
        ("HEAD", "/ping"),
        ("POST", "/predictions/model"),
        ("GET", "/invocations/../models"),
        ("GET", "//models"),
        ("GET", "/api-description"),
        ("OPTIONS", "/"),
    ],
)
def test_every_other_path_and_method_is_not_found(method, path):
    async def test(rig):
        assert (await rig.get(path, method))[0] == 404
        assert rig.backend.seen == []

    serve(test)


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [(b"", "application/x-image"), (b"Content-Type: image/png\r\n", "image/png")],
)
def test_a_put_is_an_image_of_any_kind_unless_it_says_which(headers, content_type):
    async def test(rig):
        answer = await rig.raw(b"PUT /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + headers + b"\r\nab")
        assert answer.startswith(b"HTTP/1.1 200")
        assert rig.backend.seen == [(b"ab", content_type)]

    serve(test)


def test_a_body_announced_as_too_large_is_refused_unread():
    async def test(rig):
        answer = await rig.raw(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "PayloadTooLarge"

    serve(test, payload_bytes=100)


def test_a_client_that_asks_first_is_refused_before_it_sends():
    async def test(rig):
        request = b"POST /invocations HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        assert (await rig.raw(request % 101)).startswith(b"HTTP/1.1 413")
        assert (await rig.raw(request % 1)).startswith(b"HTTP/1.1 100")

    serve(test, payload_bytes=100)


def test_a_body_of_unannounced_length_is_refused_when_it_grows_too_large():
    async def test(rig):
        async def chunks():
            for _ in range(50):
                yield b"x" * 100

        status, answer, _ = await rig.post(chunks())
        assert (status, answer["error"]["code"]) == (413, "PayloadTooLarge")
        assert rig.backend.seen == []

    serve(test, payload_bytes=1_000)


def test_a_body_of_exactly_the_allowed_size_is_taken():
    async def test(rig):
        assert (await rig.post(b"x" * 1_000))[0] == 200
        assert (await rig.post(b"x" * 1_001))[0] == 413

    serve(test, payload_bytes=1_000)


def test_compressed_bodies_are_refused():
    async def test(rig):
        assert (await rig.post(Content_Encoding="gzip"))[0] == 415

    serve(test)


def test_a_body_that_never_arrives_is_given_up():
    async def test(rig):
        answer = await rig.raw(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert answer.startswith(b"HTTP/1.1 400")

    serve(test, body_seconds=0.1)


def test_a_caller_that_goes_away_leaves_no_request_behind(caplog):
    async def test(rig):
        _, writer = await asyncio.open_connection(*rig.address)
        writer.write(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.05)
        assert await rig.gate.drain()
        assert rig.backend.seen == []
        assert caplog.records == []

    serve(test)


def test_no_more_requests_than_slots_reach_the_model_server_and_the_rest_wait():
    async def test(rig):
        rig.backend.hold.clear()
        requests = [asyncio.create_task(rig.post()) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert rig.backend.running == 2
        rig.backend.hold.set()
        assert [r[0] for r in await asyncio.gather(*requests)] == [200] * 10
        assert rig.backend.most == 2

    serve(test)


@pytest.mark.parametrize("limits", [{"requests": 3}, {"request_bytes": 30}])
def test_overload_is_refused_with_a_time_to_retry_and_passes(limits):
    async def test(rig):
        rig.backend.hold.clear()
        held = [asyncio.create_task(rig.post(b"x" * 10)) for _ in range(3)]
        await asyncio.sleep(0.1)
        status, answer, headers = await rig.post(b"x" * 10)
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (503, "Unavailable", "1")
        assert (await rig.get("/ping"))[0] == 200  # busy is not ill
        rig.backend.hold.set()
        assert [r[0] for r in await asyncio.gather(*held)] == [200] * 3
        assert (await rig.post(b"x" * 10))[0] == 200

    serve(test, **limits)


def test_an_answer_that_takes_too_long_is_unavailable_and_frees_its_slot():
    async def test(rig):
        rig.backend.hold.clear()
        assert [r[0] for r in await asyncio.gather(*[rig.post() for _ in range(4)])] == [503] * 4
        rig.backend.hold.set()
        assert (await rig.post())[0] == 200

    serve(test, answer_seconds=0.2)


def test_before_the_first_prediction_everything_is_unavailable():
    async def test(rig):
        status, body = await rig.get("/ping")
        assert (status, json.loads(body)["error"]["message"]) == (503, "the model is loading.")
        assert (await rig.post())[0] == 503

    serve(test, ready=False)


def test_the_ping_follows_the_predictions(monkeypatch):
    monkeypatch.setattr("kennel.serving.health.FRESH_SECONDS", 0.0)

    async def test(rig):
        assert (await rig.get("/ping"))[0] == 200
        rig.backend.down = True
        assert (await rig.get("/ping"))[0] == 503
        assert (await rig.post())[0] == 503
        rig.backend.down = False
        assert (await rig.get("/ping"))[0] == 200

    serve(test)


def test_draining_finishes_what_is_under_way_and_accepts_nothing_new():
    async def test(rig):
        rig.backend.hold.clear()
        held = asyncio.create_task(rig.post())
        idle_reader, idle = await asyncio.open_connection(*rig.address)
        await asyncio.sleep(0.1)
        drained = asyncio.create_task(rig.gate.drain())
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*rig.address)
        idle.write(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        assert (await idle_reader.readline()).startswith(b"HTTP/1.1 503")
        idle.close()
        assert not drained.done()
        rig.backend.hold.set()
        assert (await held)[0] == 200
        assert await drained

    serve(test)


def test_draining_gives_up_in_time():
    async def test(rig):
        rig.backend.hold.clear()
        held = asyncio.create_task(rig.post())
        await asyncio.sleep(0.1)
        assert not await rig.gate.drain()
        rig.backend.hold.set()
        await held

    serve(test, drain_seconds=0.1)
