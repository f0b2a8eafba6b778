"""How moto keeps resources: what each change to it brings, and that moto still lacks it; when that fails, it can go."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("moto_resources_probe.py")


def probed(*arguments):
    done = subprocess.run(
        [sys.executable, str(PROBE), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def plain():
    return probed()


@pytest.fixture(scope="module")
def patched():
    return probed("patched")


def test_a_bucket_is_logged_before_its_log_buckets_policy_is_there(plain, patched):
    assert patched["logging"] == "done"
    assert plain["logging"] == "InvalidTargetBucketForLogging"


def test_no_line_is_made_up_in_the_log_bucket(plain, patched):
    assert patched["lines"] == 0
    assert plain["lines"] > 0


def test_a_bucket_policy_denies_only_where_its_condition_holds(plain, patched):
    assert patched["conditional"] == "done"
    assert plain["conditional"] != "done"


def test_a_queue_keeps_its_policy_when_something_else_is_set(plain, patched):
    assert patched["queue"]
    assert not plain["queue"]


def test_a_function_keeps_its_logging_and_its_tracing(plain, patched):
    assert patched["function"] == ["mine", "other", "Active"]
    assert plain["function"] == [None, None, "PassThrough"]


def test_rules_of_security_groups_keep_their_descriptions(plain, patched):
    assert patched["rules"] == ["groups", "prefixes"]
    assert plain["rules"] == []


def test_motos_own_cloudformation_knows_too_little_of_types_and_tells_nothing_of_resources(plain):
    """Why CloudFormation is ours. When this fails, look at moto's again."""
    assert plain["cloudformation"]["told"] == ["one"]
    assert {"AWS::S3::BucketPolicy", "AWS::Lambda::Alias", "AWS::CloudWatch::Alarm"} <= set(
        plain["cloudformation"]["unknown"]
    )
