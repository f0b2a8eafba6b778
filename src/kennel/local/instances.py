"""EC2 instances that really run: those that have a script as user data, each as a tree of processes.

moto keeps what the API says of an instance (`kennel.local.moto_patches.ec2`); here is what happens in it. As on EC2,
user data runs at the first start alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from kennel import references
from kennel.local.instance_machine import Launch, Machine
from kennel.local.runtimes.runtime import Runtime
from kennel.local.sagemaker.arns import ACCOUNT
from kennel.local.wire import Operation, ServiceError

LOG = logging.getLogger(__name__)
_GRACE_SECONDS = 150.0
"""Between SIGTERM and SIGKILL: the 120 s of a training, and what is uploaded after it."""

_OWNER = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


class Instances:
    """The instances of one account. `environment` is this machine's: what of it they get is `_PASSED_ON`."""

    def __init__(
        self,
        *,
        endpoint_url: str,
        state_dir: Path,
        runtime: Runtime,
        registry: str,
        describe_images: Operation,
        environment: Mapping[str, str],
        credentials: Callable[[str, str], Mapping[str, str]] = lambda _role_arn, _instance_id: _OWNER,
        grace: float = _GRACE_SECONDS,
        minute_seconds: float = 60.0,
    ) -> None:
        """`credentials(role_arn, instance_id)` are the environment variables with which an instance acts as its role.

        It may raise ServiceError where EC2 may not take the role: the instance then has none, as on AWS.
        `describe_images` is ECR's operation; `minute_seconds` is how long a minute of `shutdown` takes.
        """
        self._endpoint_url = endpoint_url
        self._state_dir = state_dir
        self._runtime = runtime
        self._registry = registry
        self._describe_images = describe_images
        self._environment = {name: environment[name] for name in _PASSED_ON if name in environment}
        self._credentials = credentials
        self._grace = grace
        self._minute_seconds = minute_seconds
        self._machines: dict[str, Machine] = {}
        self._closed = False
        self._lock = threading.Lock()

    def launch(self, launch: Launch) -> None:
        """Run the user data of an instance, if it is a script."""
        if not launch.user_data.startswith("#!"):
            if launch.user_data:
                LOG.warning("%s: the local AWS runs user data that is a script, and no other", launch.instance_id)
            return
        credentials = self._credentials_of(launch)
        with self._lock:
            if self._closed:
                return
            self._machines[launch.instance_id] = Machine(
                launch,
                folder=self._state_dir / launch.instance_id,
                environment={
                    "PATH": os.defpath,
                    **self._environment,
                    **_QUICK_TO_GIVE_UP,
                    "AWS_ENDPOINT_URL": self._endpoint_url,
                    "AWS_DEFAULT_REGION": launch.region,
                    **credentials,
                },
                runtime=self._runtime,
                problem_of_image=self._problem_of_image,
                minute_seconds=self._minute_seconds,
                grace=self._grace,
            )

    def end(self, instance_id: str, finished: Callable[[], None]) -> None:
        """End what runs in an instance; call `finished` then, or at once where nothing runs."""
        with self._lock:
            machine = self._machines.get(instance_id)
        if machine is None:
            finished()
        else:
            machine.end(finished)

    def console(self, instance_id: str) -> str:
        """What the user data of an instance has printed."""
        with self._lock:
            machine = self._machines.get(instance_id)
        return machine.console() if machine is not None else ""

    def close(self) -> None:
        """End what runs in every instance, and wait for it."""
        with self._lock:
            self._closed = True
            machines = list(self._machines.values())
        for machine in machines:
            machine.end(lambda: None)
        for machine in machines:
            machine.wait()

    def _credentials_of(self, launch: Launch) -> Mapping[str, str]:
        if not launch.role_arn:
            return {}
        try:
            return self._credentials(launch.role_arn, launch.instance_id)
        except ServiceError as error:
            LOG.warning("%s has no credentials: %s", launch.instance_id, error)
            return {}

    def _problem_of_image(self, image: str) -> str:
        """Why ECR would not let an image be pulled; empty if it would, or if it is no image of ours."""
        try:
            reference = references.parse(image)
        except ValueError as error:
            return f"docker: invalid reference format: {error}"
        if reference.registry != self._registry and not reference.registry.startswith(f"{ACCOUNT}.dkr.ecr."):
            return ""
        wanted = {"imageTag": reference.tag or "latest"}
        if reference.digest:
            wanted = {"imageDigest": reference.digest}
        try:
            self._describe_images({"repositoryName": reference.repository, "imageIds": [wanted]})
        except ServiceError as error:
            # there may be no registry: where processes stand for images, none is needed
            return "" if error.code == "ServerException" else f"Error response from daemon: {error.message}"
        return ""


_PASSED_ON = ("PATH", "LANG", "LC_ALL", "NO_PROXY", "no_proxy")
"""What an instance has from this machine; credentials and everything else stay out."""

_QUICK_TO_GIVE_UP = {"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "2"}
"""An endpoint on loopback that does not answer has ended, and what runs here is to end with it."""
