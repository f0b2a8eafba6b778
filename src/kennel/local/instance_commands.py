"""What the commands `docker` and `shutdown` of a local EC2 instance ask for, read from their arguments. Pure.

Only what user data of a training needs is understood; all else is refused as the real commands refuse a typo.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from kennel import contract

_USAGE = 125
"""What `docker` ends with when it does not understand its arguments."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """Take credentials for a registry; those of the local ECR ask for none."""

    registry: str


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Bring an image to the instance."""

    image: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run `train` in an image to its end."""

    name: str
    image: str
    base_dir: str
    """Folder of this machine that is /opt/ml."""

    isolated: bool
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """End a container, SIGTERM first; the time until SIGKILL is the runtime's."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Shutdown:
    """Shut the instance down after so many minutes; 0 is now."""

    minutes: float


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What the command prints and ends with instead."""

    text: str
    status: int


Command = Login | Pull | Run | Stop | Shutdown | Refused


def parse(command: Sequence[str]) -> Command:
    """Read a command with its name.

    >>> parse(["shutdown", "-h", "+30"])
    Shutdown(minutes=30.0)
    >>> parse(["docker", "stop", "--time", "120", "training"])
    Stop(name='training')
    """
    match command:
        case ["shutdown", *arguments]:
            return _shutdown(arguments)
        case ["docker", *arguments]:
            return _docker(arguments)
    return Refused(text=f"{' '.join(command)}: command not found", status=127)


def _shutdown(arguments: list[str]) -> Shutdown | Refused:
    match [argument for argument in arguments if argument != "-h"]:
        case ["now", *_]:
            return Shutdown(minutes=0.0)
        case [when, *_] if re.fullmatch(r"\+[0-9]+", when):
            return Shutdown(minutes=float(when))
    return Refused(text=f"Failed to parse time specification: {' '.join(arguments)}", status=1)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _docker_parser() -> _Parser:
    parser = _Parser(prog="docker", add_help=False, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=_Parser)
    login = verbs.add_parser("login", add_help=False, allow_abbrev=False)
    login.add_argument("--username")
    login.add_argument("--password-stdin", action="store_true")
    login.add_argument("registry")
    pull = verbs.add_parser("pull", add_help=False, allow_abbrev=False)
    pull.add_argument("--quiet", action="store_true")
    pull.add_argument("image")
    stop = verbs.add_parser("stop", add_help=False, allow_abbrev=False)
    stop.add_argument("--time")
    stop.add_argument("name")
    run = verbs.add_parser("run", add_help=False, allow_abbrev=False)
    run.add_argument("--rm", action="store_true")
    run.add_argument("--name", required=True)
    run.add_argument("--network", default="bridge")
    run.add_argument("--volume", action="append", default=[])
    run.add_argument("--env", action="append", default=[])
    for hardening in ("--cap-drop", "--security-opt", "--pids-limit", "--shm-size"):  # the runtime has its own
        run.add_argument(hardening)
    run.add_argument("image")
    run.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _docker(arguments: list[str]) -> Command:
    try:
        asked = _docker_parser().parse_args(arguments)
    except ValueError as error:
        return Refused(text=f"docker: {error}", status=_USAGE)
    match asked.verb:
        case "login":
            return Login(registry=asked.registry)
        case "pull":
            return Pull(image=asked.image)
        case "stop":
            return Stop(name=asked.name)
    folders = {target: source for source, _, target in (volume.rpartition(":") for volume in asked.volume)}
    if set(folders) != {contract.BASE_DIR} or asked.command != ["train"]:
        text = f"docker: a local instance runs `IMAGE train` with one volume, at {contract.BASE_DIR}, and nothing else"
        return Refused(text=text, status=_USAGE)
    return Run(
        name=asked.name,
        image=asked.image,
        base_dir=folders[contract.BASE_DIR],
        isolated=asked.network == "none",
        environment=dict(pair.split("=", 1) for pair in asked.env if "=" in pair),
    )
