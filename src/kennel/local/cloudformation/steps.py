"""Makes, changes and removes one resource of a stack, and writes down what became of it.

Nothing here knows any type of resource; what order there is, and what is taken back, is the deployment's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from kennel.local.cloudformation.api import Api, Refused
from kennel.local.cloudformation.journal import Journal
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, gone_is_fine
from kennel.local.cloudformation.records import Stack, StackResource

LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class Failed(Exception):
    """A resource could not be made, changed or removed. Why is in the journal already."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps of one stack. `pseudo` holds AWS::Region and its like; `unique` ends the names that are made up here."""

    stack: Stack
    journal: Journal
    api: Api
    kinds: Mapping[str, Kind]
    pseudo: Mapping[str, Any]
    unique: Callable[[], str]

    def make(self, record: StackResource, properties: Properties) -> StackResource:
        """Make the resource. Raises Failed."""
        self._write(record, "CREATE_IN_PROGRESS")
        return self._made(record, properties, "CREATE")

    def make_another(self, record: StackResource, properties: Properties) -> StackResource:
        """Make another one in the resource's place, which stays what it is. Raises Failed."""
        key = self._kind(record).name
        if (name := properties.get(key)) and name == record.properties.get(key):
            self.fail(
                record,
                "UPDATE_FAILED",
                "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                f"Rename {name} and update the stack again.",
            )
        reason = "Requested update requires the creation of a new physical resource; hence creating one."
        self._write(record, "UPDATE_IN_PROGRESS", reason)
        return self._made(record, properties, "UPDATE")

    def change(self, record: StackResource, made: Made, properties: Properties) -> StackResource:
        """Change the resource from the record's properties to others. Raises Failed."""
        changed = Changed(made=made, old=record.properties, wanted=self._wanted(record, properties))
        self._write(record, "UPDATE_IN_PROGRESS")
        made = self._tried(record, "UPDATE_FAILED", lambda: self._kind(record).update(self.api, changed))
        return self._write(replace(record, made=made, properties=properties), "UPDATE_COMPLETE")

    def remove(self, there: StackResource, made: Made, *, in_stack: bool = True) -> None:
        """Remove the resource, or leave it if its policy says so. Raises Failed.

        Not `in_stack`, only events tell of it: another one has its logical id.
        """
        if there.deletion_policy == "Retain":
            self._write(there, "DELETE_SKIPPED", in_stack=in_stack)
            return

        def act() -> None:
            with gone_is_fine():
                self._kind(there).remove(self.api, made, there.properties)

        self._write(there, "DELETE_IN_PROGRESS", in_stack=in_stack)
        self._tried(there, "DELETE_FAILED", act, in_stack=in_stack)
        self._write(there, "DELETE_COMPLETE", in_stack=in_stack)

    def keep(self, record: StackResource, status: str = "") -> None:
        """The resource is as it was; with a `status`, that is told."""
        if status:
            self._write(record, status)
        else:
            with self.journal.lock:
                self.stack.resources[record.logical_id] = record

    def fail(self, record: StackResource, status: str, reason: str) -> None:
        """Write down why the resource is not what was wanted. Raises Failed."""
        self._write(record, status, reason)
        raise Failed(record.logical_id)

    def _made(self, record: StackResource, properties: Properties, doing: str) -> StackResource:
        wanted = self._wanted(record, properties)
        made = self._tried(record, f"{doing}_FAILED", lambda: self._kind(record).make(self.api, wanted))
        return self._write(replace(record, made=made, properties=properties), f"{doing}_COMPLETE")

    def _kind(self, record: StackResource) -> Kind:
        return self.kinds[record.type]

    def _wanted(self, record: StackResource, properties: Properties) -> Wanted:
        return Wanted(
            properties=properties,
            stack=self.stack.name,
            logical_id=record.logical_id,
            unique=self.unique(),
            region=self.pseudo["AWS::Region"],
            account=self.pseudo["AWS::AccountId"],
        )

    def _tried(self, record: StackResource, status: str, act: Callable[[], _T], *, in_stack: bool = True) -> _T:
        try:
            return act()
        except Refused as refused:
            reason = handler_message(refused, self.unique())
        except Exception as error:  # a property of the wrong shape, or a bug of ours: the stack must not hang for it
            LOG.exception("%s: %s", record.logical_id, status)
            reason = f"Internal Failure: {type(error).__name__}: {error}"
        self._write(record, status, reason, in_stack=in_stack)
        raise Failed(record.logical_id)

    def _write(self, record: StackResource, status: str, reason: str = "", *, in_stack: bool = True) -> StackResource:
        written = replace(record, status=status, reason=reason, time=self.journal.now())
        self.journal.resource(self.stack, written, in_stack=in_stack)
        return written


_CODES = (
    ("AccessDenied", ("AccessDenied", "Unauthorized")),
    ("AlreadyExists", ("Exist", "Duplicate", "AlreadyOwned")),
    ("InvalidRequest", ("Invalid", "Validation", "Malformed")),
)


def handler_message(refused: Refused, token: str) -> str:
    """The reason of a failed resource, in the words of AWS's resource handlers.

    >>> handler_message(Refused("no", "AccessDeniedException"), "A1")
    'Resource handler returned message: "no" (RequestToken: A1, HandlerErrorCode: AccessDenied)'
    """
    matching = (code for code, parts in _CODES if any(part in refused.code for part in parts))
    code = "NotFound" if refused.gone else next(matching, "GeneralServiceException")
    return f'Resource handler returned message: "{refused}" (RequestToken: {token}, HandlerErrorCode: {code})'
