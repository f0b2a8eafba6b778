"""Remembers, for each value of a configuration, the key that it was given under. Pure.

An execution's input is made of a configuration's values. What is wrong in a request can so be told by the key in
which to mend it, without a second table of what ends up where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from kennel.config import Config


class _Text(str):
    key: str


class _Whole(int):
    key: str


class _Number(float):
    key: str


_KINDS: Mapping[type, type[_Text] | type[_Whole] | type[_Number]] = {str: _Text, int: _Whole, float: _Number}


def with_keys(config: Config) -> Config:
    """The same configuration, whose texts and numbers know their keys. They are equal to what they were."""
    return cast(Config, _keyed(config, ""))


def key_of(value: Any) -> str:
    """The key that a value was given under; "" for one that was made of several, or of none.

    >>> key_of(3)
    ''
    """
    return str(getattr(value, "key", ""))


def _keyed(value: Any, key: str) -> Any:
    dot = f"{key}." if key else ""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: _keyed(getattr(value, name), f"{dot}{name}") for name in names})
    if isinstance(value, Mapping):
        return {name: _keyed(item, f"{dot}{_quoted(name)}") for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_keyed(item, key) for item in value)
    if (kind := _KINDS.get(type(value))) is None:
        return value
    keyed = kind(value)
    keyed.key = key
    return keyed


def _quoted(name: str) -> str:
    return name if name.replace("_", "a").replace("-", "a").isalnum() else f'"{name}"'
