"""Which host this is, among which: resourceconfig.json.

Pure: reading the file and joining the process group happen elsewhere. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kennel.errors import InvalidArguments, KennelError


class HostLost(KennelError):
    """Another host of the training job ended or stopped answering."""

    code = "HostLost"


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The hosts of one training job, as this host sees them."""

    current: str
    all: tuple[str, ...]
    interface: str | None = None
    """Name of the network interface between the hosts, such as `eth0`."""

    @property
    def rank(self) -> int:
        """Position of this host, from 0."""
        return self.all.index(self.current)

    @property
    def world(self) -> int:
        """How many hosts there are."""
        return len(self.all)

    @property
    def first(self) -> str:
        """The host at which all meet."""
        return self.all[0]


def parse_hosts(document: Mapping[str, Any]) -> Hosts:
    """Hosts from resourceconfig.json; an empty document is one host alone. Raises InvalidArguments."""
    current = str(document.get("current_host", "localhost"))
    names = tuple(str(name) for name in document.get("hosts", (current,)))
    if current not in names or len(set(names)) != len(names):
        raise InvalidArguments(
            f"current_host is {current!r} and hosts are {list(names)}.",
            where="input/config/resourceconfig.json",
            hint="current_host must be one of hosts, and every host must have its own name.",
        )
    return Hosts(current=current, all=names, interface=document.get("network_interface_name") or None)
