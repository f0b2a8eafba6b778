"""What `docker` and `shutdown` of a local instance are asked for."""

import shlex

import pytest

from kennel.local.instance_commands import Login, Pull, Refused, Run, Shutdown, Stop, parse


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("docker login --username AWS --password-stdin host:5000", Login(registry="host:5000")),
        ("docker pull --quiet kennel:1", Pull(image="kennel:1")),
        ("docker stop --time 120 training", Stop(name="training")),
        ("shutdown -h now", Shutdown(minutes=0.0)),
        ("shutdown -h +92", Shutdown(minutes=92.0)),
        ("shutdown now", Shutdown(minutes=0.0)),
    ],
)
def test_commands_are_read_as_the_real_ones_read_them(command, meant):
    assert parse(shlex.split(command)) == meant


def test_a_container_is_run_with_the_folder_that_it_is_to_have_as_opt_ml():
    hardening = "--rm --cap-drop ALL --security-opt no-new-privileges --pids-limit 9 --shm-size 4k"
    given = f"docker run --name t --network none {hardening} --volume '/a:b c:/opt/ml' --env X=1=2 --env Y= image train"
    assert parse(shlex.split(given)) == Run(
        name="t", image="image", base_dir="/a:b c", isolated=True, environment={"X": "1=2", "Y": ""}
    )


def test_a_container_without_a_word_about_its_network_has_one():
    command = parse(shlex.split("docker run --name t --volume /a:/opt/ml image train"))
    assert isinstance(command, Run)
    assert not command.isolated


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("docker", 125),
        ("docker ps", 125),
        ("docker run image train", 125),
        ("docker run --privileged --name t --volume /a:/opt/ml image train", 125),
        ("docker run --gpus all --name t --volume /a:/opt/ml image train", 125),
        ("docker run --name t --volume /a:/opt/ml image bash", 125),
        ("docker run --name t --volume /a:/opt/ml --volume /etc:/etc image train", 125),
        ("docker run --name t image train", 125),
        ("shutdown", 1),
        ("shutdown -h 12:00", 1),
        ("shutdown -h +1.5", 1),
        ("reboot", 127),
    ],
)
def test_what_a_local_instance_cannot_do_is_refused(command, status):
    refused = parse(shlex.split(command))
    assert isinstance(refused, Refused)
    assert refused.status == status
    assert refused.text
