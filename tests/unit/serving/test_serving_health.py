import asyncio
import io

from PIL import Image

from kennel.serving.health import Health, grey_png


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Probe:
    def __init__(self, answer=True):
        self.calls = 0
        self.answer = answer
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        self.calls += 1
        await self.gate.wait()
        return self.answer


def run(test, *, answer=True):
    async def main():
        clock, probe = Clock(), Probe(answer)
        health = Health(probe, clock=clock)
        await test(health, clock, probe)
        await health.close()

    asyncio.run(main())


def test_before_the_first_proof_a_ping_is_refused_at_once():
    async def test(health, clock, probe):
        assert not await health.ping()
        assert probe.calls == 0
        assert not health.started

    run(test)


def test_pings_within_a_second_of_a_proof_cost_no_probe():
    async def test(health, clock, probe):
        assert await health.check()
        clock.now += 0.9
        assert all([await health.ping() for _ in range(50)])
        assert probe.calls == 1

    run(test)


def test_a_callers_own_prediction_is_a_proof():
    async def test(health, clock, probe):
        health.proved()
        assert health.started
        assert await health.ping()
        assert probe.calls == 0

    run(test)


def test_a_ping_after_a_quiet_second_probes_again():
    async def test(health, clock, probe):
        health.proved()
        clock.now += 1.1
        assert await health.ping()
        assert probe.calls == 1
        assert health.silence() == 0

    run(test)


def test_a_failed_probe_makes_the_ping_fail_and_is_no_proof():
    async def test(health, clock, probe):
        health.proved()
        probe.answer = False
        clock.now += 1.1
        assert not await health.ping()
        assert health.silence() > 1

    run(test)


def test_many_pings_at_once_share_one_probe():
    async def test(health, clock, probe):
        health.proved()
        clock.now += 1.1
        probe.gate.clear()
        pings = [asyncio.create_task(health.ping()) for _ in range(20)]
        await asyncio.sleep(0)
        probe.gate.set()
        assert all(await asyncio.gather(*pings))
        assert probe.calls == 1

    run(test)


def test_a_slow_probe_is_healthy_for_a_while_and_then_not(monkeypatch):
    monkeypatch.setattr("kennel.serving.health.PATIENCE_SECONDS", 0.01)

    async def test(health, clock, probe):
        health.proved()
        probe.gate.clear()
        clock.now += 4
        assert await health.ping()  # busy
        clock.now += 2
        assert not await health.ping()  # hanging

    run(test)


def test_the_generated_picture_is_a_picture():
    with Image.open(io.BytesIO(grey_png())) as image:
        image.load()
        assert image.size == (8, 8)
        assert image.getpixel((3, 3)) == 128
