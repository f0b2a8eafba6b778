"""`docker compose`, of whichever version there is, in a folder that looks like a fresh clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def command() -> list[str]:
    """Version 2 is a plugin of docker, version 1 a program of its own."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


class Composed:
    """One project, with whatever port is free."""

    def __init__(self, folder: Path, *, sources: bool = False) -> None:
        """`sources`: with what the images are built from."""
        (folder / ".kennel").mkdir(parents=True)
        for file in (
            "docker-compose.yml",
            *(("pyproject.toml", "constraints.txt", ".dockerignore") if sources else ()),
        ):
            shutil.copy(ROOT / file, folder)
        for name in ("config", *(("src", "containers") if sources else ())):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        self.folder = folder
        self.settings = {
            "KENNEL_PORT": "0",
            "KENNEL_AWS_PORT": "0",
            "COMPOSE_PROJECT_NAME": f"kennel-test-{os.urandom(4).hex()}",
        }

    def run(self, *arguments: str, check: bool = True) -> str:
        """What a subcommand prints."""
        done = subprocess.run(
            [*command(), *arguments],
            cwd=self.folder,
            env={**os.environ, **self.settings},
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0 or not check, said
        return said

    def port(self, service: str, port: int) -> int:
        """Where a port of a service is published; it must be on loopback."""
        address, _, published = self.run("port", service, str(port)).strip().rpartition(":")
        assert address == "127.0.0.1"
        return int(published)

    def ready(self, *, seconds: float = 60) -> str:
        """The URL of `serve`, once it answers."""
        url = f"http://127.0.0.1:{self.port('serve', 8080)}"
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"{url}/ping", timeout=2):
                    return url
            except OSError:
                assert time.monotonic() < deadline, self.run("logs")
                time.sleep(0.2)

    def down(self) -> None:
        """Remove everything of the project."""
        self.run("--profile", "cloud", "down", "--volumes", "--remove-orphans")


def classified(url: str, image: Path) -> Any:
    """The answer to the README's way of asking."""
    done = subprocess.run(
        ["curl", "-sS", "-T", image, f"{url}/invocations"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)
