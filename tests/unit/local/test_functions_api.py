import base64
import json
import threading
import time
from dataclasses import replace

import pytest

from fake_role import FakeRole
from kennel.local.function_code import FunctionVersion
from kennel.local.function_queue import EventQueue, QueuedEvent
from kennel.local.function_registry import AsyncSettings, parse_name
from kennel.local.function_runtime import Outcome
from kennel.local.functions import MAX_ASYNC_BYTES, MAX_SYNC_BYTES, Functions
from kennel.local.wire import ServiceError

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f"
CONFIG = FunctionVersion(
    name="f", version="$LATEST", arn=ARN, handler="app.handler", runtime="python3.11", timeout=3, memory=128
)
FAILED = Outcome(payload=b'{"errorMessage": "boo"}', error="Unhandled", log=("boo",))


class FakeRegistry:
    def __init__(self):
        self.reservation = None
        self.settings = AsyncSettings()
        self.aliases = {"live": "1", "edge": "1", "next": "2", "head": "$LATEST"}

    def resolve(self, name, qualifier):
        number = self.aliases.get(qualifier, qualifier or "$LATEST")
        if name != "f" or number not in ("$LATEST", "1", "2"):
            raise ServiceError("ResourceNotFoundException", "Function not found", status=404)
        return replace(CONFIG, version=number, arn=f"{ARN}:{qualifier}" if qualifier else ARN)

    def is_alias(self, name, qualifier):
        return qualifier in self.aliases

    def reserved(self, name):
        return self.reservation

    def total_reserved(self):
        return self.reservation or 0

    def async_settings(self, name):
        return self.settings


class FakeEnvironment:
    def __init__(self, rig, version):
        self.rig = rig
        self.version = version
        self.idle_since = 0.0
        self.usable = True

    def wait_ready(self, timeout):
        return None

    def invoke(self, payload, *, request_id, arn, client_context=None):
        self.rig.invocations.append((payload, request_id, arn, client_context, time.monotonic()))
        outcome = self.rig.outcomes.pop(0) if self.rig.outcomes else Outcome(payload=payload, log=("START", "END"))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stop(self):
        self.usable = False

    def join(self, timeout=30.0):
        pass


class Rig:
    def __init__(self, path):
        self.registry = FakeRegistry()
        self.invocations = []
        self.outcomes = []
        self.delivered = []
        ids = iter(range(1000))
        self.functions = Functions(
            registry=self.registry,
            endpoint_url="http://127.0.0.1:1",
            state_dir=path,
            assume=lambda _version: FakeRole([], self.delivered),
            clock_factor=1000.0,
            workers=2,
            start=lambda version, _: FakeEnvironment(self, version),
            wall=lambda: 1_700_000_000.0,
            new_id=lambda: f"id-{next(ids)}",
        )

    def invoke(self, **params):
        return self.functions.invoke({"FunctionName": "f", **params})

    def call(self, operation, **params):
        return self.functions.operations[operation]({"FunctionName": "f", **params})


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.functions.close()


def code(call):
    with pytest.raises(ServiceError) as caught:
        call()
    return caught.value.code, caught.value.status


def test_an_invocation_answers_with_what_the_function_returned(rig):
    result = rig.invoke(Payload=b'{"a": 1}', LogType="Tail", Qualifier="live")
    assert result == {
        "StatusCode": 200,
        "Payload": b'{"a": 1}',
        "ExecutedVersion": "1",
        "LogResult": base64.b64encode(b"START\nEND").decode(),
    }
    assert rig.invocations[0][2] == f"{ARN}:live"


def test_a_function_error_is_a_success_of_the_call(rig):
    rig.outcomes = [FAILED]
    result = rig.invoke()
    assert (result["StatusCode"], result["FunctionError"], result["Payload"]) == (200, "Unhandled", FAILED.payload)


def test_no_payload_is_an_empty_event(rig):
    assert rig.invoke()["Payload"] == b"{}"


def test_a_dry_run_runs_nothing(rig):
    assert rig.invoke(InvocationType="DryRun")["StatusCode"] == 204
    assert not rig.invocations


def test_the_log_tail_is_four_kilobytes(rig):
    rig.outcomes = [Outcome(payload=b"1", log=("x" * 5000, "end"))]
    tail = base64.b64decode(rig.invoke(LogType="Tail")["LogResult"])
    assert len(tail) == 4096 and tail.endswith(b"x\nend")


def test_a_client_context_reaches_the_function_decoded(rig):
    rig.invoke(ClientContext=base64.b64encode(b'{"custom": {"a": 1}}').decode())
    assert json.loads(rig.invocations[0][3]) == {"custom": {"a": 1}}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"FunctionName": "g"}, ("ResourceNotFoundException", 404)),
        ({"Qualifier": "nope"}, ("ResourceNotFoundException", 404)),
        ({"Payload": b"{"}, ("InvalidRequestContentException", 400)),
        ({"Payload": b"\xff"}, ("InvalidRequestContentException", 400)),
        ({"Payload": b"1" * (MAX_SYNC_BYTES + 1)}, ("RequestTooLargeException", 413)),
        ({"Payload": b"1" * (MAX_ASYNC_BYTES + 1), "InvocationType": "Event"}, ("RequestTooLargeException", 413)),
        ({"ClientContext": "%"}, ("InvalidRequestContentException", 400)),
        ({"FunctionName": "f:1", "Qualifier": "2"}, ("InvalidParameterValueException", 400)),
        ({"FunctionName": "f:1:2"}, ("InvalidParameterValueException", 400)),
    ],
)
def test_bad_invocations_are_refused_with_the_codes_of_aws(rig, params, expected):
    assert code(lambda: rig.invoke(**params)) == expected
    assert not rig.invocations


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("f", None), ("f", None)),
        (("f", "2"), ("f", "2")),
        (("f:live", None), ("f", "live")),
        (("f:live", "live"), ("f", "live")),
        (("function:f", None), ("f", None)),
        (("123456789012:function:f:$LATEST", None), ("f", "$LATEST")),
        ((ARN, "1"), ("f", "1")),
        ((f"{ARN}:live", None), ("f", "live")),
    ],
)
def test_functions_are_found_by_name_partial_and_full_arn(given, expected):
    assert parse_name(*given) == expected


# --- asynchronous invocations


def test_an_event_is_accepted_at_once_and_run_later(rig):
    assert rig.invoke(InvocationType="Event", Payload=b"1") == {"StatusCode": 202, "Payload": b""}
    assert rig.functions.drain(5)
    assert [call[0] for call in rig.invocations] == [b"1"]


def test_a_failed_event_is_retried_twice_with_the_same_request_id_and_aws_delays(rig):
    rig.outcomes = [FAILED, FAILED, FAILED]
    rig.functions.invoke_async(f"{ARN}:live", b"1")
    assert rig.functions.drain(5)
    assert len(rig.invocations) == 3
    assert len({call[1] for call in rig.invocations}) == 1
    times = [call[4] for call in rig.invocations]
    assert times[1] - times[0] >= 0.060 and times[2] - times[1] >= 0.120  # 60 s and 120 s, a thousand times faster


def test_a_retry_that_succeeds_is_the_last(rig):
    rig.outcomes = [FAILED]
    rig.functions.invoke_async(ARN, b"1")
    assert rig.functions.drain(5)
    assert len(rig.invocations) == 2
    assert not rig.delivered


def test_the_functions_own_retry_settings_are_respected_and_its_failure_destination_told(rig):
    rig.registry.settings = AsyncSettings(max_retries=0, on_failure="arn:aws:sqs:eu-west-1:123456789012:failures")
    rig.outcomes = [FAILED]
    rig.functions.invoke_async(ARN, b'{"a": 1}')
    assert rig.functions.drain(5)
    [(destination, record)] = rig.delivered
    assert destination == "arn:aws:sqs:eu-west-1:123456789012:failures"
    assert record["requestContext"] == {
        "requestId": rig.invocations[0][1],
        "functionArn": f"{ARN}:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 1,
    }
    assert record["requestPayload"] == {"a": 1}
    assert record["responsePayload"] == {"errorMessage": "boo"}


def test_a_throttled_event_waits_without_using_up_its_retries(rig):
    rig.registry.reservation = 0
    rig.registry.settings = AsyncSettings(max_retries=0)
    rig.functions.invoke_async(ARN, b"1")
    assert not rig.functions.drain(0.05)
    assert not rig.invocations
    rig.registry.reservation = None
    assert rig.functions.drain(5)
    assert len(rig.invocations) == 1


def test_a_throttled_event_is_given_up_when_it_is_too_old(rig):
    rig.registry.reservation = 0
    rig.registry.settings = AsyncSettings(max_age=60.0, on_failure="arn")
    rig.functions.invoke_async(ARN, b"1")
    assert rig.functions.drain(5)
    assert rig.delivered[0][1]["requestContext"]["condition"] == "EventAgeExceeded"


def test_an_event_for_no_function_is_refused_at_once(rig):
    assert code(lambda: rig.functions.invoke_async(f"{ARN}x", b"1")) == ("ResourceNotFoundException", 404)


def test_a_worker_survives_a_bug_and_the_event_is_tried_again(rig):
    rig.outcomes = [RuntimeError("bug"), RuntimeError("bug")]
    for _ in range(2):
        rig.functions.invoke_async(ARN, b"1")
    assert rig.functions.drain(5)
    assert len(rig.invocations) == 4


def test_close_drops_what_is_queued_and_ends_the_workers():
    ran = threading.Event()
    queue = EventQueue(lambda event: ran.set(), workers=2, clock=time.monotonic)
    queue.put(QueuedEvent(name="f", qualifier=None, payload=b"1", request_id="r", born=0.0), delay=3600)
    queue.close()
    assert queue.drain(0)
    assert not ran.is_set()


# --- provisioned concurrency


def ready(rig, **params):
    deadline = time.monotonic() + 10
    while (state := rig.call("GetProvisionedConcurrencyConfig", **params))["Status"] == "IN_PROGRESS":
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return state


def test_provisioned_concurrency_is_in_progress_then_ready_then_gone(rig):
    put = rig.call("PutProvisionedConcurrencyConfig", Qualifier="live", ProvisionedConcurrentExecutions=2)
    assert (put["Status"], put["RequestedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 2)
    assert ready(rig, Qualifier="live") == {
        "RequestedProvisionedConcurrentExecutions": 2,
        "AvailableProvisionedConcurrentExecutions": 2,
        "AllocatedProvisionedConcurrentExecutions": 2,
        "Status": "READY",
        "LastModified": "2023-11-14T22:13:20+0000",
    }
    [listed] = rig.call("ListProvisionedConcurrencyConfigs")["ProvisionedConcurrencyConfigs"]
    assert listed["FunctionArn"] == f"{ARN}:live"
    assert rig.call("DeleteProvisionedConcurrencyConfig", Qualifier="live") == {}
    assert rig.call("ListProvisionedConcurrencyConfigs") == {"ProvisionedConcurrencyConfigs": []}
    get = lambda: rig.call("GetProvisionedConcurrencyConfig", Qualifier="live")  # noqa: E731
    assert code(get) == ("ProvisionedConcurrencyConfigNotFoundException", 404)


@pytest.mark.parametrize("qualifier", ["$LATEST", "head"])
def test_provisioned_concurrency_needs_a_published_version(rig, qualifier):
    put = lambda: rig.call(  # noqa: E731
        "PutProvisionedConcurrencyConfig", Qualifier=qualifier, ProvisionedConcurrentExecutions=1
    )
    assert code(put) == ("InvalidParameterValueException", 400)


def test_provisioned_concurrency_may_not_exceed_the_reserved_over_all_qualifiers(rig):
    rig.registry.reservation = 3
    rig.call("PutProvisionedConcurrencyConfig", Qualifier="live", ProvisionedConcurrentExecutions=2)
    with pytest.raises(ServiceError, match="should not be greater than the reservedConcurrentExecution"):
        rig.call("PutProvisionedConcurrencyConfig", Qualifier="2", ProvisionedConcurrentExecutions=2)
    rig.call("PutProvisionedConcurrencyConfig", Qualifier="2", ProvisionedConcurrentExecutions=1)


def test_provisioned_concurrency_leaves_a_hundred_to_the_account(rig):
    with pytest.raises(ServiceError, match=r"minimum value of \[100\]"):
        rig.call("PutProvisionedConcurrencyConfig", Qualifier="live", ProvisionedConcurrentExecutions=901)


@pytest.mark.parametrize(("first", "second"), [("1", "live"), ("live", "1"), ("live", "edge")])
def test_a_version_is_provisioned_once(rig, first, second):
    rig.call("PutProvisionedConcurrencyConfig", Qualifier=first, ProvisionedConcurrentExecutions=1)
    again = lambda: rig.call(  # noqa: E731
        "PutProvisionedConcurrencyConfig", Qualifier=second, ProvisionedConcurrentExecutions=1
    )
    assert code(again) == ("ResourceConflictException", 409)


def test_provisioned_concurrency_of_what_does_not_exist_is_refused(rig):
    for operation in ("Put", "Get", "Delete"):
        call = lambda name=f"{operation}ProvisionedConcurrencyConfig": rig.call(  # noqa: E731
            name, Qualifier="nope", ProvisionedConcurrentExecutions=1
        )
        assert code(call) == ("ResourceNotFoundException", 404)
