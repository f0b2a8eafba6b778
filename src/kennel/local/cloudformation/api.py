"""Calls the local AWS's API with what a template says: names and types are brought into botocore's shapes.

Templates write `true` or `"true"`, policies as objects, members in capitals where an API has small letters; AWS's
own handlers of resources bring that together, and so does this, by botocore's service models and nothing else.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from kennel.constraints import violations

_GONE = ("NotFound", "NoSuch", "NonExistent", "DoesNotExist", "NotExist")


class Refused(Exception):
    """The API, or the shape of its parameters, refused. `code` is the API's error code; empty if it was not asked."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code

    @property
    def gone(self) -> bool:
        """Whether the API said that there is no such thing."""
        return any(part in self.code for part in _GONE)


class Api:
    """The local AWS's API by botocore's names of services and operations."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        """`client` makes a boto3 client; each service's is made once."""
        self._client = client
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()

    def __call__(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """Call an operation; parameters that are None are left out. Raises Refused."""
        client = self._of(service)
        shape = client.meta.service_model.operation_model(operation).input_shape
        given = {name: value for name, value in parameters.items() if value is not None}
        sent = shaped(shape, given)
        if found := violations(shape, sent):  # more than a client looks at, and AWS would refuse
            raise Refused(f"Properties validation failed: {'; '.join(found)}", "InvalidRequest")
        try:
            answer: dict[str, Any] = getattr(client, xform_name(operation))(**sent)
        except ClientError as error:
            told = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise Refused(
                f"{told.get('Message') or told.get('Code')} (Service: {service}, Status Code: {status})",
                str(told.get("Code", "")),
            ) from error
        except BotoCoreError as error:  # no answer, or none that can be read
            raise Refused(f"{error} (Service: {service})") from error
        return answer

    def _of(self, service: str) -> Any:
        with self._making:
            if service not in self._clients:
                self._clients[service] = self._client(service)
            return self._clients[service]


def shaped(shape: Any, value: Any, path: str = "#") -> Any:
    """The value in a shape of botocore's. Raises Refused for a member that the shape has not, or a wrong type."""
    expected = {"structure": "JSONObject", "map": "JSONObject", "list": "JSONArray"}.get(shape.type_name)
    if expected and not isinstance(value, list if expected == "JSONArray" else Mapping):
        raise Refused(f"{path}: expected type: {expected}, found: {_type(value)}", "InvalidRequest")
    match shape.type_name:
        case "structure":
            return _structure(shape, value, path)
        case "list":
            return [shaped(shape.member, item, f"{path}/{index}") for index, item in enumerate(value)]
        case "map":
            return {key: shaped(shape.value, item, f"{path}/{key}") for key, item in value.items()}
    return _scalar(shape.type_name, value, path)


def _scalar(type_name: str, value: Any, path: str) -> Any:
    try:
        match type_name:
            case "boolean":
                return {"true": True, "false": False}[str(value).lower()]
            case "string" if isinstance(value, Mapping | list | bool):
                return json.dumps(value)  # a policy, or a boolean as the API writes it
            case "string":
                return str(value)
            case "integer" | "long":
                return int(value)
            case "float" | "double":
                return float(value)
    except (KeyError, TypeError, ValueError):
        expected = {"boolean": "Boolean", "integer": "Integer", "long": "Integer"}.get(type_name, "Number")
        raise Refused(f"{path}: expected type: {expected}, found: {_type(value)}", "InvalidRequest") from None
    return value


def _structure(shape: Any, value: Mapping[str, Any], path: str) -> dict[str, Any]:
    members = {name.lower(): name for name in shape.members}
    members |= {name: name for name in shape.members}
    result = {}
    for key, item in value.items():
        name = members.get(key) or members.get(key.lower())
        if name is None:
            raise Refused(f"{path}: extraneous key [{key}] is not permitted", "InvalidRequest")
        result[name] = shaped(shape.members[name], item, f"{path}/{key}")
    return result


def _type(value: Any) -> str:
    names = {dict: "JSONObject", list: "JSONArray", bool: "Boolean", int: "Integer", str: "String"}
    return names.get(type(value), type(value).__name__)
