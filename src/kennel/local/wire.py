"""Turns HTTP requests into checked API calls, and their results into HTTP responses.

The services that are ours (SageMaker, its runtime, Lambda's data plane, ECR's images) are tables from operation
name to a function of dictionaries in botocore's shapes. This module does for them what AWS does before it looks
at a request: find the operation, parse it by botocore's service model, refuse what the model forbids.
Routing, parsing and serializing are moto's, which reads the same models. No operation is known by name here.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape  # nosec B406  # nothing is parsed

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request
from moto.core.routing import get_router_class
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from kennel.constraints import violations

Operation = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes parsed and checked parameters, returns a result, both in botocore's shapes."""

LOG = logging.getLogger(__name__)


class ServiceError(Exception):
    """An error that the API answers with, as AWS would: a code, a message, a status, further members."""

    def __init__(self, code: str, message: str, *, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members = members


def not_found(message: str) -> ServiceError:
    """What SageMaker answers when a name is unknown (most of its calls have no error of their own for it)."""
    return ServiceError("ValidationException", message)


class Service:
    """One AWS service by botocore's name (`sagemaker`), answered by a table of operations."""

    def __init__(self, name: str, operations: Mapping[str, Operation]) -> None:
        self._model = get_service_model(name)
        self._protocol = str(self._model.protocol)
        self._operations = operations
        router_class = get_router_class(name, self._protocol)
        if router_class is None:
            raise ValueError(f"no router for the protocol {self._protocol} of {name}")
        self._router = router_class(self._model)

    def answers(self, request: Request) -> bool:
        """Whether the request is for an operation of the table."""
        try:
            operation, _ = self._router.match(request)
        except NotFound:
            return False
        return str(operation.name) in self._operations

    def respond(self, request: Request) -> Response:
        """Check the request, run its operation, and say the result or the error."""
        request_id = str(uuid.uuid4())
        try:
            operation, uri_params = self._router.match(request)
        except NotFound:
            error = ServiceError("UnknownOperationException", f"{self._model.service_name} has no such operation here")
            return self._error(error, request_id)
        name = str(operation.name)
        try:
            handler = self._operations.get(name)
            if handler is None:
                raise ServiceError(
                    "UnknownOperationException", f"the local AWS does not do {self._model.service_name}:{name}"
                )
            params = self._parse(request, operation, uri_params)
            if found := violations(operation.input_shape, params):
                plural = "s" if len(found) > 1 else ""
                raise ServiceError(
                    "ValidationException", f"{len(found)} validation error{plural} detected: {'; '.join(found)}"
                )
            result = handler(params)
            serialized = get_serializer_class(self._model.service_name, self._protocol)(operation).serialize(result)
        except ServiceError as error:
            return self._error(error, request_id)
        except Exception as error:  # a bug of ours must reach the caller as AWS's would, and the log in full
            LOG.exception("%s:%s failed", self._model.service_name, name)
            fault = ServiceError("InternalFailure", f"{type(error).__name__}: {error}", status=500)
            return self._error(fault, request_id)
        status = result.get("StatusCode", serialized["status_code"])
        content_type = "text/xml" if self._protocol == "query" else "application/json"
        return self._response(serialized["body"], status, serialized["headers"], request_id, content_type)

    def _parse(self, request: Request, operation: Any, uri_params: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._protocol == "json":  # the body is the parameters; moto's parser would drop unknown ones unseen
                body = json.loads(request.get_data() or b"{}")
                if not isinstance(body, dict):
                    raise ValueError("the body is not a JSON object")
                return {name: value for name, value in body.items() if value is not None}
            parsed: dict[str, Any] = PROTOCOL_PARSERS[self._protocol](operation).parse(
                {
                    "method": request.method,
                    "values": request.values,
                    "headers": request.headers,
                    "body": request.get_data(),
                    "url_path": request.path,
                    "url_params": uri_params,
                }
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ServiceError("SerializationException", f"cannot read the request: {error}") from error
        return parsed

    def _error(self, error: ServiceError, request_id: str) -> Response:
        if self._protocol == "query":
            return self._response(_xml_error(error, request_id), error.status, {}, request_id, "text/xml")
        body = {"__type": error.code, "message": error.message, "Message": error.message, **error.members}
        headers = {"X-Amzn-Errortype": error.code}
        return self._response(json.dumps(body), error.status, headers, request_id)

    @staticmethod
    def _response(
        body: Any, status: int, headers: Mapping[str, Any], request_id: str, content_type: str = "application/json"
    ) -> Response:
        response = Response(body, status=status, content_type=content_type)
        response.headers.update({name: str(value) for name, value in headers.items()})
        response.headers["x-amzn-RequestId"] = request_id
        return response


def _xml_error(error: ServiceError, request_id: str) -> str:
    """The error as services of the query protocol say it."""
    sender = "Sender" if error.status < 500 else "Receiver"
    told = f"<Type>{sender}</Type><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    return f"<ErrorResponse><Error>{told}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
