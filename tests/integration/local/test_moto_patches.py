"""Each change to moto: what it brings, and that moto still lacks it. When the second fails, the change can go."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("moto_probe.py")


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


def test_executions_run(plain, patched):
    assert patched["execution"]["output"] == {"ran": True}
    assert "output" not in plain["execution"]


def test_sagemaker_jobs_can_be_waited_for(plain, patched):
    assert patched["sync"]["output"]["TrainingJobStatus"] == "Completed"
    assert plain["sync"]["status"] == "FAILED"


def test_application_auto_scaling_can_be_called_by_its_name_in_step_functions(plain, patched):
    assert patched["autoscaling"]["output"] == {"ScalableTargets": []}
    assert plain["autoscaling"]["status"] == "FAILED"


def test_a_task_signs_with_the_role_of_its_state_machine(plain, patched):
    assert patched["signer"].endswith(":user/signer")
    assert not plain["signer"].endswith(":user/signer")


def test_a_parameter_named_like_a_keyword_takes_a_path(plain, patched):
    assert patched["keyword"]["output"] == {"RoleArn": "it"}
    assert plain["keyword"]["output"] == {"RoleArn.$": "$.role"}


def test_a_path_to_one_value_within_a_list_gives_the_value(plain, patched):
    assert patched["index"]["output"] == 1
    assert plain["index"]["output"] == [1]


@pytest.mark.parametrize("service", ["SageMaker", "Lambda", "S3", "ApplicationAutoScaling"])
def test_errors_carry_the_services_name_as_aws_spells_it(plain, patched, service):
    assert patched["names"][service].startswith(f"{service}.")
    assert not plain["names"][service].startswith(f"{service}.")


def test_timestamps_are_text_to_the_states_that_follow(plain, patched):
    assert patched["timestamps"]["output"]["text"].startswith("20")
    assert plain["timestamps"]["status"] == "FAILED"


def test_s3_gives_its_notifications_to_us(plain, patched):
    assert patched["notification"] == {"invoked by moto": 0, "given to us": 1}
    assert plain["notification"] == {"invoked by moto": 1, "given to us": 0}


def test_repositories_are_where_images_are(plain, patched):
    assert patched["repository"] == "127.0.0.1:5999/repo"
    assert plain["repository"].endswith(".amazonaws.com/repo")


def test_an_instance_is_handed_to_us_with_its_user_data_and_role(plain, patched):
    assert patched["instances"]["launched"] == [["#!/bin/sh", "arn:aws:iam::123456789012:role/role"]]
    assert plain["instances"]["launched"] == []


def test_a_repeated_client_token_starts_nothing(plain, patched):
    assert patched["instances"]["same"]
    assert not plain["instances"]["same"]


def test_an_instance_is_what_its_launch_template_says(plain, patched):
    wanted = {"profile": True, "tokens": "required", "in the subnet": True, "behavior": "terminate"}
    assert {key: patched["instances"][key] for key in wanted} == wanted
    assert plain["instances"]["profile"] is False
    assert plain["instances"]["tokens"] == "optional"
    assert plain["instances"]["in the subnet"] is False
    assert plain["instances"]["behavior"] == "stop"


def test_an_instance_is_terminated_when_what_runs_in_it_has_ended(plain, patched):
    assert patched["instances"]["states"] == ["shutting-down", "shutting-down", "terminated"]
    assert plain["instances"]["states"] == ["terminated", "terminated", "terminated"]


def test_the_console_of_an_instance_is_its_own(plain, patched):
    assert patched["instances"]["console"] == "what it printed"
    assert plain["instances"]["console"].startswith("Linux version 2.6")
