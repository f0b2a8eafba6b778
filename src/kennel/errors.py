"""One family of errors for everything that a caller can act on.

Each error says *what* went wrong, *where*, and *what to do next*, and maps once to an HTTP status
and to an exit code. A bug is not one of these: it is a builtin exception or a failed assertion.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class KennelError(Exception):
    """Something that the caller can mend.

    `what` is a sentence about the fault, `where` names the file, key or resource, `hint` says what
    to do next. `code` is the machine-readable name that answers carry.
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "Error"

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.hint}" if self.hint else text


class InvalidArguments(KennelError):
    """The command line or the configuration is wrong; nothing was started."""

    exit_code = 2
    code = "InvalidArguments"

    def __init__(self, what: str, *, where: str = "", hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  - {problem}" for problem in self.problems)])


class InvalidData(KennelError):
    """The data set cannot be trained on."""

    exit_code = 2
    code = "InvalidData"


class PipelineFailed(KennelError):
    """An execution, or a job of it, ended without success."""

    code = "PipelineFailed"


class BadRequest(KennelError):
    """A request that can never succeed as it is."""

    status = HTTPStatus.BAD_REQUEST
    code = "BadRequest"


class UnsupportedMediaType(BadRequest):
    """Not an image, or not the image that its content type claims."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "UnsupportedMediaType"


class PayloadTooLarge(BadRequest):
    """Too many bytes, or too many pixels."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "PayloadTooLarge"


class Forbidden(BadRequest):
    """An address that must not be fetched."""

    status = HTTPStatus.FORBIDDEN
    code = "Forbidden"


class NotFound(BadRequest):
    """What the request names does not exist."""

    status = HTTPStatus.NOT_FOUND
    code = "NotFound"


class InvalidModel(KennelError):
    """A model artefact that cannot be trusted or read."""

    code = "InvalidModel"


class Unavailable(KennelError):
    """The service behind cannot answer now; the same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "Unavailable"
