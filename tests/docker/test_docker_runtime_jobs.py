"""Training jobs over HTTP, whose hosts are real containers."""

import json
import os
import random
import socket
import time
import uuid

import pytest
from runtime_rig import BASE, TINY, described, left, local_aws, read

from kennel import engine as engines
from kennel.local.runtimes.docker import DockerRuntime
from kennel.local.runtimes.sizes import size_of
from local_rig import Aws
from waiting import until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def aws(engine, image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aws")
    with local_aws(folder, training_grace=2) as (server, runtime):
        rig = Rig(server.endpoint_url, server, runtime)
        rig.server_dir, rig.image = folder, image
        yield rig
    assert left(engine, folder) == []


class Rig(Aws):
    def definition(self, script, *, image=None, instance_type="ml.m5.large", **changes):
        definition = super().definition(script, **changes)
        definition["AlgorithmSpecification"]["TrainingImage"] = image or self.image
        definition["ResourceConfig"]["InstanceType"] = instance_type
        return definition

    def failed(self, script, **changes):
        """Why a job failed, which must have left nothing on the engine."""
        name = self.start_job(script, **changes)
        job = self.ended_job(name)
        assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
        assert left(engines.connect(), self.server_dir, f"kennel.job={name}") == []
        return job["FailureReason"]


def test_the_hosts_of_a_job_meet_by_name_and_never_those_of_another(aws, engine):
    script = """
if rank == 0:
    answer(os.environ["TRAINING_JOB_NAME"])
else:
    say("loss=0.25")
    model(json.dumps({"met": ask("algo-1"), "hosts": hosts, "interface": resources["network_interface_name"],
                      "interfaces": [name for _, name in socket.if_nameindex()], "name": socket.gethostname()}))
"""
    names = [aws.start_job(script, hosts=2, metrics=[("loss", "loss=(.*)")]) for _ in range(2)]
    for name in names:
        job = aws.ended_job(name)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        assert job["FinalMetricDataList"][0]["Value"] == 0.25
        seen = json.loads(read(aws, job)["model.bin"])
        assert seen["met"] == name
        assert (seen["hosts"], seen["name"]) == (["algo-1", "algo-2"], "algo-2")
        assert seen["interface"] in seen["interfaces"]
        assert left(engine, aws.server_dir, f"kennel.job={name}") == []


@pytest.fixture
def outside(engine):
    """A listener on every address of this machine: one of them that is beyond the network of any job, and the port."""
    network = engine.networks.create(f"kennel-test-{uuid.uuid4().hex[:8]}")
    try:
        network.reload()
        address = network.attrs["IPAM"]["Config"][0]["Gateway"]
        with socket.create_server(("0.0.0.0", 0)) as server:
            yield address, server.getsockname()[1]
    finally:
        network.remove()


def test_network_isolation_leaves_the_peers_and_nothing_else(aws, outside):
    address, port = outside
    script = f"""
def reached(address):
    try:
        socket.create_connection((address, {port}), 2).close()
        return True
    except OSError:
        return False
own_gateway = ".".join(socket.gethostbyname(me).split(".")[:3]) + ".1"
model(str((reached("{address}"), reached(own_gateway))), name=f"{{rank}}.out")
if rank == 0:
    answer("hello")
else:
    model(ask("algo-1"), name="peer")
"""
    open_job, isolated = (aws.start_job(script, hosts=2, EnableNetworkIsolation=flag) for flag in (False, True))
    seen = read(aws, aws.ended_job(isolated))
    assert seen == {"0.out": "(False, False)", "1.out": "(False, False)", "peer": "hello"}
    seen = read(aws, aws.ended_job(open_job))
    assert seen == {"0.out": "(True, True)", "1.out": "(True, True)", "peer": "hello"}


def test_a_host_has_the_limits_of_its_instance_type_no_rights_and_its_labels(aws, engine):
    name = aws.start_job("say('ready'); time.sleep(60)", hosts=2, Environment={"SCRIPT": "time.sleep(60)", "A": "b"})
    until(lambda: len(described(engine, aws.server_dir, f"kennel.job={name}")) == 2)
    hosts = described(engine, aws.server_dir, f"kennel.job={name}")
    networks = [network for network in left(engine, aws.server_dir, f"kennel.job={name}") if network[0] != "/"]
    aws.sagemaker.stop_training_job(TrainingJobName=name)
    assert len(networks) == 1
    for host in ("algo-1", "algo-2"):
        limits, config = hosts[host]["HostConfig"], hosts[host]["Config"]
        assert limits["Memory"] == limits["MemorySwap"] == 8 << 30
        assert limits["NanoCpus"] == min(2, engine.info()["NCPU"]) * 10**9
        assert limits["ShmSize"] == 4 << 30
        assert (limits["CapDrop"], limits["SecurityOpt"], limits["PidsLimit"]) == (["ALL"], ["no-new-privileges"], 4096)
        assert (config["Cmd"], config["Hostname"]) == (["train"], host)
        assert {"A=b", f"TRAINING_JOB_NAME={name}"} <= set(config["Env"])
        assert not [value for value in config["Env"] if value.startswith("SAGEMAKER_")]
        assert hosts[host]["Name"].startswith(f"/kennel-{name}-")
    assert aws.ended_job(name)["TrainingJobStatus"] == "Stopped"
    assert left(engine, aws.server_dir, f"kennel.job={name}") == []


def test_channels_can_be_read_and_not_written(aws):
    aws.s3.put_object(Bucket="bucket", Key="data/a.txt", Body=b"a")
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data", "S3DataDistributionType": "FullyReplicated"}
    script = """
file = base / "input/data/training/a.txt"
try:
    file.write_text("changed for every job")
except OSError as error:
    model(file.read_text() + error.strerror)
"""
    job = aws.job(script, InputDataConfig=[{"ChannelName": "training", "DataSource": {"S3DataSource": source}}])
    assert read(aws, job) == {"model.bin": "aRead-only file system"}


def test_everything_that_a_host_prints_is_in_its_log_to_the_last_line(aws):
    name = aws.start_job("model(); [print('line', number) for number in range(20_000)]")
    aws.ended_job(name)
    lines = (aws.server_dir / "training-jobs" / name / "algo-1.log").read_text().splitlines()
    assert lines == [f"line {number}" for number in range(20_000)]


def test_a_host_that_runs_out_of_memory_is_said_so_with_its_limit(aws):
    reason = aws.failed("eat()", instance_type=TINY)
    assert reason == (
        f"AlgorithmError: algo-1 was killed: out of memory; the limit of {TINY} is 64 MiB, exit code: 137"
    )


def test_a_script_whose_child_ran_out_of_memory_has_its_own_reason_too(aws):
    script = """
if os.fork() == 0:
    eat()
_, status = os.wait()
fail(f"a worker ended with {os.waitstatus_to_exitcode(status)}")
"""
    reason = aws.failed(script, instance_type=TINY)
    assert f"algo-1 had a process killed: out of memory; the limit of {TINY} is 64 MiB" in reason
    assert "it left: a worker ended with -9" in reason


def test_a_host_that_exits_at_once_is_told_by_its_last_lines(aws):
    reason = aws.failed("say('cannot go on'); sys.exit(3)")
    assert "algo-1 left no reason; its last lines:\ncannot go on" in reason
    assert reason.endswith("exit code: 3")


def test_an_image_without_the_entry_point_is_named(aws):
    reason = aws.failed("", image=BASE)
    assert reason.startswith(f"AlgorithmError: algo-1 did not start: image {BASE} has no entry point `train`: ")
    assert reason.endswith("exit code: 127")


def test_an_image_that_is_nowhere_is_named_with_what_to_do(aws):
    reason = aws.failed("", image="127.0.0.1:5000/kennel-test-no-such:1")
    assert reason.startswith(
        "ClientError: algo-1 did not start: cannot find or pull image 127.0.0.1:5000/kennel-test-no-such:1: "
    )
    assert "`make images` builds" in reason


def test_a_job_that_leaves_no_model_fails(aws):
    assert "wrote nothing to /opt/ml/model" in aws.failed("pass")


def test_a_host_that_fills_its_volume_is_stopped_and_told_what_it_wrote(aws):
    script = """
with (base / "code/big").open("wb") as file:
    os.posix_fallocate(file.fileno(), 0, 1200 << 20)
time.sleep(60)
"""
    reason = aws.failed(script)
    assert reason == (
        "ClientError: no space left on device: algo-1 has written 1.2 GiB to /opt/ml, and VolumeSizeInGB is 1"
    )


def test_a_host_that_ignores_sigterm_is_killed_after_its_grace(aws, engine):
    name = aws.start_job("signal.signal(signal.SIGTERM, signal.SIG_IGN); model(); say('ready'); time.sleep(60)")
    aws.started(name)
    begun = time.monotonic()
    aws.sagemaker.stop_training_job(TrainingJobName=name)
    job = aws.ended_job(name)
    assert 2 <= time.monotonic() - begun < 12
    assert job["TrainingJobStatus"] == "Stopped"
    assert job["FailureReason"] == "AlgorithmError: algo-1 did not end within 2 s of SIGTERM and was killed"
    assert read(aws, job) == {"model.bin": "weights"}
    assert left(engine, aws.server_dir, f"kennel.job={name}") == []


def test_a_host_that_heeds_sigterm_keeps_what_it_saved_and_nothing_is_said(aws):
    script = """
signal.signal(signal.SIGTERM, lambda *_: (model("saved in time"), sys.exit(0)))
say("ready"); time.sleep(60)
"""
    name = aws.start_job(script)
    aws.started(name)
    aws.sagemaker.stop_training_job(TrainingJobName=name)
    job = aws.ended_job(name)
    assert (job["TrainingJobStatus"], read(aws, job)) == ("Stopped", {"model.bin": "saved in time"})
    assert "FailureReason" not in job


def test_a_job_that_is_stopped_before_its_containers_run_leaves_nothing(aws, engine):
    for seconds in (0.0, 0.4, 0.8):
        name = aws.start_job("time.sleep(60)", hosts=2)
        time.sleep(seconds)
        aws.sagemaker.stop_training_job(TrainingJobName=name)
        assert aws.ended_job(name)["TrainingJobStatus"] == "Stopped"
        assert left(engine, aws.server_dir, f"kennel.job={name}") == []


def test_what_a_container_writes_is_its_users(engine, image, tmp_path, caplog):
    """As it is where the local AWS is not root's: its own user id is every container's."""
    runtime = DockerRuntime(
        state_dir=tmp_path,
        random=random.SystemRandom(),
        connect=engines.connect,
        size_of=size_of,
        environment=dict(os.environ),
        user="1234:1234",
    )
    base, log = tmp_path / "algo-1", tmp_path / "algo-1.log"
    for folder in ("model", "input/config"):
        (base / folder).mkdir(parents=True)
    (base / "model").chmod(0o777)
    (base / "input/config/resourceconfig.json").write_text('{"hosts": ["algo-1"], "current_host": "algo-1"}')
    hosts = runtime.hosts(job="mine", image=image, instance_type="ml.unheard.of", count=1, isolated=True)
    try:
        process = hosts.start(0, base_dir=base, log=log, environment={"SCRIPT": "model()"})
        assert process.wait(30) == 0, log.read_text()
    finally:
        hosts.close()
    assert (base / "model/model.bin").stat().st_uid == 1234
    assert [record.message for record in caplog.records if "ml.unheard.of" in record.message] == [
        "ml.unheard.of is no instance type of EC2's: its containers have no limit on memory"
    ]
    assert left(engine, tmp_path) == []
