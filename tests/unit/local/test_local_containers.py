"""Containers as values, the sizes of instance types, and what the engine's refusals mean."""

import random
import stat

import docker.errors
import pytest

from kennel import errors
from kennel.local.processes import Cause
from kennel.local.runtimes import networks, runner
from kennel.local.runtimes.container import Container, Mount, Notes
from kennel.local.runtimes.docker import DockerRuntime
from kennel.local.runtimes.sizes import Size, size_of


def container(**changes):
    return Container(
        **{
            "name": "kennel-job-0-algo-1",
            "host": "algo-1",
            "image": "kennel-training:1",
            "command": "train",
            "network": "kennel-job-0",
            "environment": {"A": "b"},
            "labels": {"kennel.job": "job"},
            "mounts": [Mount(source="/here", target="/opt/ml", read_only=False)],
            "user": "",
            "cpus": 1.5,
            "memory_bytes": 1 << 30,
            "shm_bytes": 1 << 29,
            "limit": "the limit is 1 GiB",
            "publish": False,
            "grace": 120,
            **changes,
        }
    )


def test_sizes_are_ec2s():
    assert size_of("ml.m5.large") == Size(vcpus=2, memory_bytes=8 << 30)
    assert size_of("ml.g4dn.xlarge") == Size(vcpus=4, memory_bytes=16 << 30)
    assert size_of("ml.local") is None


def test_a_container_survives_its_file_which_nobody_else_may_read(tmp_path):
    written = container()
    written.write(tmp_path / "it.json")
    assert Container.read(tmp_path / "it.json") == written
    assert stat.S_IMODE((tmp_path / "it.json").stat().st_mode) == 0o600


def test_no_limit_is_asked_for_where_none_is_known():
    assert "mem_limit" not in container(memory_bytes=0).creation()
    asked = container().creation()
    assert asked["mem_limit"] == asked["memswap_limit"] == 1 << 30
    assert asked["nano_cpus"] == 1_500_000_000


def test_only_serving_containers_are_read_only_and_published_on_loopback_alone():
    training, serving = container().creation(), container(command="serve", publish=True).creation()
    assert ("read_only" in training, serving["read_only"]) == (False, True)
    assert ("ports" in training, serving["ports"]) == (False, {"8080/tcp": ("127.0.0.1", None)})
    assert training["cap_drop"] == serving["cap_drop"] == ["ALL"]
    assert (training["pids_limit"], serving["pids_limit"]) == (4096, 1024)


def test_a_folder_is_mounted_whatever_its_name(tmp_path):
    mounts = [
        Mount(source="/with:colon", target="/opt/ml", read_only=False),
        Mount(source="/a,b", target="/opt/ml/input", read_only=True),
    ]
    asked = container(mounts=mounts).creation()
    assert "volumes" not in asked
    assert [(m["Type"], m["Source"], m["Target"], m["ReadOnly"]) for m in asked["mounts"]] == [
        ("bind", "/with:colon", "/opt/ml", False),
        ("bind", "/a,b", "/opt/ml/input", True),
    ]


def test_notes_are_empty_until_they_are_left(tmp_path):
    notes = Notes(file=tmp_path / "it.json")
    assert (notes.url(), notes.cause()) == ("", None)
    notes.leave_url("http://127.0.0.1:1")
    notes.leave_cause(Cause(what="was killed", fault="ClientError"))
    assert (notes.url(), notes.cause()) == ("http://127.0.0.1:1", Cause(what="was killed", fault="ClientError"))


@pytest.mark.parametrize(
    ("said", "status", "fault", "what"),
    [
        ('exec: "train": executable file not found in $PATH', 127, "AlgorithmError", "has no entry point `train`"),
        ('exec: "/train": no such file or directory', 127, "AlgorithmError", "has no entry point `train`"),
        ('exec: "/train": permission denied', 126, "AlgorithmError", "`train` that can be executed"),
        ("exec /train: no such file or directory", 127, "AlgorithmError", "has no entry point `train`"),
        (
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
            'process: exec: "train": executable file not found in $PATH: unknown',
            127,
            "AlgorithmError",
            "has no entry point `train`",
        ),
        (
            "OCI runtime create failed: container_linux.go:345: starting container process caused "
            '"exec: \\"/train\\": stat /train: no such file or directory": unknown',
            127,
            "AlgorithmError",
            "has no entry point `train`",
        ),
        (
            "OCI runtime create failed: runc create failed: unable to start container process: error during "
            'container init: exec: "/train": permission denied',
            126,
            "AlgorithmError",
            "`train` that can be executed",
        ),
        (
            "runc create failed: unable to start container process: error during container init: error mounting "
            '"/here" to rootfs at "/opt/ml": mount /here: no such file or directory: unknown',
            125,
            "InternalServerError",
            "was refused by the Docker engine",
        ),
        (
            'error while creating mount source path "/here": mkdir /here: permission denied',
            125,
            "InternalServerError",
            "was refused by the Docker engine",
        ),
        (
            "OCI runtime create failed: unable to retrieve OCI runtime error (open /run/log.json: no such file or "
            'directory): exec: "runc": executable file not found in $PATH: unknown',
            125,
            "InternalServerError",
            "was refused by the Docker engine",
        ),
        (
            "failed to start shim: fork/exec /usr/bin/containerd-shim: permission denied",
            125,
            "InternalServerError",
            "was refused by the Docker engine",
        ),
        ("mkdir /var/lib: no space left on device", 125, "InternalServerError", "the disk is full"),
        ("network kennel-job-0 not found", 125, "InternalServerError", "was refused by the Docker engine: network"),
    ],
)
def test_what_the_engine_refuses_is_explained(said, status, fault, what):
    answer, cause = runner._explained(docker.errors.APIError("500", explanation=said), container())
    assert (answer, cause.fault) == (status, fault)
    assert what in cause.what


def test_an_engine_that_is_gone_is_said_so():
    status, cause = runner._explained(ConnectionResetError("reset"), container())
    assert (status, cause.fault) == (125, "InternalServerError")
    assert cause.what == "was lost: the Docker engine does not answer: reset"


class Api:
    """The networks that an engine has."""

    def __init__(self, base_url):
        self.base_url = base_url
        self.made = {}

    def containers(self, **_):
        return []

    def networks(self, *, filters):
        return [{"Id": name} for name, labels in self.made.items() if set(filters["label"]) <= set(labels)]

    def remove_network(self, name):
        del self.made[name]


class Engine:
    """As much of a client as is asked before any container runs."""

    def __init__(self, *, base_url="http+docker://localhost", refusal="", info_fails=None, **info):
        self.api = Api(base_url)
        self.refusal = refusal
        self.networks = self
        self.info_fails = info_fails
        self.told = {"NCPU": 2, "MemTotal": 4 << 30, **info}

    def info(self):
        if self.info_fails:
            raise self.info_fails
        return self.told

    def create(self, name, *, labels, **_):
        if self.refusal:
            raise docker.errors.APIError("500", explanation=self.refusal)
        self.api.made[name] = [f"{key}={value}" for key, value in labels.items()]

    def close(self):
        pass


def runtime(folder, engine):
    return DockerRuntime(
        state_dir=folder, random=random.Random(0), connect=lambda: engine, size_of=size_of, environment={}
    )


def test_an_engine_of_another_machine_is_refused(tmp_path):
    with pytest.raises(errors.Unavailable, match="on another machine") as caught:
        runtime(tmp_path, Engine(base_url="https://10.0.0.1:2376"))
    assert "10.0.0.1" in caught.value.where
    assert "DOCKER_HOST" in caught.value.hint


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "the Docker engine is rootless"),
        ({"SecurityOptions": ["name=userns"]}, "the Docker engine maps user ids"),
        ({"OperatingSystem": "Docker Desktop 4.30"}, "the engine is Docker Desktop's"),
    ],
)
def test_an_engine_whose_containers_cannot_be_reached_is_refused(tmp_path, info, said):
    with pytest.raises(errors.Unavailable, match=said) as caught:
        runtime(tmp_path, Engine(**info))
    assert caught.value.where == "unix:///var/run/docker.sock"
    assert caught.value.hint == "Use the process runtime, or a Docker engine of this machine that runs as root."


@pytest.mark.parametrize("options", [None, ["name=seccomp,profile=default", "name=cgroupns"]])
def test_an_engine_of_root_is_taken(tmp_path, options):
    runtime(tmp_path, Engine(SecurityOptions=options, OperatingSystem="Debian GNU/Linux 12"))


@pytest.mark.parametrize(
    "fault", [docker.errors.APIError("500", explanation="starting"), ConnectionResetError("starting")]
)
def test_an_engine_that_does_not_say_what_it_is_is_unavailable(tmp_path, fault):
    with pytest.raises(errors.Unavailable, match=r"does not say what it is: .*starting"):
        runtime(tmp_path, Engine(info_fails=fault))


def test_an_instance_that_cannot_be_begun_leaves_no_network(tmp_path):
    engine = Engine()
    with pytest.raises(FileNotFoundError):
        runtime(tmp_path, engine).start_instance(
            endpoint="endpoint",
            image="image",
            instance_type="ml.m5.large",
            isolated=False,
            model_dir=tmp_path,
            log=tmp_path / "no such folder/instance-1.log",
            environment={},
        )
    assert engine.api.made == {}


def test_an_engine_without_networks_to_give_says_how_to_go_on(tmp_path):
    refusal = "could not find an available, non-overlapping IPv4 address pool among the defaults"
    started = runtime(tmp_path, Engine(refusal=refusal))
    with pytest.raises(errors.Unavailable, match="has no network left") as caught:
        started.hosts(job="job", image="image", instance_type="ml.m5.large", count=1, isolated=False)
    assert "docker network ls" in caught.value.hint


def test_a_network_whose_containers_leave_late_is_removed_all_the_same():
    class Late:
        def __init__(self):
            self.api = self
            self.asked = 0

        def remove_network(self, name):
            self.asked += 1
            if self.asked < 3:
                raise docker.errors.APIError("403", explanation="has active endpoints")

    late = Late()
    networks.remove(late, "net")
    assert late.asked == 3
