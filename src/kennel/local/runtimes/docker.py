"""Runs the images themselves: hosts of training jobs and instances of endpoints as Docker containers.

Every container has a runner of its own (`kennel.local.runtimes.runner`), a process under a guard, so that it ends
with this process. Each job and each instance has a network of its own.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from docker.errors import DockerException

from kennel import contract, errors
from kennel.local.processes import Cause, Supervised
from kennel.local.runtimes import networks
from kennel.local.runtimes.container import Container, Mount, Notes
from kennel.local.runtimes.process import SERVING_GRACE_SECONDS, TRAINING_GRACE_SECONDS
from kennel.local.runtimes.sizes import Size, shown

LOG = logging.getLogger(__name__)
_RUNNER_GRACE_SECONDS = 60.0
"""What a runner has beyond the grace of its container: to stop it, read its last words and remove it."""

_LOCAL_ENGINE = "http+docker://localhost"
"""How the SDK calls an engine behind a socket of this machine."""

_USUAL_SOCKET = "unix:///var/run/docker.sock"
_FIT = "Use the process runtime, or a Docker engine of this machine that runs as root."


class DockerRuntime:
    """Starts hosts of training jobs and instances of endpoints as containers."""

    name = "docker"

    def __init__(
        self,
        *,
        state_dir: Path,
        random: Random,
        connect: Callable[[], Any],
        size_of: Callable[[str], Size | None],
        environment: Mapping[str, str],
        user: str = "",
        training_grace: float = TRAINING_GRACE_SECONDS,
        serving_grace: float = SERVING_GRACE_SECONDS,
    ) -> None:
        """Raise Unavailable where no engine of this machine answers, or one whose containers we cannot reach.

        `user` is the uid:gid of every container, so that what they write is ours to remove; empty, for a
        local AWS of root, leaves it to the images.
        """
        self._state_dir = state_dir
        self._random = random
        self._connect = connect
        self._size_of = size_of
        self._environment = {name: environment[name] for name in _PASSED_ON if name in environment}
        self._user = user
        self._training_grace = training_grace
        self._serving_grace = serving_grace
        self._unlimited: set[str] = set()
        with self._client() as client:
            if client.api.base_url != _LOCAL_ENGINE:
                raise errors.Unavailable(
                    "the Docker engine is on another machine, which has none of the folders that containers need",
                    where=environment.get("DOCKER_HOST", client.api.base_url),
                    hint="Unset DOCKER_HOST, or let it name a socket: unix:///var/run/docker.sock",
                )
            where = environment.get("DOCKER_HOST", _USUAL_SOCKET)
            try:
                info = client.info()
            except (DockerException, OSError) as error:
                raise errors.Unavailable(
                    f"the Docker engine does not say what it is: {error}", where=where, hint="Is it just starting?"
                ) from error
            if unfit := _unfit(info):
                raise errors.Unavailable(unfit, where=where, hint=_FIT)
        self._machine = Size(vcpus=info["NCPU"], memory_bytes=info["MemTotal"])

    def sweep(self) -> int:
        """Remove what an earlier local AWS of this state folder left when it was killed; return how much that was."""
        with self._client() as client:
            return networks.sweep(client, self._state_dir)

    def hosts(self, *, job: str, image: str, instance_type: str, count: int, isolated: bool) -> DockerHosts:
        """Hosts named algo-1, algo-2, … in a network of their own. Raises Unavailable."""
        labels = self._labels("kennel.job", job)
        network = self._network(job, labels, isolated=isolated, reached=False)

        def start(host: str, base_dir: Path, log: Path, environment: Mapping[str, str]) -> ContainerProcess:
            # what lies in `input` are links to a cache which every job reads
            mounts = [
                Mount(source=str(base_dir), target=contract.BASE_DIR, read_only=False),
                Mount(source=str(base_dir / "input"), target=f"{contract.BASE_DIR}/input", read_only=True),
            ]
            return self._run(
                self._container(
                    name=f"{network}-{host}",
                    host=host,
                    image=image,
                    instance_type=instance_type,
                    command="train",
                    network=network,
                    labels=labels,
                    # as for processes: two hosts or trials at a time share the cores between them
                    environment={"OMP_NUM_THREADS": str(max(1, self._machine.vcpus // 2)), **environment},
                    mounts=mounts,
                    grace=self._training_grace,
                ),
                log,
                on_end=None,
            )

        names = [f"algo-{number}" for number in range(1, count + 1)]
        return DockerHosts(names=names, start_train=start, remove=lambda: self._remove_all(network, labels))

    def start_instance(
        self,
        *,
        endpoint: str,
        image: str,
        instance_type: str,
        isolated: bool,
        model_dir: Path,
        log: Path,
        environment: Mapping[str, str],
    ) -> tuple[ContainerProcess, Callable[[], str]]:
        """Start `serve` in a network of its own. Raises Unavailable."""
        labels = self._labels("kennel.endpoint", endpoint)
        network = self._network(endpoint, labels, isolated=isolated, reached=True)
        try:
            container = self._container(
                name=f"{network}-{log.stem}",
                host=log.stem,
                image=image,
                instance_type=instance_type,
                command="serve",
                network=network,
                labels=labels,
                environment=environment,
                mounts=[Mount(source=str(model_dir), target=contract.MODEL_DIR, read_only=True)],
                grace=self._serving_grace,
                publish=not isolated,
            )
            process = self._run(container, log, on_end=lambda: self._remove_all(network, labels))
        except BaseException:  # whoever tries again and again would use up the engine's networks
            self._remove_all(network, labels)
            raise
        return process, process.url

    def _labels(self, kind: str, name: str) -> dict[str, str]:
        return {networks.STATE_DIR_LABEL: str(self._state_dir), kind: name}

    def _network(self, name: str, labels: dict[str, str], *, isolated: bool, reached: bool) -> str:
        unique = f"kennel-{name}-{self._random.getrandbits(32):08x}"
        with self._client() as client:
            networks.create(
                client,
                name=unique,
                labels={**labels, _NETWORK_LABEL: unique},
                isolated=isolated,
                reached=reached,
            )
        return unique

    def _container(
        self,
        *,
        name: str,
        host: str,
        image: str,
        instance_type: str,
        command: str,
        network: str,
        labels: dict[str, str],
        environment: Mapping[str, str],
        mounts: list[Mount],
        grace: float,
        publish: bool = False,
    ) -> Container:
        size = self._size_of(instance_type)
        if size is None and instance_type not in self._unlimited:
            self._unlimited.add(instance_type)
            LOG.warning("%s is no instance type of EC2's: its containers have no limit on memory", instance_type)
        memory = size.memory_bytes if size else 0
        return Container(
            name=name,
            host=host,
            image=image,
            command=command,
            network=network,
            environment=dict(environment),
            labels={**labels, _NETWORK_LABEL: network},
            mounts=mounts,
            user=self._user,
            # the engine refuses more than the machine has
            cpus=min(size.vcpus, self._machine.vcpus) if size else self._machine.vcpus,
            memory_bytes=memory,
            # the engine's own 64 MB are too few for the workers of a data loader
            shm_bytes=(memory or self._machine.memory_bytes) // 2,
            limit=f"the limit of {instance_type} is {shown(memory)}" if memory else "the machine has no more",
            publish=publish,
            grace=round(grace),
        )

    def _run(self, container: Container, log: Path, *, on_end: Callable[[], None] | None) -> ContainerProcess:
        file = log.with_suffix(".container.json")
        container.write(file)
        return ContainerProcess(file, environment=self._environment, log=log, grace=container.grace, on_end=on_end)

    def _remove_all(self, network: str, labels: dict[str, str]) -> None:
        """Remove the network, and whatever a runner that was killed has left in it."""
        try:
            with self._client() as client:
                networks.remove_all(client, {**labels, _NETWORK_LABEL: network})
        except (errors.KennelError, DockerException, OSError) as error:
            LOG.warning("%s is left on the engine until the next start: %s", network, error)

    @contextlib.contextmanager
    def _client(self) -> Any:
        """A client for one thing to do: the SDK's are not made for several threads."""
        client = self._connect()
        try:
            yield client
        finally:
            client.close()


@dataclass(frozen=True, kw_only=True)
class DockerHosts:
    """The hosts of one job, each a container in the network that is theirs alone."""

    names: list[str]
    start_train: Callable[[str, Path, Path, Mapping[str, str]], ContainerProcess]
    remove: Callable[[], None]
    network_interface: str = "eth0"

    def start(self, index: int, *, base_dir: Path, log: Path, environment: Mapping[str, str]) -> ContainerProcess:
        """Start `train`, with `base_dir` as /opt/ml."""
        return self.start_train(self.names[index], base_dir, log, environment)

    def close(self) -> None:
        """Remove the network."""
        self.remove()


class ContainerProcess(Supervised):
    """A container, through its runner."""

    def __init__(
        self, file: Path, *, environment: Mapping[str, str], log: Path, grace: float, on_end: Callable[[], None] | None
    ) -> None:
        self._notes = Notes(file=file)
        self._on_end = on_end
        super().__init__(
            # -P: what lies in the working folder is not to be imported
            [sys.executable, "-P", "-m", "kennel.local.runtimes.runner", str(file)],
            env=environment,
            cwd=file.parent,
            log=log,
            grace=grace + _RUNNER_GRACE_SECONDS,
        )

    def stop(self) -> int:
        """Stop and remove it, and its network if that is its own."""
        try:
            return super().stop()
        finally:
            if self._on_end is not None:
                self._on_end()

    def cause(self) -> Cause | None:
        """What the runner knew of the end, beyond the exit status."""
        return self._notes.cause() or super().cause()

    def url(self) -> str:
        """Where it answers; empty while that is not known."""
        return self._notes.url()


def _unfit(info: Mapping[str, Any]) -> str:
    """What keeps an engine from being of use here; empty where nothing does."""
    if str(info.get("OperatingSystem", "")).startswith("Docker Desktop"):
        return "the engine is Docker Desktop's: its containers have no address that this machine reaches"
    for option in info.get("SecurityOptions") or ():
        if option.startswith("name=rootless"):
            return "the Docker engine is rootless: its containers have no address that this machine reaches"
        if option.startswith("name=userns"):
            return "the Docker engine maps user ids: its containers may not write to the folders of their jobs"
    return ""


_NETWORK_LABEL = "kennel.network"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "DOCKER_HOST", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
"""What the SDK needs to find the engine, and what pulls from a registry with a login need."""
