"""Real functions in real processes; moto keeps their metadata."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psutil
import pytest
from moto import mock_aws
from moto.awslambda.models import lambda_backends

import kennel
from fake_role import FakeRole
from kennel.local.function_registry import MotoRegistry
from kennel.local.functions import Functions
from kennel.local.wire import ServiceError

REGION, ACCOUNT = "eu-west-1", "123456789012"

APP = """
import json, os, sys, time
from pathlib import Path

counter = Path(os.environ["COUNTER"])
with counter.open("a") as file:
    file.write(os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"] + "\\n")

def handler(event, context):
    print("got", json.dumps(event)[:100])
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "wait_for" in event:
        while not Path(event["wait_for"]).exists():
            time.sleep(0.01)
    if "exit" in event:
        os._exit(event["exit"])
    if "kill" in event:
        os.kill(os.getpid(), event["kill"])
    if "fail" in event:
        raise RuntimeError("on purpose")
    if "import" in event:
        __import__(event["import"])
    if "size" in event:
        return "x" * event["size"]
    return {
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "path": sys.path,
        "environment": dict(os.environ),
        "arn": context.invoked_function_arn,
        "request_id": context.aws_request_id,
        "version": context.function_version,
        "milliseconds": context.get_remaining_time_in_millis(),
        "custom": context.client_context.custom if context.client_context else None,
    }
"""


def zipped(source, name="app.py"):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, source)
    return target.getvalue()


class Rig:
    def __init__(self, path):
        self.path = path
        self.counter = path / "inits"
        self.logged = []
        self.delivered = []
        self.client = boto3.client("lambda", region_name=REGION)
        iam = boto3.client("iam", region_name=REGION)
        self.role = iam.create_role(RoleName="function", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self.functions = Functions(
            registry=MotoRegistry(lambda: lambda_backends[ACCOUNT][REGION]),
            endpoint_url="http://127.0.0.1:9",
            state_dir=path / "state",
            assume=lambda _version: FakeRole(self.logged, self.delivered),
            clock_factor=2000.0,
        )

    def forget(self):
        for function in self.client.list_functions()["Functions"]:
            self.client.delete_function(FunctionName=function["FunctionName"])
        boto3.client("iam", region_name=REGION).delete_role(RoleName="function")

    def create(self, name="f", source=APP, **options):
        options = {"Timeout": 20, **options}
        self.client.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=self.role,
            Handler="app.handler",
            Code={"ZipFile": zipped(source)},
            Environment={"Variables": {"COUNTER": str(self.counter), "COLOUR": "brown", "PATH": "/nowhere"}},
            **options,
        )

    def publish(self, name="f", alias="live"):
        number = self.client.publish_version(FunctionName=name)["Version"]
        self.client.create_alias(FunctionName=name, Name=alias, FunctionVersion=number)
        return number

    def invoke(self, event=None, name="f", **params):
        payload = json.dumps(event or {}).encode()
        return self.functions.invoke({"FunctionName": name, "Payload": payload, **params})

    def answer(self, event=None, name="f", **params):
        result = self.invoke(event, name, **params)
        assert "FunctionError" not in result, result["Payload"]
        return json.loads(result["Payload"])

    def fault(self, event=None, name="f"):
        result = self.invoke(event, name)
        assert result["FunctionError"] == "Unhandled"
        return json.loads(result["Payload"])

    def inits(self):
        return self.counter.read_text().split() if self.counter.exists() else []

    def provision(self, count, qualifier="live"):
        params = {"FunctionName": "f", "Qualifier": qualifier}
        self.functions.operations["PutProvisionedConcurrencyConfig"](
            {**params, "ProvisionedConcurrentExecutions": count}
        )
        return self.provisioned(qualifier)

    def provisioned(self, qualifier="live"):
        get = self.functions.operations["GetProvisionedConcurrencyConfig"]
        return wait_for(
            lambda: (
                state
                if (state := get({"FunctionName": "f", "Qualifier": qualifier}))["Status"] != "IN_PROGRESS"
                else None
            )
        )


def wait_for(condition, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
    return found


@pytest.fixture
def rig(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    moto = mock_aws()
    moto.start(reset=False)  # moto's state is the process's, and a local AWS of other tests may live in it
    try:
        rig = Rig(tmp_path)
        before = {process.pid for process in psutil.Process().children(recursive=True)}
        yield rig
        rig.functions.close()
        left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
        assert not left, f"processes left behind: {left}"
        rig.forget()
    finally:
        moto.stop(remove_data=False)


def test_a_real_handler_runs_in_a_process_of_its_own_and_stays_warm(rig):
    rig.create()
    first, second = rig.answer(), rig.answer()
    assert first["pid"] == second["pid"] != os.getpid()
    assert first["request_id"] != second["request_id"]
    assert rig.inits() == ["on-demand"]


def test_the_function_sees_lambdas_environment_and_nothing_of_ours(rig, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "1")
    rig.create(MemorySize=256, Timeout=7)
    number = rig.publish()
    answer = rig.answer(Qualifier="live", ClientContext=base64.b64encode(b'{"custom": {"a": "b"}}').decode())
    environment = answer["environment"]
    assert "SECRET_OF_THE_PARENT" not in environment and "VIRTUAL_ENV" not in environment
    assert environment["COLOUR"] == "brown"
    assert environment["PATH"] != "/nowhere", "names that Lambda reserves are Lambda's"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert environment["AWS_REGION"] == REGION
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "f"
    assert environment["AWS_LAMBDA_FUNCTION_VERSION"] == answer["version"] == number
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environment["LAMBDA_TASK_ROOT"] == answer["cwd"]
    assert environment["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    assert answer["arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f:live"
    assert answer["custom"] == {"a": "b"}
    assert 5000 < answer["milliseconds"] <= 7000


def test_only_the_zip_and_the_runtimes_packages_can_be_imported(rig):
    rig.create()
    fault = rig.fault({"import": "kennel"})
    assert fault["errorType"] == "ModuleNotFoundError"
    ours = str(Path(kennel.__file__).parent.parent)
    assert ours in sys.path and ours not in rig.answer()["path"]


def test_what_a_handler_raises_is_a_function_error_and_the_environment_lives_on(rig):
    rig.create()
    pid = rig.answer()["pid"]
    fault = rig.fault({"fail": 1})
    assert (fault["errorType"], fault["errorMessage"]) == ("RuntimeError", "on purpose")
    assert fault["stackTrace"]
    assert rig.answer()["pid"] == pid


def test_output_and_report_go_to_the_log_group_of_the_function(rig):
    rig.create()
    result = rig.invoke({"a": 1}, LogType="Tail")
    [(group, stream, lines)] = rig.logged
    assert group == "/aws/lambda/f"
    assert "/[$LATEST]" in stream
    assert lines[0].startswith("START RequestId: ")
    assert 'got {"a": 1}' in lines
    assert lines[-1].startswith("REPORT RequestId: ") and "Init Duration" in lines[-1]
    assert base64.b64decode(result["LogResult"]).decode().splitlines() == lines
    assert "Init Duration" not in (rig.invoke(), rig.logged)[1][-1][2][-1]


def test_a_function_that_takes_too_long_is_killed_and_says_so(rig):
    rig.create(Timeout=1)
    pid = rig.answer()["pid"]
    fault = rig.fault({"sleep": 60})
    assert fault["errorMessage"].endswith("Task timed out after 1.00 seconds")
    wait_for(lambda: not psutil.pid_exists(pid))
    assert rig.answer()["pid"] != pid


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"exit": 3}, "exit status 3"),
        ({"kill": int(signal.SIGKILL)}, "signal: killed"),
        ({"kill": int(signal.SIGSEGV)}, "signal: segmentation fault"),
        ({"exit": 0}, "Runtime exited without providing a reason"),
    ],
)
def test_a_function_that_crashes_answers_as_lambda_does(rig, event, reason):
    rig.create()
    fault = rig.fault(event)
    assert fault["errorType"] == "Runtime.ExitError"
    assert fault["errorMessage"].startswith("RequestId: ") and fault["errorMessage"].endswith(reason)
    assert rig.answer()["pid"]


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("import nothing_like_this", "Runtime.ImportModuleError", "nothing_like_this"),
        ("def handler(:", "Runtime.UserCodeSyntaxError", "Syntax error"),
        ("1 // 0", "ZeroDivisionError", "by zero"),
        ("x = 1", "Runtime.HandlerNotFound", "handler"),
        ("import os; os._exit(9)", "Runtime.ExitError", "exit status 9"),
    ],
)
def test_a_failing_initialization_is_reported_with_its_reason(rig, source, kind, message):
    rig.create(source=source)
    fault = rig.fault()
    assert fault["errorType"] == kind
    assert message in fault["errorMessage"]


def test_large_requests_and_answers_pass_and_larger_answers_are_refused(rig):
    rig.create()
    assert len(rig.answer({"size": 5_000_000, "ballast": "y" * 5_000_000})) == 5_000_000
    assert rig.fault({"size": 6_500_000})["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_zip_that_is_none_and_a_runtime_that_is_not_python_are_refused(rig):
    rig.create("bad")
    lambda_backends[ACCOUNT][REGION].get_function("bad").code_bytes = b"PK not a zip"
    rig.create("node")
    lambda_backends[ACCOUNT][REGION].get_function("node").run_time = "nodejs22.x"
    for name, code in (("bad", "InvalidZipFileException"), ("node", "InvalidRuntimeException")):
        with pytest.raises(ServiceError) as caught:
            rig.invoke(name=name)
        assert caught.value.code == code


def test_a_zip_cannot_write_outside_its_directory(rig):
    rig.create()
    lambda_backends[ACCOUNT][REGION].get_function("f").code_bytes = zipped("x = 1", "../../escaped.py")
    assert rig.fault()["errorType"] == "Runtime.ImportModuleError"
    # not rglob: it fails when the environment, which is ending, takes a folder away before its eyes
    found = [Path(folder) for folder, _, files in os.walk(rig.path) if "escaped.py" in files]
    assert [folder.parent.name for folder in found] == ["code"]


def test_new_code_and_new_variables_reach_the_next_invocation(rig):
    rig.create()
    assert rig.answer()["environment"]["COLOUR"] == "brown"
    variables = {"COUNTER": str(rig.counter), "COLOUR": "black"}
    rig.client.update_function_configuration(FunctionName="f", Environment={"Variables": variables})
    assert rig.answer()["environment"]["COLOUR"] == "black"
    rig.client.update_function_code(FunctionName="f", ZipFile=zipped("handler = lambda event, context: 'new'"))
    assert rig.answer() == "new"


def test_reserved_concurrency_really_throttles_and_zero_stops_the_function(rig):
    rig.create()
    rig.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)
    release = rig.path / "release"
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(rig.answer, {"wait_for": str(release)}) for _ in range(2)]
        wait_for(lambda: len(rig.inits()) == 2)
        with pytest.raises(ServiceError) as caught:
            rig.invoke()
        release.touch()
        assert len({future.result()["pid"] for future in running}) == 2
    assert (caught.value.status, caught.value.code) == (429, "TooManyRequestsException")
    assert caught.value.members["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert rig.answer()
    rig.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    with pytest.raises(ServiceError, match="Rate Exceeded"):
        rig.invoke()


def test_provisioned_environments_are_warm_before_the_first_invocation_and_others_spill_over(rig):
    rig.create()
    rig.publish()
    assert rig.provision(2)["AllocatedProvisionedConcurrentExecutions"] == 2
    assert rig.inits() == ["provisioned-concurrency"] * 2
    release = rig.path / "release"
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(rig.answer, {"wait_for": str(release)}, Qualifier="live") for _ in range(3)]
        wait_for(lambda: len(rig.inits()) == 3)
        assert rig.provisioned()["AvailableProvisionedConcurrentExecutions"] == 0
        release.touch()
        kinds = sorted(future.result()["environment"]["AWS_LAMBDA_INITIALIZATION_TYPE"] for future in futures)
    assert kinds == ["on-demand", "provisioned-concurrency", "provisioned-concurrency"]


def test_a_killed_provisioned_environment_is_replaced(rig):
    rig.create()
    rig.publish()
    rig.provision(1)
    pid = rig.answer(Qualifier="live")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(rig.inits()) == 2)
    rig.provisioned()
    answer = rig.answer(Qualifier="live")
    assert answer["pid"] != pid
    assert answer["environment"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "provisioned-concurrency"


def test_provisioned_environments_follow_the_alias_to_another_version(rig):
    rig.create()
    rig.publish()
    rig.provision(1)
    assert rig.answer(Qualifier="live")["version"] == "1"
    rig.client.update_function_configuration(FunctionName="f", Description="new", Timeout=9)
    number = rig.client.publish_version(FunctionName="f")["Version"]
    rig.client.update_alias(FunctionName="f", Name="live", FunctionVersion=number)
    assert rig.provisioned()["Status"] == "READY"
    answer = rig.answer(Qualifier="live")
    assert answer["version"] == number != "1"
    assert rig.inits() == ["provisioned-concurrency"] * 2


def test_provisioning_a_function_that_cannot_start_fails_with_a_reason(rig):
    rig.create(source="1 // 0")
    rig.publish()
    state = rig.provision(2)
    assert state["Status"] == "FAILED"
    assert state["StatusReason"].startswith("FUNCTION_ERROR_INIT_FAILURE")


def test_an_asynchronous_event_is_retried_twice_and_its_failure_delivered(rig):
    rig.create()
    destination = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failures"
    rig.client.put_function_event_invoke_config(
        FunctionName="f", DestinationConfig={"OnFailure": {"Destination": destination}}
    )
    rig.functions.invoke_async(f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f", b'{"fail": 1}')
    assert rig.functions.drain(30)
    requests = [line for _, _, lines in rig.logged for line in lines if line.startswith("START")]
    assert len(requests) == 3 and len(set(requests)) == 1
    [(arn, record)] = rig.delivered
    assert arn == destination
    assert record["responsePayload"]["errorMessage"] == "on purpose"


def test_close_ends_what_is_running_at_once(rig):
    rig.create()
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(rig.invoke, {"sleep": 60})
        wait_for(rig.inits)
        started = time.monotonic()
        rig.functions.close()
        assert time.monotonic() - started < 5
        assert future.result()["FunctionError"] == "Unhandled"
    assert not list((rig.path / "state" / "environments").iterdir())


PARENT = """
import sys, time
from pathlib import Path
from kennel.local.function_code import FunctionVersion
from kennel.local.function_runtime import Environment

path = Path(sys.argv[1])
(path / "code").mkdir()
(path / "code" / "app.py").write_text("import os, time\\ndef handler(e, c):\\n    return os.getpid()\\n")
version = FunctionVersion(name="f", version="1", arn="a:b:c:eu-west-1:d:function:f", handler="app.handler",
                          runtime="python3.11", timeout=60, memory=128)
environment = Environment(version, code=path / "code", state_dir=path, environment_id="e", initialization="on-demand",
                          endpoint_url="http://127.0.0.1:9", region="eu-west-1", credentials={}, log=lambda *_: None)
assert environment.wait_ready(30) is None
print(environment.invoke(b"{}", request_id="r", arn="a").payload.decode(), flush=True)
time.sleep(600)
"""


def test_no_process_is_left_when_the_parent_is_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_for(lambda: not psutil.pid_exists(pid), timeout=10)
