"""From nothing to an endpoint that answers and back to nothing, each verb twice, and each interrupted once.

One local AWS that outlives the commands stands for an account; only `push` and `images` are not here: they need a
Docker engine (tests/docker).
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import local_stack
import pipeline_runs
import stack_readers
from kennel.local import launcher

MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:kennel-pipeline"


class Account:
    """An account as a user of the command line has it."""

    def __init__(self, url: str, folder: Path, config: Path) -> None:
        self.home = folder / "home"
        self.arguments = ("--endpoint-url", url, "--config", config)
        self.seen = local_stack.Stack(url)
        self.at_first = stack_readers.everything(self.seen)

    def begin(self, verb: str, *arguments: str | Path) -> pipeline_runs.Run:
        return pipeline_runs.Run(verb, *self.arguments, *arguments, home=self.home)

    def do(self, verb: str, *arguments: str | Path, code: int = 0) -> str:
        """Run a verb to its end; what it said."""
        found, out, err = self.begin(verb, *arguments).end()
        assert found == code, out + err
        return out + err

    def told(self, verb: str, *arguments: str | Path) -> dict[str, Any]:
        """Run a verb to its end; the JSON that it printed."""
        code, out, err = self.begin(verb, *arguments, "--json").end()
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def interrupt(self, verb: str, *arguments: str | Path, at: str) -> None:
        """Begin a verb, and press Ctrl-C once it has said `at`."""
        run = self.begin(verb, *arguments)
        assert run.process.stdout is not None
        said = []
        for line in run.process.stdout:
            said.append(line)
            if at in line:
                break
        run.process.send_signal(signal.SIGINT)
        code, out, err = run.end()
        assert code == 130, "".join(said) + out + err

    @property
    def endpoint(self) -> dict[str, Any]:
        found: dict[str, Any] = self.seen.client("sagemaker").describe_endpoint(EndpointName="kennel")
        return found

    @property
    def executions(self) -> list[str]:
        listed = self.seen.client("stepfunctions").list_executions(stateMachineArn=MACHINE)["executions"]
        return [execution["status"] for execution in listed]

    @property
    def left(self) -> set[tuple[str, str]]:
        """What was not there at first."""
        return stack_readers.everything(self.seen) - self.at_first


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("account")
    config = pipeline_runs.configuration(folder / "small.toml", data=small_data)
    local = launcher.start(folder / "local", region="us-east-1", port=0, outlive_us=False)
    try:
        yield Account(local.endpoint_url, folder, config)
    finally:
        local.stop()
    assert pipeline_runs.left_behind(str(folder)) == []


# the tests of this module build on one another, in this order


def test_plan_of_an_empty_account_is_to_make_everything_and_makes_nothing(account):
    for _ in range(2):
        planned = account.told("plan")
        assert {row["action"] for row in planned["resources"]} == {"create"}
        assert [finding for finding in planned["findings"] if finding["level"] == "error"] == []
    assert account.left == set()


def test_deployment_that_was_interrupted_is_finished_by_the_next_and_left_alone_by_another(account):
    account.interrupt("deploy", at="CREATE_COMPLETE     Vpc")
    account.do("deploy")
    assert "CREATE_COMPLETE" not in account.do("deploy")
    assert account.told("plan")["resources"] == []


def test_run_that_was_interrupted_is_resumed_where_it_stopped(account):
    account.interrupt("run", at="TrainModel")
    assert account.executions == ["ABORTED"]
    result = account.told("resume")
    assert (result["mode"], result["status"]) == ("resume", "SUCCEEDED")
    assert "TuneHyperparameters" not in [state["name"] for state in result["states"]], "it had succeeded before"
    assert "there is nothing to resume" in account.do("resume", code=2)


def test_run_may_be_repeated(account):
    result = account.told("run")
    assert (result["status"], account.endpoint["EndpointStatus"]) == ("SUCCEEDED", "InService")
    assert account.endpoint["EndpointConfigName"] == result["execution"]


def test_rollout_that_was_interrupted_is_finished_by_the_next_and_then_there_is_nothing_to_do(account, tmp_path):
    earlier = min(path.parent.name for path in account.home.glob("runs/*/model.tar.gz"))
    account.interrupt("rollout", "--model", earlier, at="UpdateEndpoint")
    assert account.told("rollout", "--model", earlier)["status"] == "SUCCEEDED"
    assert account.told("rollout", "--model", earlier)["status"] == "UNCHANGED"
    s3 = account.seen.client("s3")
    recorded = s3.get_object(Bucket="kennel-123456789012-us-east-1", Key="deployments/current.json")["Body"].read()
    assert earlier in json.loads(recorded)["Model"]["ModelDataUrl"]


def test_training_on_ec2_that_was_interrupted_ends_its_instance_and_may_be_begun_anew(account):
    account.interrupt("train-on-ec2", at="Instance i-")
    result = account.told("train-on-ec2")
    assert result["status"] == "Completed"
    assert (Path(result["folder"]) / "model.tar.gz").is_file()
    pages = account.seen.client("ec2").describe_instances()["Reservations"]
    assert {item["State"]["Name"] for group in pages for item in group["Instances"]} <= {"shutting-down", "terminated"}


def test_status_says_what_runs_and_may_be_asked_again(account):
    said = [account.told("status") for _ in range(2)]
    assert said[0] == said[1]
    assert said[0]["endpoint"]["status"] == "InService"
    assert {execution["status"] for execution in said[0]["executions"]} == {"ABORTED", "SUCCEEDED"}


def test_taking_down_that_was_interrupted_is_finished_by_the_next_and_nothing_is_left(account):
    account.interrupt("down", at="removed: endpoint kennel")
    account.do("down")
    # SageMaker's group for the jobs of all the account: ours were removed from it
    assert account.left == {("log groups", "/aws/sagemaker/TrainingJobs")}
    streams = account.seen.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs")
    assert streams["logStreams"] == []
    sagemaker = account.seen.client("sagemaker")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
    scaling = account.seen.client("application-autoscaling")
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    again = account.do("down")
    assert "removed" not in again
    assert "free until then" in again, "the key"
