"""`python -m kennel.pipeline.rules`: what the rules find in template and state machine; exit status 1 if anything."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kennel.errors import InvalidArguments
from kennel.pipeline import template
from kennel.pipeline.rules import table


def main() -> int:
    """Check; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kennel.pipeline.rules", description=__doc__)
    folder = Path("statemachine")
    parser.add_argument("--template", type=Path, default=folder / "infrastructure.yaml", help="default: %(default)s")
    parser.add_argument("--definition", type=Path, default=folder / "pipeline.asl.json", help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        read = template.read(_text(arguments.template), where=str(arguments.template))
        found = table.findings(read, _definition(arguments.definition))
    except InvalidArguments as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    for finding in found:
        fault = finding.fault
        sys.stdout.write(f"{finding.rule}  {fault.where}  {fault.what}\n    {fault.hint}\n")
    sys.stdout.write(f"{len(table.names())} rules, {len(found) or 'no'} finding{'s' * (len(found) != 1)}\n")
    return 1 if found else 0


def _definition(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InvalidArguments(str(error), where=str(path), hint="Render it with `make definition`.") from error
    if not isinstance(found, dict) or not isinstance(found.get("States"), dict):
        raise InvalidArguments("it has no States", where=str(path), hint="Render it with `make definition`.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidArguments(str(error), hint="Run it in the project's folder, or name the files.") from error


if __name__ == "__main__":
    sys.exit(main())
