"""Temporary credentials: issues them for a role, and knows whose they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a part signs its requests with."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)

    def variables(self) -> dict[str, str]:
        """The environment variables that carry them to a process."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.session_token,
        }


@dataclass(frozen=True, kw_only=True)
class Session:
    """One part that acts with a role. `service` is AWS's principal that took the role for it."""

    role_arn: str
    service: str
    name: str
    credentials: Credentials

    @property
    def arn(self) -> str:
        """The ARN of the assumed role, as messages name who asked."""
        return session_arn(self.role_arn, self.name)


def session_arn(role_arn: str, name: str) -> str:
    """The ARN of a session of a role.

    >>> session_arn("arn:aws:iam::123456789012:role/path/kennel-function", "kennel-classify")
    'arn:aws:sts::123456789012:assumed-role/kennel-function/kennel-classify'
    """
    account, role = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    return f"arn:aws:sts::{account}:assumed-role/{role}/{name}"


class Sessions:
    """Every session that was issued. `random_bytes` must be unguessable, as `os.urandom` is."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._by_key: dict[str, Session] = {}
        self._lock = threading.Lock()

    def issue(self, role_arn: str, *, service: str, name: str) -> Session:
        """New credentials for a role. Whether the role may be taken is decided before."""
        credentials = Credentials(
            access_key_id=f"ASIA{self._text(16)}",
            secret_access_key=self._text(40),
            session_token=self._text(120),
        )
        session = Session(role_arn=role_arn, service=service, name=name, credentials=credentials)
        with self._lock:
            self._by_key[credentials.access_key_id] = session
        return session

    def find(self, access_key_id: str) -> Session | None:
        """The session that the key belongs to; None for a key that was not issued here."""
        with self._lock:
            return self._by_key.get(access_key_id)

    def _text(self, length: int) -> str:
        return "".join(_CHARACTERS[byte % len(_CHARACTERS)] for byte in self._random_bytes(length))
