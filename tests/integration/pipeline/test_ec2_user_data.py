"""The user data of a training on EC2, run by bash with small scripts for an instance's aws, docker and shutdown."""

import json
import os
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kennel import archive
from kennel.pipeline import ec2_request
from kennel.pipeline.ec2_request import Ec2Job
from waiting import until

SCRIPT = (Path(__file__).parents[3] / ec2_request.SCRIPT).read_text()
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/kennel-training@sha256:{'0' * 64}"

AWS = """
echo "aws $*" >> "$ROOT/calls"
case "$1 $2" in
  "ecr get-login-password") echo password ;;
  "s3 sync" | "s3 cp")
    arguments=()
    for argument; do
      [[ $argument =~ ^(s3|sync|cp|--.*|\\*.partial)$ ]] || arguments+=("$argument")
    done
    from=${arguments[0]/#s3:\\/\\//$ROOT/s3/} to=${arguments[1]/#s3:\\/\\//$ROOT/s3/}
    if [ "$2" = cp ]; then mkdir -p "$(dirname "$to")" && cp "$from" "$to"; exit; fi
    if [ -d "$from" ]; then mkdir -p "$to" && cp -r "$from/." "$to"; fi ;;
esac
"""

DOCKER = """
echo "docker $*" >> "$ROOT/calls"
case "$1" in
  login) cat > /dev/null ;;
  pull) [ ! -e "$ROOT/no-image" ] || { echo "no such image"; exit 1; } ;;
  run) echo $$ > "$ROOT/pid"; cd "$SAGEMAKER_BASE_DIR"; . "$ROOT/train" ;;
  stop) kill -TERM "$(cat "$ROOT/pid")"; while kill -0 "$(cat "$ROOT/pid")" 2> /dev/null; do sleep 0.05; done ;;
esac
"""

SHUTDOWN = 'echo "shutdown $*" >> "$ROOT/calls"'


class Instance:
    def __init__(self, root):
        self.root = root
        self.environment = {"AWS_EC2_METADATA_DISABLED": "true"}
        (root / "bin").mkdir()
        commands = {"aws": AWS, "docker": DOCKER, "shutdown": SHUTDOWN, "python3": f'exec {sys.executable} "$@"'}
        for name, text in commands.items():
            (root / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
            (root / "bin" / name).chmod(0o755)

    def start(self, train, *, script=SCRIPT, sync_seconds=60, **changes):
        """Begin to run the user data of a job whose training is the shell script `train`."""
        values = {
            "name": "job",
            "image": IMAGE,
            "region": "us-east-1",
            "bucket": "bucket",
            "hyperparameters": {},
            "channels": {},
            "launch_template": "lt-1",
            "kms_key_arn": "arn:aws:kms:us-east-1:123456789012:key/k",
            "instance_type": "g5.xlarge",
            "volume_gb": 100,
            "max_runtime_seconds": 60,
            "spot": False,
        }
        (self.root / "train").write_text(train)
        rendered = ec2_request.user_data(Ec2Job(**{**values, **changes}), script, sync_seconds=sync_seconds)
        (self.root / "user-data").write_text(rendered)
        environment = {
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "ROOT": str(self.root),
            "SAGEMAKER_BASE_DIR": str(self.root / "opt/ml"),
            "TMPDIR": str(self.root),
            **self.environment,
        }
        with (self.root / "console").open("wb") as console:
            return subprocess.Popen(
                ["bash", str(self.root / "user-data")], env=environment, stdout=console, stderr=console
            )

    def run(self, train, **changes):
        """Run it to its end; return the status document."""
        self.start(train, **changes).wait(20)
        return json.loads((self.root / "s3/bucket/models/job/output/status.json").read_text())

    @property
    def calls(self):
        return (self.root / "calls").read_text().splitlines()

    @property
    def output(self):
        return self.root / "s3/bucket/models/job/output"


@pytest.fixture
def instance(tmp_path):
    return Instance(tmp_path)


def test_the_time_limit_is_armed_before_anything_else_and_the_shutdown_is_the_last(instance):
    assert instance.run("echo w > model/w")["Status"] == "Completed"
    assert instance.calls[0] == "shutdown -h +33"
    assert instance.calls[-1] == "shutdown -h now"
    assert instance.calls[-2].endswith("/status.json s3://bucket/models/job/output/status.json")


def test_the_training_runs_in_the_image_by_its_digest_without_network_and_rights(instance):
    instance.run("echo w > model/w")
    started = next(call for call in instance.calls if call.startswith("docker run"))
    assert f"--volume {instance.root}/opt/ml:/opt/ml " in started
    assert started.endswith(f" {IMAGE} train")
    for option in ("--rm", "--network none", "--cap-drop ALL", "--security-opt no-new-privileges"):
        assert f" {option} " in started
    assert "--gpus" not in started
    registry = IMAGE.partition("/")[0]
    assert f"docker login --username AWS --password-stdin {registry}" in instance.calls


@pytest.mark.parametrize("value", ["'; reboot; '", '"$(reboot)"', "`reboot`", "a\nb", "\\", "é ☂", "$HOME", "!!"])
def test_hostile_hyperparameters_reach_the_training_as_they_are(instance, value):
    assert instance.run("cp input/config/hyperparameters.json model/w", hyperparameters={"x": value})["ExitStatus"] == 0
    with tarfile.open(instance.output / "model.tar.gz") as tar:
        assert json.load(tar.extractfile("w")) == {"x": value}


def test_an_instance_with_a_gpu_gives_it_to_the_training(instance):
    (instance.root / "bin/nvidia-smi").write_text("#!/bin/bash\n")
    (instance.root / "bin/nvidia-smi").chmod(0o755)
    instance.run("echo w > model/w")
    assert any(call.startswith("docker run") and " --gpus all " in call for call in instance.calls)


def test_the_model_is_packed_as_sagemaker_packs_it_and_unpacks_with_distrust(instance, tmp_path):
    instance.run("mkdir model/code; echo x > model/code/x.py; echo w > 'model/a file'")
    with tarfile.open(instance.output / "model.tar.gz") as tar:
        assert tar.getnames() == ["a file", "code", "code/x.py"]
        assert {member.uid for member in tar} == {0}
    archive.unpack(instance.output / "model.tar.gz", tmp_path / "unpacked")
    assert (tmp_path / "unpacked/code/x.py").read_text() == "x\n"


@pytest.mark.parametrize(
    ("train", "reason", "status"),
    [
        (r"""printf 'Error: "the"\n reason%02000d' 0 > output/failure; exit 1""", 'Error: "the"\n reason000', 1),
        (r"printf 'bytes \377' > output/failure; exit 1", "bytes \N{REPLACEMENT CHARACTER}", 1),
        ("echo out of luck; kill -KILL $$", "the training left no reason; its last lines:\n", 137),
        ("ln -s /etc/passwd output/failure; exit 3", "the training left no reason; its last lines:\n", 3),
        ("rmdir output/data output; ln -s / output; exit 3", "the training left no reason; its last lines:\n", 3),
        ("true", "AlgorithmError: the training wrote nothing to /opt/ml/model, so there is no model", 0),
        ("echo w > model/w; ln -s /etc/passwd model/link", "AlgorithmError: ", 0),
        ("rmdir model; ln -s /etc model", "AlgorithmError: ", 0),
    ],
)  # fmt: skip
def test_a_training_that_fails_says_why_in_1024_characters_and_leaves_no_model(instance, train, reason, status):
    left = instance.run(train)
    assert (left["Status"], left["ExitStatus"]) == ("Failed", status)
    assert left["FailureReason"].startswith(reason)
    assert len(left["FailureReason"]) <= 1024
    assert "root:" not in left["FailureReason"]
    assert not (instance.output / "model.tar.gz").exists()
    assert "kennel: training" in (instance.output / "train.log").read_text()


def test_the_last_lines_of_a_training_without_a_reason_are_the_reason(instance):
    assert instance.run("echo out of luck; exit 1")["FailureReason"].endswith("out of luck\n")


def test_checkpoints_are_not_read_through_a_link_in_their_place(instance):
    instance.run("rmdir checkpoints; ln -s /etc checkpoints; echo w > model/w")
    assert not any("checkpoints s3:" in call for call in instance.calls)


def test_without_its_parameters_it_shuts_the_instance_down_at_once(instance):
    with pytest.raises(FileNotFoundError):
        instance.run("true", script="unset TIME_LIMIT_MINUTES\n" + SCRIPT)
    assert instance.calls == ["shutdown -h now"]


def test_what_fails_before_the_training_is_the_reason(instance):
    (instance.root / "no-image").touch()
    left = instance.run("true")
    assert (left["Status"], left["ExitStatus"]) == ("Failed", None)
    assert left["FailureReason"].startswith(f"pulling {IMAGE} failed; the last lines: ")
    assert left["FailureReason"].endswith("no such image")
    assert instance.calls[-1] == "shutdown -h now"


def test_a_model_that_cannot_be_uploaded_fails_the_job(instance):
    (instance.root / "bin/gzip").write_text("#!/bin/bash\nexit 1\n")
    (instance.root / "bin/gzip").chmod(0o755)
    left = instance.run("echo w > model/w")
    assert (left["Status"], left["FailureReason"]) == (
        "Failed",
        "the model could not be uploaded; train.log says why",
    )


def test_sigterm_stops_the_training_and_keeps_what_it_has(instance):
    train = "trap 'echo so far > model/w; exit 143' TERM; touch checkpoints/1; while true; do sleep 0.05; done"
    process = instance.start(train)
    until((instance.root / "opt/ml/checkpoints/1").exists)
    process.terminate()
    process.wait(10)
    left = json.loads((instance.output / "status.json").read_text())
    assert left == {"Status": "Stopped", "FailureReason": "the instance was shut down", "ExitStatus": 143}
    assert (instance.root / "s3/bucket/checkpoints/job/1").exists()
    assert (instance.output / "model.tar.gz").exists()
    assert instance.calls[-1] == "shutdown -h now"


def test_checkpoints_and_log_are_uploaded_while_the_training_runs(instance):
    process = instance.start("echo hello; touch checkpoints/1; while true; do sleep 0.05; done", sync_seconds=1)
    until((instance.root / "s3/bucket/checkpoints/job/1").exists)
    until((instance.output / "train.log").exists)
    until(lambda: "hello" in (instance.output / "train.log").read_text())
    assert process.poll() is None
    process.terminate()
    process.wait(10)


@pytest.fixture
def metadata():
    """An instance metadata service, version 2 only, that tells of an interruption once `notices` has one."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            self.answer(200, b"token")

        def do_GET(self):
            known = self.headers.get("X-aws-ec2-metadata-token") == "token"
            told = self.path == "/latest/meta-data/spot/instance-action" and server.notices
            self.answer((200 if told else 404) if known else 401, b"{}")

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.notices = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_interruption_of_a_spot_instance_saves_the_checkpoints_and_stops_the_training(instance, metadata):
    instance.environment = {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{metadata.server_port}",
        "no_proxy": "127.0.0.1",
    }
    script = SCRIPT.replace("INTERRUPTION_POLL_SECONDS=5", "INTERRUPTION_POLL_SECONDS=0")
    process = instance.start("touch checkpoints/1; while true; do sleep 0.05; done", script=script, spot=True)
    until((instance.root / "opt/ml/checkpoints/1").exists)
    metadata.notices.append("terminate")
    process.wait(10)
    left = json.loads((instance.output / "status.json").read_text())
    assert (left["Status"], left["FailureReason"]) == ("Stopped", "EC2 interrupted the spot instance")
    saved = next(
        number for number, call in enumerate(instance.calls) if f"{instance.root}/opt/ml/checkpoints s3:" in call
    )
    stopped = instance.calls.index("docker stop --time 30 training")
    assert saved < stopped
