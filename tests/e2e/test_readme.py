"""What the README shows is executed, word for word, in a copy of the checkout with a small data set.

Only the configuration differs: fewer trials, fewer epochs, so that it takes seconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import composed
from kennel import sample
from kennel.local import launcher

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SMALL = {
    'source = "sample"': 'source = ".kennel/sample"',
    "max_jobs = 4": "max_jobs = 2",
    'image_size = "40"': 'image_size = "32"',
    'epochs = "4"': 'epochs = "2"',
    "minimum_validation_accuracy = 0.5": "minimum_validation_accuracy = 0.0",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows, with this environment in it, and a small sample."""
    copy = tmp_path_factory.mktemp("readme") / "kennel"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    for name in listed.splitlines():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for environment in (".venv", ".venv-authoring"):
        (copy / environment).symlink_to(ROOT / environment)
    for made_from in ("pyproject.toml", "constraints.txt", "constraints-authoring.txt"):
        os.utime(copy / made_from, (0, 0))  # the environments are linked, not to be made again from here
    config = copy / "config/local.toml"
    text = config.read_text()
    for wanted, small in SMALL.items():
        assert wanted in text, f"config/local.toml has no {wanted!r} any more"
        text = text.replace(wanted, small)
    config.write_text(text)
    sample.generate(copy / ".kennel/sample", seed=7, classes=3, per_split={"train": 12, "valid": 4, "test": 4})
    return copy


def shell(script: str, checkout: Path) -> str:
    """Run a block as a person would paste it, stopping at the first error; return what it printed."""
    # a `make` around this test hands its own variables down, ARGS among them: a person's shell has none
    clean = {k: v for k, v in os.environ.items() if k != "ARGS" and not k.startswith(("MAKE", "MFLAGS"))}
    environment = clean | {"PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}", "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    printed = done.stdout.decode()
    assert done.returncode == 0, printed
    return printed


def test_every_block_is_known_to_a_test() -> None:
    first_lines = [block.splitlines()[0] for block in BLOCKS]
    assert first_lines == [
        "make run",
        "make test",
        'make run ARGS="--data path/to/images"',
        'make run ARGS="--keep --port 4566"',
        "docker compose up --detach",
        "make images",
        "source .venv/bin/activate",
        "python statemachine/run.py deploy --target aws --yes",
    ]


def test_make_run_ends_with_an_answer_of_the_endpoint(checkout: Path) -> None:
    printed = shell(BLOCKS[0], checkout)
    assert "answers the smoke test" in printed
    results = list(checkout.glob(".kennel/runs/*/result.json"))
    assert json.loads(results[0].read_text())["status"] == "SUCCEEDED"


def test_make_test_runs_pytest(checkout: Path) -> None:
    # the whole suite inside itself would never end: one fast test stands for it, through the same target
    printed = shell(BLOCKS[1].replace("make test", 'make test ARGS="tests/unit/test_archive.py"'), checkout)
    assert re.search(r"\d+ passed", printed)


def test_a_folder_of_images_is_all_it_takes(checkout: Path) -> None:
    shutil.copytree(checkout / ".kennel/sample", checkout / "path/to/images")
    printed = shell(BLOCKS[2], checkout)
    assert "answers the smoke test" in printed


def test_the_tour_of_the_kept_system_works_line_by_line(checkout: Path) -> None:
    tour = BLOCKS[3].replace("4566", str(free_port()))
    # the function answers the upload on its own time; a person is slower than this script
    tour = tour.replace("aws s3 cp s3://kennel-123456789012", "sleep 5; aws s3 cp s3://kennel-123456789012")
    printed = shell(tour, checkout)
    assert "InService" in printed
    direct = json.loads((checkout / "answer.json").read_text())["predictions"]
    through_function = json.loads(json.loads((checkout / "response.json").read_text())["body"])["predictions"]
    assert direct == through_function
    assert f'"label": "{direct[0]["label"]}"' in printed  # the prediction object
    assert not (checkout / ".kennel/local/server.json").exists(), "make down left the local AWS up"


@pytest.mark.docker
def test_compose_serves_a_model_to_curl(checkout: Path, images: object) -> None:
    port = free_port()
    image = next((checkout / ".kennel/sample/test").rglob("*.jpg"))
    shutil.copy(image, checkout / "image.jpg")
    project = f"kennel-test-{os.urandom(4).hex()}"
    block = BLOCKS[4].replace("8080", str(port)).replace("docker compose", " ".join(composed.command()))
    printed = shell(f"export KENNEL_PORT={port} COMPOSE_PROJECT_NAME={project}\n{block}", checkout)
    shell(f"export COMPOSE_PROJECT_NAME={project}; {' '.join(composed.command())} down --volumes", checkout)
    assert '{"predictions":[{"label":' in printed


@pytest.mark.docker
def test_images_are_built_run_pushed_and_rolled_out(checkout: Path, registry: str) -> None:
    printed = shell(BLOCKS[5], checkout)
    assert "answers the smoke test" in printed
    assert f"{registry}/kennel-serving@sha256:" in printed
    results = [json.loads(path.read_text()) for path in checkout.glob(".kennel/runs/*/result.json")]
    last = max(results, key=lambda result: str(result["started"]))
    assert (last["mode"], last["status"]) == ("rollout", "SUCCEEDED")
    assert not (checkout / ".kennel/local/server.json").exists(), "make down left the local AWS up"


def test_plan_for_aws_needs_no_account(checkout: Path) -> None:
    # no credentials, and a home without any
    printed = shell(f"export HOME={checkout / 'nowhere'}\n{BLOCKS[6]}", checkout)
    assert "AWS was not asked" in printed
    assert "at most" in printed


def test_account_is_filled_and_emptied(checkout: Path) -> None:
    # a local AWS stands for the account; pushing needs a Docker engine, and so does what runs after a push
    lines = [line for line in BLOCKS[7].splitlines() if line.split()[2] not in ("push", "run")]
    local = launcher.start(checkout / "account", region="us-east-1", port=0, outlive_us=False)
    keys = "AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any"
    try:
        printed = shell("\n".join([f"export AWS_ENDPOINT_URL={local.endpoint_url} {keys}", *lines]), checkout)
    finally:
        local.stop()
    assert "Everything that an execution needs is there" in printed
    assert "console.aws.amazon.com" in printed
    assert "removed: stack kennel" in printed


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^"]+)"', README)))
)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
