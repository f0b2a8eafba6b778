"""What a function version is, and where its code lies: the part of running a function that starts nothing.

It must not know moto: `kennel.local.function_registry` turns moto's functions into these records.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from kennel.local.wire import ServiceError

MAX_UNZIPPED_BYTES: Final = 262_144_000


@dataclass(frozen=True, kw_only=True)
class FunctionVersion:
    """One version of a function, as it must run. `timeout` is in seconds, `memory` in MB, `role` an ARN."""

    name: str
    version: str
    arn: str
    handler: str
    runtime: str
    timeout: int
    memory: int
    role: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    code: bytes = field(repr=False, default=b"")

    @cached_property
    def code_sha256(self) -> str:
        """Names the directory that the code is unpacked to."""
        return hashlib.sha256(self.code).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """Equal for two versions exactly if a warm environment of one can serve the other."""
        parts = [self.name, self.version, self.handler, self.runtime, self.timeout, self.memory, self.code_sha256]
        return hashlib.sha256(json.dumps([*parts, self.role, sorted(self.variables.items())]).encode()).hexdigest()


def unpack_code(version: FunctionVersion, state_dir: Path) -> Path:
    """The directory with the version's code, unpacked once per content. Raises ServiceError as Lambda would."""
    if not version.code or not version.runtime.startswith("python3"):
        raise ServiceError(
            "InvalidRuntimeException",
            "only functions of a Python runtime and package type Zip are run here",
            status=502,
        )
    target = state_dir / "code" / version.code_sha256
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(io.BytesIO(version.code)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNZIPPED_BYTES:
                message = f"Unzipped size must be smaller than {MAX_UNZIPPED_BYTES} bytes"
                raise ServiceError("InvalidParameterValueException", message)
            archive.extractall(fresh)  # drops absolute and parent paths, makes no links
        fresh.chmod(0o755)
        with contextlib.suppress(OSError):  # another thread was first, with the same bytes
            fresh.rename(target)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ServiceError("InvalidZipFileException", f"Could not unzip uploaded file: {error}", status=502) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def package_directories() -> list[str]:
    """Where the packages that Lambda's runtime brings (its runtime client, boto3) are installed."""
    found = []
    for package in ("awslambdaric", "boto3"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{package} is needed to run functions", name=package)
        found.append(str(Path(spec.origin).parent.parent))
    return list(dict.fromkeys(found))
