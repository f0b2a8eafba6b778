"""Deploys to one stack: resources one after the other, and back again if one of them fails, as AWS does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kennel.local.cloudformation.intrinsics import resolve
from kennel.local.cloudformation.kinds import Properties
from kennel.local.cloudformation.plan import different, removal_order, scope_of
from kennel.local.cloudformation.records import ChangeSet, StackResource
from kennel.local.cloudformation.steps import Failed, Steps
from kennel.local.cloudformation.template import Resource, Template
from kennel.local.wire import ServiceError


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A deployment to the stack of `steps`. Not to be used by two threads at once."""

    steps: Steps

    def create(self, change_set: ChangeSet) -> None:
        """Make every resource; if one fails, remove those that were made."""
        self.steps.stack.deployed = change_set
        try:
            self._apply(change_set.template, undo=[], replaced=[])
        except Failed as failed:
            reason = f"The following resource(s) failed to create: [{failed}]. Rollback requested by user."
            self._status("ROLLBACK_IN_PROGRESS", reason)
            left = self._remove_all()
            self._status("ROLLBACK_FAILED" if left else "ROLLBACK_COMPLETE", _left(left))
            return
        self._finish(change_set, "CREATE_COMPLETE")

    def update(self, change_set: ChangeSet) -> None:
        """Make what is new, change what differs, remove what is gone; if a step fails, undo those before it."""
        undo: list[Callable[[], None]] = []
        replaced: list[StackResource] = []
        before = dict(self.steps.stack.resources)
        try:
            self._apply(change_set.template, undo=undo, replaced=replaced)
        except Failed as failed:
            self._status("UPDATE_ROLLBACK_IN_PROGRESS", f"The following resource(s) failed to update: [{failed}].")
            done = [_succeeds(step) for step in reversed(undo)]
            self._drop(name for name in self.steps.stack.resources.keys() - before.keys() if self._find(name) is None)
            self._status("UPDATE_ROLLBACK_COMPLETE" if all(done) else "UPDATE_ROLLBACK_FAILED")
            return
        self._status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        self._clean_up(change_set.template, replaced)
        self._finish(change_set, "UPDATE_COMPLETE")

    def continue_rollback(self, change_set: ChangeSet) -> None:
        """Once more from a rollback that failed to the stack's last good state, which `change_set` made."""
        replaced: list[StackResource] = []
        try:
            self._apply(change_set.template, undo=[], replaced=replaced)
        except Failed as failed:
            self._status("UPDATE_ROLLBACK_FAILED", f"The following resource(s) failed to update: [{failed}].")
            return
        self._clean_up(change_set.template, replaced)
        self._finish(change_set, "UPDATE_ROLLBACK_COMPLETE")

    def delete(self) -> None:
        """Remove every resource; one that cannot be removed keeps what it depends on."""
        left = self._remove_all()
        self._status("DELETE_FAILED" if left else "DELETE_COMPLETE", _left(left))

    def _clean_up(self, template: Template, replaced: Iterable[StackResource]) -> None:
        """Remove what was replaced or is not in the template any more.

        One that cannot be removed is nobody's from now on: its event says so, and the update is complete.
        """
        gone = {name: there for name, there in self.steps.stack.resources.items() if name not in template.resources}
        for old in replaced:
            _succeeds(lambda old=old: self._remove(old, in_stack=False))  # type: ignore[misc]
        for name in removal_order(gone):
            _succeeds(lambda name=name: self._remove(gone[name]))  # type: ignore[misc]
        self._drop(gone.keys())

    def _apply(self, template: Template, *, undo: list[Callable[[], None]], replaced: list[StackResource]) -> None:
        """Make and change resources in the template's order. Raises Failed with the name of the first that fails."""
        for resource in template.resources.values():
            there = self._find(resource.logical_id)
            record = self._record(resource, there, template)
            if there is None or there.made is None:
                properties = self._properties(template, resource, record, "CREATE_FAILED")
                made = self.steps.make(record, properties)
                undo.append(lambda made=made: self._remove(made))  # type: ignore[misc]
                continue
            undo.append(lambda there=there: self.steps.keep(there, "UPDATE_COMPLETE"))  # type: ignore[misc]
            properties = self._properties(template, resource, record, "UPDATE_FAILED")
            differing = different(there.properties, properties)
            if not differing:
                undo.pop()
                self.steps.keep(record)
            elif self.steps.kinds[resource.type].fixed.intersection(differing):
                new = self.steps.make_another(record, properties)
                undo.append(lambda new=new: self._remove(new, in_stack=False))  # type: ignore[misc]
                if resource.update_replace_policy != "Retain":
                    replaced.append(replace(there, deletion_policy="Delete"))
            else:
                undo[-1] = lambda old=there, new=properties: self._change_back(old, new)  # type: ignore[misc]
                self.steps.change(record, there.made, properties)

    def _record(self, resource: Resource, there: StackResource | None, template: Template) -> StackResource:
        """The resource as the template has it, with the properties that it has until now."""
        return StackResource(
            logical_id=resource.logical_id,
            type=resource.type,
            status=there.status if there else "",
            time=there.time if there else self.steps.journal.now(),
            made=there.made if there else None,
            properties=there.properties if there else {},
            depends_on=resource.depends_on & template.resources.keys(),
            deletion_policy=resource.deletion_policy,
        )

    def _properties(self, template: Template, resource: Resource, record: StackResource, failure: str) -> Properties:
        """What the resource's properties are, now that what it refers to is there. Raises Failed."""
        kinds = self.steps.kinds
        scope = scope_of(template, self.steps.pseudo, self._find, kinds)
        try:
            properties: Properties = resolve(resource.properties, scope)
        except ServiceError as error:
            self.steps.fail(record, failure, str(error))
        if unknown := sorted(properties.keys() - kinds[resource.type].properties):
            self.steps.fail(record, failure, f"Encountered unsupported property {unknown[0]}")
        return properties

    def _find(self, name: str) -> StackResource | None:
        there = self.steps.stack.resources.get(name)
        return there if there and there.exists else None

    def _change_back(self, old: StackResource, new: Properties) -> None:
        """To the old properties. Of a change that failed, a part may have been done."""
        now = self.steps.stack.resources[old.logical_id]
        if now.made is not None:
            self.steps.change(replace(old, properties=new), now.made, old.properties)

    def _remove(self, there: StackResource, *, in_stack: bool = True) -> None:
        if there.made is not None:
            self.steps.remove(there, there.made, in_stack=in_stack)

    def _remove_all(self) -> list[str]:
        """Remove what exists; names of what could not be removed."""
        left: list[str] = []
        held: frozenset[str] = frozenset()
        for name in removal_order(self.steps.stack.resources):
            there = self.steps.stack.resources[name]
            if name in held or not _succeeds(lambda there=there: self._remove(there)):  # type: ignore[misc]
                left += [] if name in held else [name]
                held |= there.depends_on
        return left

    def _drop(self, names: Iterable[str]) -> None:
        for name in list(names):
            self.steps.journal.dropped(self.steps.stack, name)

    def _status(self, status: str, reason: str = "") -> None:
        self.steps.journal.stack(self.steps.stack, status, reason)

    def _finish(self, change_set: ChangeSet, status: str) -> None:
        scope = scope_of(change_set.template, self.steps.pseudo, self._find, self.steps.kinds)
        outputs = []
        for key, output in change_set.template.outputs.items():
            value = {"OutputKey": key, "OutputValue": str(resolve(output["Value"], scope))}
            outputs.append(value | ({"Description": output["Description"]} if "Description" in output else {}))
        with self.steps.journal.lock:
            self.steps.stack.deployed = change_set
            self.steps.stack.outputs = outputs
            self._status(status)


def _succeeds(step: Callable[[], None]) -> bool:
    try:
        step()
    except Failed:
        return False
    return True


def _left(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"The following resource(s) failed to delete: [{listed}]. " if listed else ""
