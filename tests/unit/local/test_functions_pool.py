import threading
import time

import pytest

from kennel.local.function_code import FunctionVersion
from kennel.local.function_pool import Initialization, Pool, ProvisionStatus
from kennel.local.function_registry import AsyncSettings
from kennel.local.function_runtime import Outcome
from kennel.local.wire import ServiceError

DONE = Outcome(payload=b"{}")


def version(number="1", name="f"):
    return FunctionVersion(
        name=name,
        version=number,
        arn=f"arn:aws:lambda:eu-west-1:123456789012:function:{name}",
        handler="app.handler",
        runtime="python3.11",
        timeout=3,
        memory=128,
        code=number.encode(),
    )


class FakeRegistry:
    def __init__(self):
        self.aliases = {"live": version("1")}
        self.limits = {}

    def resolve(self, name, qualifier):
        if qualifier in self.aliases:
            return self.aliases[qualifier]
        if qualifier == "gone":
            raise ServiceError("ResourceNotFoundException", "gone", status=404)
        return version(qualifier or "$LATEST", name)

    def is_alias(self, name, qualifier):
        return qualifier in self.aliases

    def reserved(self, name):
        return self.limits.get(name)

    def total_reserved(self):
        return sum(self.limits.values())

    def async_settings(self, name):
        return AsyncSettings()


class FakeEnvironment:
    def __init__(self, version, initialization, failure=None):
        self.version = version
        self.initialization = initialization
        self.idle_since = 0.0
        self.usable = failure is None
        self.failure = failure
        self.joined = False

    def wait_ready(self, timeout):
        return self.failure

    def stop(self):
        self.usable = False

    def join(self, timeout=30.0):
        self.joined = True


class Rig:
    def __init__(self, **options):
        self.registry = FakeRegistry()
        self.started = []
        self.failure = None
        self.now = 0.0
        options = {"account_concurrency": 1000, "idle_seconds": 100.0, **options}
        self.pool = Pool(
            registry=self.registry,
            start=self.start,
            clock=lambda: self.now,
            init_timeout=1.0,
            batch=2,
            **options,
        )

    def start(self, version, initialization):
        if isinstance(self.failure, Exception):
            raise self.failure
        environment = FakeEnvironment(version, initialization, self.failure)
        self.started.append(environment)
        return environment

    def run(self, qualifier=None, use=lambda environment: DONE, name="f"):
        found = self.registry.resolve(name, qualifier)
        return self.pool.run(found, qualifier, use)

    def while_running(self, then, qualifier=None, name="f"):
        """Call `then` while one invocation is in flight; return what it returns."""
        results = []

        def use(environment):
            results.append(then())
            return DONE

        self.run(qualifier, use, name)
        return results[0]

    def provision(self, qualifier, count):
        found = self.registry.resolve("f", qualifier)
        return self.pool.provision(found, qualifier, count, modified="now")

    def state(self):
        return self.pool.provisioned("f")[0]

    def wait_for(self, condition):
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.002)


@pytest.fixture
def make():
    rigs = []

    def make(**options):
        rigs.append(Rig(**options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.pool.close()
        assert all(environment.joined for environment in rig.started), "an environment was left behind"


@pytest.fixture
def rig(make):
    return make()


def throttle_reason(call):
    with pytest.raises(ServiceError) as caught:
        call()
    assert (caught.value.code, caught.value.status) == ("TooManyRequestsException", 429)
    return caught.value.members["Reason"]


RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_a_warm_environment_is_used_again(rig):
    rig.run()
    rig.run()
    assert len(rig.started) == 1


def test_two_invocations_at_once_use_two_environments(rig):
    rig.while_running(rig.run)
    assert len(rig.started) == 2


def test_another_version_does_not_use_a_warm_environment(rig):
    rig.run("1")
    rig.run("2")
    assert [environment.version.version for environment in rig.started] == ["1", "2"]


def test_an_environment_that_died_is_not_used_again(rig):
    rig.run(use=lambda environment: environment.stop() or DONE)
    rig.run()
    assert len(rig.started) == 2


def test_an_environment_that_was_idle_for_long_ends(rig):
    rig.run()
    rig.now = 101.0
    rig.wait_for(lambda: rig.started[0].joined)


def test_an_environment_that_fails_to_start_gives_its_reason_and_leaves_no_lease(rig):
    rig.registry.limits["f"] = 1
    rig.failure = Outcome(payload=b'{"errorType": "x"}', error="Unhandled")
    assert rig.run() is rig.failure
    assert rig.run() is rig.failure


def test_code_that_cannot_be_unpacked_leaves_no_lease(rig):
    rig.registry.limits["f"] = 1
    rig.failure = ServiceError("InvalidZipFileException", "no zip", status=502)
    for _ in range(2):
        with pytest.raises(ServiceError, match="no zip"):
            rig.run()


def test_reserved_concurrency_is_a_cap_over_all_versions(rig):
    rig.registry.limits["f"] = 1
    assert rig.while_running(lambda: throttle_reason(lambda: rig.run("2")), "1") == RESERVED
    assert rig.run("2") is DONE


def test_reserved_concurrency_of_zero_always_throttles(rig):
    rig.registry.limits["f"] = 0
    assert throttle_reason(rig.run) == RESERVED


def test_functions_without_a_reservation_share_what_the_others_leave(make):
    rig = make(account_concurrency=3)
    rig.registry.limits["f"] = 2
    inner = lambda: throttle_reason(lambda: rig.run(name="h"))  # noqa: E731
    assert rig.while_running(inner, name="g") == "ConcurrentInvocationLimitExceeded"
    assert rig.while_running(lambda: rig.run(name="f"), name="g") is DONE


def test_an_exception_in_an_invocation_frees_its_concurrency(rig):
    rig.registry.limits["f"] = 1
    with pytest.raises(ZeroDivisionError):
        rig.run(use=lambda environment: 1 // 0)
    assert rig.run() is DONE


def test_provisioned_environments_are_started_before_they_are_needed_and_used_first(rig):
    assert rig.provision("live", 3).status == ProvisionStatus.IN_PROGRESS
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    assert [environment.initialization for environment in rig.started] == [Initialization.PROVISIONED] * 3
    state = rig.while_running(rig.state, "live")
    assert (state.allocated, state.available) == (3, 2)
    assert len(rig.started) == 3


def test_invocations_beyond_the_provisioned_ones_spill_over_to_on_demand(rig):
    rig.provision("live", 1)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    rig.while_running(lambda: rig.run("live"), "live")
    assert [environment.initialization for environment in rig.started] == [
        Initialization.PROVISIONED,
        Initialization.ON_DEMAND,
    ]


def test_invocations_past_the_alias_do_not_use_its_provisioned_environments(rig):
    rig.provision("live", 1)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    rig.run("1")
    assert rig.started[-1].initialization == Initialization.ON_DEMAND


def test_what_is_provisioned_counts_against_the_reserved_concurrency_of_the_rest(rig):
    rig.registry.limits["f"] = 2
    rig.provision("live", 2)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    assert throttle_reason(lambda: rig.run("2")) == RESERVED
    assert rig.run("live") is DONE


def test_a_provisioned_environment_that_dies_is_replaced(rig):
    rig.provision("live", 2)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    rig.started[0].stop()
    rig.wait_for(lambda: len(rig.started) == 3 and rig.state().status == ProvisionStatus.READY)


def test_a_failing_initialization_makes_the_configuration_failed(rig):
    rig.failure = Outcome(payload=b"{}", error="Unhandled")
    rig.provision("live", 5)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.FAILED)
    assert rig.state().reason.startswith("FUNCTION_ERROR_INIT_FAILURE")
    assert len(rig.started) == 2, "one batch must be enough to know"


def test_an_alias_that_is_pointed_elsewhere_takes_its_provisioned_environments_along(rig):
    rig.provision("live", 2)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    rig.registry.aliases["live"] = version("2")
    assert rig.state().status == ProvisionStatus.IN_PROGRESS
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    assert [environment.version.version for environment in rig.started] == ["1", "1", "2", "2"]
    rig.wait_for(lambda: all(environment.joined for environment in rig.started[:2]))


def test_a_busy_environment_that_is_no_longer_provisioned_finishes_first(rig):
    rig.provision("live", 1)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)

    def use(environment):
        rig.pool.unprovision("f", "live")
        assert environment.usable
        return DONE

    rig.run("live", use)
    rig.wait_for(lambda: rig.started[0].joined)


def test_fewer_provisioned_environments_end_the_surplus(rig):
    rig.provision("live", 3)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    assert rig.provision("live", 1).status == ProvisionStatus.READY
    rig.wait_for(lambda: sum(environment.joined for environment in rig.started) == 2)


def test_a_deleted_function_gives_up_its_provisioned_environments(rig):
    rig.provision("live", 1)
    rig.wait_for(lambda: rig.state().status == ProvisionStatus.READY)
    rig.pool.provision(version("1"), "gone", 1, modified="now")
    rig.wait_for(lambda: [state.qualifier for state in rig.pool.provisioned("f")] == ["live"])


def test_many_threads_never_exceed_the_reserved_concurrency(rig):
    rig.registry.limits["f"] = 3
    running, peak, lock, throttled = 0, 0, threading.Lock(), 0

    def use(environment):
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.001)
        with lock:
            running -= 1
        return DONE

    def work():
        nonlocal throttled
        for _ in range(20):
            try:
                rig.run(use=use)
            except ServiceError:
                with lock:
                    throttled += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peak == 3
    assert throttled > 0
    assert len(rig.started) <= 3


def test_nothing_runs_after_close(rig):
    rig.run()
    rig.pool.close()
    with pytest.raises(ServiceError):
        rig.run()
