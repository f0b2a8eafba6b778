"""Configurations for tests: config/local.toml with some values changed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ABSENT = object()
"""As a value: the key is left out."""


def text(changes: Mapping[str, Any] | None = None) -> str:
    """TOML: config/local.toml with `changes`, values by dotted key path."""
    document = tomllib.loads((ROOT / "config" / "local.toml").read_text())
    for path, value in (changes or {}).items():
        *tables, last = _keys(path)
        table = document
        for name in tables:
            table = table.setdefault(name, {})
        if value is ABSENT:
            del table[last]
        else:
            table[last] = value
    return "\n".join(_toml(document, "")) + "\n"


def _keys(path: str) -> list[str]:
    table, quote, quoted = path.partition('."')
    return [*table.split("."), quoted.removesuffix('"')] if quote else path.split(".")


def _toml(table: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{json.dumps(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = f"{path}.{json.dumps(key)}" if path else json.dumps(key)
            yield f"[{inner}]"
            yield from _toml(value, inner)


def _value(value: Any) -> str:
    # JSON's strings, numbers, booleans and lists are TOML's, but for the names of what is not a number
    return str(value) if isinstance(value, float) else json.dumps(value)
