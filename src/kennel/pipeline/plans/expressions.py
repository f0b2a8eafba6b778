"""What Amazon States Language computes: reference paths, intrinsic functions, payload templates. Pure.

Paths into the input begin with `$`, into the context object with `$$`. Of JSONPath there are members, indexes and
filters for equality. A path that leads nowhere is asked for from `absent`; AWS would fail the execution there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.pipeline.plans.examples import Anything, anything

_STEP = re.compile(
    r"\.(?P<name>[\w-]+)"
    r"|\['(?P<quoted>[^']+)'\]"
    r"|\[(?P<index>\d+)\]"
    r"|\[\?\(@\.(?P<key>[\w-]+)\s*==\s*'(?P<equals>[^']*)'\)\]"
)
_WORD = re.compile(
    r"\s*(?:(?P<open>States\.\w+)\("
    r"|(?P<text>'(?:[^'\\]|\\.)*')"
    r"|(?P<word>[^\s,()]+(?:\([^)]*\)[^\s,()]*)?))\s*"  # with the brackets of a filter
)
_CLOSE = re.compile(r"\)\s*")
_UUID = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What paths lead into."""

    data: Any
    """The input of the state, or the result for a ResultSelector."""

    context: Mapping[str, Any]
    """Step Functions' context object."""

    absent: Callable[[str], Any]
    """What a path that leads nowhere stands for; it is given the path."""


def resolve(template: Any, scope: Scope) -> Any:
    """A payload template with each `key.$` replaced by what its path or intrinsic function stands for."""
    if isinstance(template, dict):
        return {
            key.removesuffix(".$"): value_of(value, scope) if key.endswith(".$") else resolve(value, scope)
            for key, value in template.items()
        }
    if isinstance(template, list):
        return [resolve(item, scope) for item in template]
    return template


def value_of(expression: str, scope: Scope) -> Any:
    """What a path or an intrinsic function stands for. Raises ValueError for what is neither."""
    value, end = _parsed(expression, 0, scope)
    if end != len(expression):
        raise ValueError(f"{expression[end:]!r} is too much in {expression!r}")
    return value


def put(data: Any, path: str, value: Any) -> Any:
    """`data` with `value` at a reference path such as `$.TrainingJob`; `data` itself stays as it is."""
    names = [name for name in path.removeprefix("$").split(".") if name]
    if not names:
        return value
    inner = data.get(names[0], {})
    rest = ".".join(["$", *names[1:]])
    return {**data, names[0]: put(inner if isinstance(inner, dict) else {}, rest, value)}


def _parsed(text: str, at: int, scope: Scope) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends."""
    found = _WORD.match(text, at)
    if found is None:
        raise ValueError(f"{text[at:]!r} is no expression")
    if found["open"]:
        arguments, end = _arguments(text, found.end(), scope)
        return _called(found["open"], arguments), end
    if found["text"]:
        return re.sub(r"\\(.)", r"\1", found["text"][1:-1]), found.end()
    word = found["word"]
    return (_at(word, scope) if word.startswith("$") else json.loads(word)), found.end()


def _arguments(text: str, at: int, scope: Scope) -> tuple[list[Any], int]:
    """The arguments up to the closing bracket, and where the text goes on after it."""
    arguments: list[Any] = []
    while not (closed := _CLOSE.match(text, at)):
        value, at = _parsed(text, at, scope)
        arguments.append(value)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith(")", at):
            raise ValueError(f"a bracket is never closed in {text!r}")
    return arguments, closed.end()


def _at(path: str, scope: Scope) -> Any:
    """What the path leads to."""
    root, steps = (scope.context, path[2:]) if path.startswith("$$") else (scope.data, path[1:])
    position, found = 0, root
    while position < len(steps):
        step = _STEP.match(steps, position)
        if step is None:
            raise ValueError(f"{path!r} is a path of a kind that is not known here")
        try:
            found = _stepped(found, step)
        except (KeyError, IndexError, TypeError):
            return scope.absent(path)
        position = step.end()
    return found


def _stepped(value: Any, step: re.Match[str]) -> Any:
    """One step on. Raises KeyError, IndexError or TypeError if there is none."""
    if isinstance(value, Anything):
        return value
    if step["index"]:
        return value[int(step["index"])]
    if step["key"]:
        key, wanted = step["key"], step["equals"]
        # an example holds one item of the kind, not each of them
        return [item for item in value if item[key] == wanted] or [{**item, key: wanted} for item in value]
    name = step["name"] or step["quoted"]
    if isinstance(value, list):  # what follows a filter is read of every item
        return [item[name] for item in value]
    return value[name]


def _called(name: str, arguments: list[Any]) -> Any:
    """The intrinsic function's value. Raises ValueError if there is no such function."""
    function = _FUNCTIONS.get(name)
    if function is None:
        raise ValueError(f"{name} is no intrinsic function that is known here: {', '.join(_FUNCTIONS)}")
    known = not any(isinstance(argument, Anything) for argument in arguments)
    return function(*arguments) if known or name == "States.Format" else anything()


def _format(template: str, *arguments: Any) -> str:
    pieces = template.split("{}")
    texts = [item if isinstance(item, str) else _to_json(item) for item in arguments]
    return "".join(piece + text for piece, text in zip(pieces, [*texts, ""], strict=True))


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # an example of text is no JSON
        return anything()


def _partition(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "States.Array": lambda *items: list(items),
    "States.ArrayContains": lambda items, item: item in items,
    "States.ArrayGetItem": lambda items, index: items[index],
    "States.ArrayLength": len,
    "States.ArrayPartition": _partition,
    "States.ArrayRange": lambda first, last, step: list(range(first, last + 1, step)),
    "States.ArrayUnique": lambda items: [item for index, item in enumerate(items) if item not in items[:index]],
    "States.Base64Decode": lambda text: base64.b64decode(text).decode(),
    "States.Base64Encode": lambda text: base64.b64encode(text.encode()).decode(),
    "States.Format": _format,
    "States.Hash": lambda text, algorithm: hashlib.new(algorithm.replace("-", "").lower(), text.encode()).hexdigest(),
    "States.JsonMerge": lambda first, second, _deep: {**first, **second},
    "States.JsonToString": _to_json,
    "States.MathAdd": lambda first, second: first + second,
    "States.MathRandom": lambda low, _high, *_seed: low,  # one of what it may be
    "States.StringSplit": lambda text, splitter: [part for part in re.split(f"[{re.escape(splitter)}]", text) if part],
    "States.StringToJson": _from_json,
    "States.UUID": lambda: _UUID,
}
