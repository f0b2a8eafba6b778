"""`run.py plan` finds offline what AWS would refuse, and what it may cost, before anything begins."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import configurations
import pipeline_runs
from kennel.local import launcher

ROOT = Path(__file__).resolve().parents[2]


def plan(tmp_path, *arguments, **changes):
    """Exit status, output and errors of a plan for AWS, where there are no credentials."""
    config = tmp_path / "some.toml"
    config.write_text(configurations.text({"aws.endpoint_url": "", "data.source": "s3://theirs/photos", **changes}))
    return pipeline_runs.run("plan", "--config", config, *arguments, home=tmp_path / "home")


def test_what_is_checked_in_for_aws_would_be_taken(tmp_path):
    code, out, err = pipeline_runs.run("plan", "--target", "aws", home=tmp_path / "home")
    assert (code, err) == (0, "")
    assert "No credentials were found, and AWS was not asked" in out
    assert "Nothing is known against it" in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize(
    ("changes", "key", "what"),
    [
        ({"training.instance_type": "ml.g4dn.xlarg"}, "training.instance_type", "ml.g4dn.xlarge"),
        ({"endpoint.instance_type": "ml.t2.medium"}, "endpoint.instance_type", "burst"),
        ({"endpoint.instance_type": "ml.g4dn.xlarge"}, "endpoint.instance_type", "refuses a KMS key"),
        ({"training.max_runtime_seconds": 500_000}, "training.max_runtime_seconds", "quota"),
    ],
)
def test_what_aws_would_refuse_is_an_error_at_its_key(tmp_path, changes, key, what):
    code, out, err = plan(tmp_path, **changes)
    assert code == 2
    assert f"Mend in the configuration: {key}" in err
    assert what in " ".join(out.split())


def test_more_provisioned_than_reserved_is_an_error_of_the_configuration(tmp_path):
    code, _, err = plan(tmp_path, **{"function.provisioned_concurrency": 6, "function.reserved_concurrency": 5})
    assert (code, "function.provisioned_concurrency is 6, above" in err) == (2, True)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"scaling.scale_in_cooldown": 30}, "scaling.scale_in_cooldown"),
        ({"training.max_runtime_seconds": 100_000}, "training.max_runtime_seconds"),
        ({"function.allowed_url_hosts": ["example.com"]}, "function.allowed_url_hosts"),
    ],
)
def test_what_is_unwise_is_a_warning_and_no_error(tmp_path, changes, key):
    code, out, _ = plan(tmp_path, **changes)
    assert (code, key in out, "1 warning" in out) == (0, True, True)


def test_more_than_was_allowed_is_refused_with_the_sum(tmp_path):
    code, _, err = plan(tmp_path, "--max-cost", "0.01")
    assert (code, "a run may cost $" in err) == (2, True)
    assert plan(tmp_path, "--max-cost", "100")[0] == 0


def test_the_plan_as_json_has_every_request(tmp_path):
    code, out, _ = plan(tmp_path, "--json")
    found = json.loads(out)
    assert code == 0
    assert {"CreateTrainingJob", "CreateModel", "UpdateEndpoint"} <= {one["operation"] for one in found["requests"]}
    assert found["monthly"]["minimum"] < found["monthly"]["maximum"]


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Environment of a shell in which boto3 finds an account: a local AWS stands for it."""
    local = launcher.start(tmp_path_factory.mktemp("account"), region="us-east-1", port=0, outlive_us=False)
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_ENDPOINT_URL": local.endpoint_url}
    yield {**os.environ, **keys, "COLUMNS": "80"}
    local.stop()


def on_aws(verb, tmp_path, account, data, *arguments, answer=None):
    """Run a verb for AWS; `answer` is typed at a terminal, None is a standard input that has ended."""
    command = [sys.executable, str(ROOT / "statemachine" / "run.py"), verb, "--target", "aws", "--data", str(data)]
    command += ["--home", str(tmp_path / "home"), *arguments]
    if answer is None:
        piped = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        return subprocess.run(command, env=account, timeout=60, check=False, **piped)
    terminal, ours = pty.openpty()
    os.write(terminal, answer.encode())
    piped = {"stdin": ours, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        return subprocess.run(command, env=account, timeout=60, check=False, **piped)
    finally:
        os.close(ours)
        os.close(terminal)


@pytest.mark.parametrize("verb", ["run", "deploy", "train-on-ec2"])
def test_nothing_that_costs_begins_where_nobody_can_agree(tmp_path, small_data, account, verb):
    done = on_aws(verb, tmp_path, account, small_data)
    assert (done.returncode, "nobody is there to be asked" in done.stderr) == (2, True), done.stderr
    assert "Every month, as long as it stays" in done.stdout
    assert ("TuneHyperparameters" in done.stdout) == (verb == "run")
    assert ("train-on-ec2" in done.stdout) == (verb == "train-on-ec2")


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_nothing_that_costs_begins_unless_somebody_agrees(tmp_path, small_data, account, answer):
    done = on_aws("deploy", tmp_path, account, small_data, "--json", answer=answer)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Go on? [y/N]" in done.stderr, "the question is not for whoever reads the JSON"
    assert "it was not agreed to" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_account_there_is_nothing_to_agree_to(tmp_path, small_data):
    config = tmp_path / "aws.toml"
    config.write_text(configurations.text({"aws.endpoint_url": ""}))
    code, out, err = pipeline_runs.run("deploy", "--config", config, "--data", small_data, home=tmp_path / "home")
    assert (code, out) == (1, "")
    assert "there are no credentials for AWS" in err
