"""Says that a call is refused before a service sees it, in the service's protocol and with its own codes."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape  # nosec B406  # nothing is parsed

from werkzeug.wrappers import Response

from kennel.local.wire import ServiceError

_CODES = {
    "s3": "AccessDenied",
    "sqs": "AccessDenied",
    "iam": "AccessDenied",
    "sts": "AccessDenied",
    "ec2": "UnauthorizedOperation",
    "sns": "AuthorizationError",
}
"""What services, by botocore's names, call a denial; the others say AccessDeniedException."""

_XML = {
    "s3": "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>",
    "ec2": (
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        "<RequestID>{request_id}</RequestID></Response>"
    ),
    **dict.fromkeys(
        ("sns", "iam", "sts", "cloudformation"),
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>{request_id}</RequestId></ErrorResponse>",
    ),
}
"""How those say an error that do not speak JSON."""


def denied(service: str, message: str) -> ServiceError:
    """That policies do not allow it."""
    return ServiceError(_CODES.get(service, "AccessDeniedException"), message, status=403)


def refusal(service: str, error: ServiceError, *, request_id: str) -> Response:
    """The answer of a service (botocore's name) with an error."""
    if form := _XML.get(service):
        body = form.format(code=error.code, message=escape(error.message), request_id=request_id)
        text = f'<?xml version="1.0" encoding="UTF-8"?>{body}'
        response = Response(text, status=error.status, content_type="text/xml")
        response.headers["x-amz-request-id"] = request_id
    else:
        members = {"__type": error.code, "message": error.message, "Message": error.message}
        response = Response(json.dumps(members), status=error.status, content_type="application/json")
        response.headers["X-Amzn-Errortype"] = error.code
    response.headers["x-amzn-RequestId"] = request_id
    return response
