"""Builds the Lambda function's zip: exactly the files that `kennel.invocation` needs, nothing else.

The same files give the same bytes (stored, fixed times and modes), so that a new code hash means new code.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final

HANDLER: Final = "classify.handler"
"""The function's Handler: `lambda/classify.py` lies at the zip's root."""

FILES: Final = {
    "classify.py": "lambda/classify.py",
    "kennel/__init__.py": "src/kennel/__init__.py",
    "kennel/contract.py": "src/kennel/contract.py",
    "kennel/errors.py": "src/kennel/errors.py",
    "kennel/invocation.py": "src/kennel/invocation.py",
}
"""Path in the zip to path in the project."""


def function_zip(root: Path) -> bytes:
    """The zip, from the project whose top directory is `root`. Raises OSError for a missing file."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in sorted(FILES.items()):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            archive.writestr(member, (root / path).read_bytes())
    return target.getvalue()
