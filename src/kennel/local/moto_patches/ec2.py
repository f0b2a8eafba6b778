"""Hands EC2's instances to us, and makes RunInstances what the launch template and the client token ask for.

moto's EC2 takes most of a second to import, so the server does it when it first may be needed.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend, InstanceState, StateReason
from moto.ec2.responses.general import General
from moto.ec2.utils import filter_iam_instance_profiles

from kennel.local.instance_machine import Launch
from kennel.local.instances import Instances

_run_instances = InstanceBackend.run_instances
_terminate = Instance.terminate
_stop = Instance.stop
_get_console_output = General.get_console_output
_NO_TOKEN = "ABCDE"  # noqa: S105  (moto's own, for requests that have none)


def hand_instances_to(instances: Instances) -> None:
    """Change moto in this process: `instances` hear of those that start, end, and are asked for their console.

    Who asks last has them.
    """
    tokens: dict[tuple[str, str, str], tuple[str, Any]] = {}
    starting = threading.Lock()

    def run_once(backend: Any, *positional: Any, **asked: Any) -> Any:
        profile = _profile(backend, asked)
        reservation = _run_instances(backend, *positional, **_with_template(backend, asked))
        for instance in reservation.instances:
            # those that the request names are associated by moto; those of the template are not
            if profile is not None and not _names_profile(asked):
                backend.associate_iam_instance_profile(instance.id, iam_instance_profile_arn=profile.arn)
            instances.launch(_launch(instance, profile))
        return reservation

    # moto starts new instances when a request is repeated with its ClientToken; AWS answers what it did the first time
    def run_instances(backend: Any, *positional: Any, **asked: Any) -> Any:
        token = asked.get("client_token", _NO_TOKEN)
        if token == _NO_TOKEN:
            return run_once(backend, *positional, **asked)
        key = (backend.account_id, backend.region_name, token)
        request = repr(([str(item) for item in positional], sorted(asked.items())))
        with starting:
            if key not in tokens:
                tokens[key] = (request, run_once(backend, *positional, **asked))
            earlier, reservation = tokens[key]
        if earlier != request:
            raise EC2ClientError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )
        return reservation

    InstanceBackend.run_instances = run_instances

    # moto's instances run nothing that could take time to end
    def end(instance: Any, change: Callable[[Any], InstanceState], meanwhile: InstanceState) -> InstanceState:
        if instance.state == meanwhile.name:
            return copy.copy(instance._state)
        previous = change(instance)
        ended, instance._state = instance._state, meanwhile

        def finished() -> None:
            instance._state = ended

        instances.end(instance.id, finished)
        return previous

    def terminate(instance: Any) -> InstanceState:
        if instance.state == "terminated":  # moto deletes its network interfaces again
            return copy.copy(instance._state)
        return end(instance, _terminate, InstanceState("shutting-down", 32))

    Instance.terminate = terminate
    Instance.stop = lambda instance: end(instance, _stop, InstanceState("stopping", 64))

    # moto answers a sample
    def get_console_output(response: Any) -> Any:
        result = _get_console_output(response)
        text = instances.console(response._get_param("InstanceId"))
        result.result["Output"] = Base64EncodedString.from_raw_string(text)
        return result

    General.get_console_output = get_console_output


def _with_template(backend: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """The request with what moto does not take from the launch template."""
    if not asked.get("launch_template"):
        return asked
    template = backend._get_template_from_args(asked["launch_template"]).data
    taken = dict(asked)
    for name, key in (
        ("instance_initiated_shutdown_behavior", "InstanceInitiatedShutdownBehavior"),
        ("metadata_options", "MetadataOptions"),
        ("nics", "NetworkInterfaces"),
    ):
        if not taken.get(name) and key in template:
            taken[name] = copy.deepcopy(template[key])
    return taken


def _names_profile(asked: dict[str, Any]) -> bool:
    return bool(asked.get("iam_instance_profile_name") or asked.get("iam_instance_profile_arn"))


def _profile(backend: Any, asked: dict[str, Any]) -> Any:
    """The instance profile that the request names, or else its launch template; None for none."""
    name, arn = asked.get("iam_instance_profile_name"), asked.get("iam_instance_profile_arn")
    if not _names_profile(asked) and asked.get("launch_template"):
        named = backend._get_template_from_args(asked["launch_template"]).data.get("IamInstanceProfile") or {}
        name, arn = named.get("Name"), named.get("Arn")
    if not (name or arn):
        return None
    return filter_iam_instance_profiles(
        backend.account_id, partition=backend.partition, iam_instance_profile_arn=arn, iam_instance_profile_name=name
    )


def _launch(instance: Any, profile: Any) -> Launch:
    def shut_down() -> None:
        """What `shutdown` inside the instance does to it."""
        behavior = instance.instance_initiated_shutdown_behavior
        (instance.terminate if behavior == "terminate" else instance.stop)()
        code = "Client.InstanceInitiatedShutdown"
        instance.state_reason = StateReason(f"{code}: Instance initiated shutdown", code)
        instance._reason = ""

    return Launch(
        instance_id=instance.id,
        instance_type=instance.instance_type,
        region=instance.region_name,
        user_data=instance.user_data.decode() if instance.user_data else "",
        role_arn=profile.roles[0].arn if profile is not None and profile.roles else "",
        shut_down=shut_down,
    )
