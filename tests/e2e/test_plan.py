"""`run.py plan` finds offline what AWS would refuse, and what it may cost, before anything begins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import configurations
import pipeline_runs

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
    assert key in err
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


def test_nothing_that_costs_begins_where_nobody_can_agree(tmp_path, small_data):
    home, config = tmp_path / "home", tmp_path / "aws.toml"
    shutil.copy(ROOT / "config" / "aws.toml", config)
    for verb in ("deploy", "train-on-ec2"):
        code, out, err = pipeline_runs.run(verb, "--config", config, "--data", small_data, home=home)
        assert (code, "nobody is there to be asked" in err) == (2, True), out + err
        assert "$" in out or "USD" in out
