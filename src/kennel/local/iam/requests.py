"""Reads an HTTP request as an API call, whoever answers it. Routing and parsing are moto's, by botocore's models."""

from __future__ import annotations

import functools
from typing import Any

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request
from moto.core.routing import determine_request_protocol, get_router_class
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound

from kennel.local.iam.access import Call

_BOTOCORE_NAMES = {"monitoring": "cloudwatch", "states": "stepfunctions"}
"""Services that sign by another name than botocore's."""


def read(request: Request, signed_for: str, *, region: str, account: str) -> Call | None:
    """The call that a request makes; None if it is none that botocore's model of the service knows.

    `signed_for` is the service in the signature. What an object holds is not read: it may be large.
    """
    if signed_for == "s3" and request.host.partition(":")[0] not in ("127.0.0.1", "localhost"):
        return None  # the bucket is in the host's name, where botocore puts it only if it is told to
    service = _BOTOCORE_NAMES.get(signed_for, signed_for)
    if service == "sagemaker" and "X-Amz-Target" not in request.headers:
        service = "sagemaker-runtime"
    try:
        protocol = determine_request_protocol(_model(service), request.content_type)
        operation, uri_params = _router(service, protocol).match(request)
        parameters: dict[str, Any] = PROTOCOL_PARSERS[protocol](operation).parse(
            {
                "method": request.method,
                "values": request.values if carries_parameters(request, signed_for) else request.args,
                "headers": request.headers,
                "body": request.get_data() if carries_parameters(request, signed_for) else b"",
                "url_path": request.path,
                "url_params": uri_params,
            }
        )
    except (NotFound, ValueError, TypeError, AttributeError, KeyError):
        return None
    return Call(service=service, operation=str(operation.name), parameters=parameters, region=region, account=account)


def carries_parameters(request: Request, signed_for: str) -> bool:
    """Whether the body holds parameters, and not an object or the input of a model."""
    if signed_for == "s3":
        return bool(request.method == "POST" or (request.method == "PUT" and "notification" in request.args))
    return signed_for != "sagemaker" or "X-Amz-Target" in request.headers


@functools.cache
def _model(service: str) -> Any:
    return get_service_model(service)


@functools.cache
def _router(service: str, protocol: str) -> Any:
    router_class = get_router_class(service, protocol)
    if router_class is None:
        raise ValueError(f"no router for the protocol {protocol} of {service}")
    return router_class(_model(service))
