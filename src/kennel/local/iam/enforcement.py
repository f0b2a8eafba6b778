"""Stands before every service: a request that a role's session signed is answered only if the role may make it.

Requests with any other key are the account's owner's, who may do everything; but the roles that a new function or state
machine names must suffice, whoever asks. Signatures are not verified: the secret of a session never leaves the part
that acts with it, and nobody else can guess its key.
"""

from __future__ import annotations

import io
import uuid
from typing import Any

from moto.core.request import Request
from werkzeug.wrappers import Response

from kennel.local.iam import service_roles
from kennel.local.iam.access import Call
from kennel.local.iam.authorizations import needed
from kennel.local.iam.refusals import denied, refusal
from kennel.local.iam.requests import carries_parameters, read
from kennel.local.iam.roles import Denial, Roles
from kennel.local.iam.sessions import Session
from kennel.local.wire import ServiceError

_CHUNK = 1 << 16


class Enforcement:
    """Judges requests by the policies of whoever signed them."""

    def __init__(self, roles: Roles, *, region: str, account: str) -> None:
        self._roles = roles
        self._region = region
        self._account = account

    def refusal(self, request: Request, environ: dict[str, Any]) -> Response | None:
        """The answer to a request that is denied; None for one that may go on, its body unread."""
        key, service = _signer(request)
        session = self._roles.find(key)
        target = request.headers.get("X-Amz-Target", "")
        if session is None and not service_roles.concerns(service, request.method, target, request.args):
            return None
        if carries_parameters(request, service):  # before a form is parsed, which would leave nothing to read
            environ["wsgi.input"] = io.BytesIO(request.get_data())
        call = read(request, service, region=self._region, account=self._account)
        refused = self._judge(request, session, service, call) if session is not None else None
        if refused is None and call is not None:
            refused = self._demand(call)
        if refused is not None:
            while request.stream.read(_CHUNK):  # a client that still sends would not read the answer
                pass
        return refused

    def _demand(self, call: Call) -> Response | None:
        try:
            service_roles.demand(call, self._roles)
        except ServiceError as error:
            return refusal(call.service, error, request_id=str(uuid.uuid4()))
        return None

    def _judge(self, request: Request, session: Session, service: str, call: Call | None) -> Response | None:
        name = call.service if call is not None else service
        try:
            accesses = needed(call, self._roles.facts) if call is not None else None
            if accesses is None:
                what = call.operation if call is not None else f"{request.method} {request.path}"
                raise denied(
                    name,
                    f"User: {session.arn} is not authorized to perform: {name}:{what}: the local AWS does not know "
                    "what permissions it needs, and denies it to roles",
                )
            self._roles.check(session.role_arn, accesses, who=session.arn)
        except Denial as denial:
            return refusal(name, denied(name, str(denial)), request_id=str(uuid.uuid4()))
        except ServiceError as error:
            return refusal(name, error, request_id=str(uuid.uuid4()))
        except (KeyError, TypeError, AttributeError) as error:  # what says on which resource is not there
            missing = ServiceError("ValidationException", f"the request lacks a parameter, or has a wrong one: {error}")
            return refusal(name, missing, request_id=str(uuid.uuid4()))
        return None


def _signer(request: Request) -> tuple[str, str]:
    """Who signed a request, or a URL beforehand, by the new way of signing or S3's old one."""
    if old := request.args.get("AWSAccessKeyId"):
        return str(old), "s3"
    presigned = f"Credential={request.args.get('X-Amz-Credential', '')}"
    return signer(request.headers.get("Authorization") or presigned)


def signer(authorization: str) -> tuple[str, str]:
    """Who signed, and for which service.

    >>> signer("AWS4-HMAC-SHA256 Credential=KEY/20260101/us-east-1/sagemaker/aws4_request, SignedHeaders=host")
    ('KEY', 'sagemaker')
    """
    _, _, scope = authorization.partition("Credential=")
    parts = scope.partition(",")[0].split("/")
    return (parts[0], parts[3]) if len(parts) == 5 else ("", "")
