"""What a type of resource is: how it is made, changed and removed through the API. The types are in `resources`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kennel.local.cloudformation.api import Api, Refused

Properties = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A resource that exists. `id` is what Ref gives, `attributes` what GetAtt gives."""

    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A resource to be made. `unique` is the end of a name that CloudFormation makes up."""

    properties: Properties
    stack: str
    logical_id: str
    unique: str
    region: str
    account: str

    def __getitem__(self, name: str) -> Any:
        """A property that must be there. Raises Refused."""
        if name not in self.properties:
            raise Refused(f"#: required key [{name}] not found", "InvalidRequest")
        return self.properties[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A property that need not be there."""
        return self.properties.get(name, default)

    def name(self, given: str = "") -> str:
        """The property `given`, if there is such a property; else a name of the stack's, as AWS makes it up."""
        return str(self.properties.get(given) or f"{self.stack}-{self.logical_id}-{self.unique}")

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of this account in this region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A resource whose properties become others. `wanted` has the new ones."""

    made: Made
    old: Properties
    wanted: Wanted

    @property
    def id(self) -> str:
        """What Ref gives."""
        return self.made.id

    def get(self, name: str, default: Any = None) -> Any:
        """A new property that need not be there."""
        return self.wanted.get(name, default)

    def differs(self, *names: str) -> bool:
        """Whether one of the properties became another."""
        return any(self.old.get(name) != self.wanted.get(name) for name in names)


def _as_it_is(_api: Api, changed: Changed) -> Made:
    raise AssertionError(f"{changed.id}: every property of its type is fixed")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type of resource.

    `properties` are those that the local AWS knows, `attributes` what GetAtt gives, `fixed` the properties whose change
    makes a new resource ("Update requires: Replacement"), `name` the one that holds a name of the user's own choice.
    `update` is called when others changed. Whether `remove` finds that there is nothing to remove is no matter. Stacks
    with types that are `iam` need a capability.
    """

    properties: frozenset[str]
    attributes: frozenset[str] = frozenset()
    make: Callable[[Api, Wanted], Made]
    remove: Callable[[Api, Made, Properties], None]
    update: Callable[[Api, Changed], Made] = _as_it_is
    fixed: frozenset[str] = frozenset()
    name: str = ""
    iam: bool = False


def must_not_exist(api: Api, service: str, operation: str, /, **parameters: Any) -> None:
    """Before calls that overwrite what is there: a stack must not take over what is not its own. Raises Refused."""
    try:
        api(service, operation, **parameters)
    except Refused as refused:
        if not refused.gone:
            raise
    else:
        name = next(iter(parameters.values()))
        raise Refused(f"Resource with identifier '{name}' already exists.", "AlreadyExists")


@contextmanager
def or_undone(undo: Callable[[], object]) -> Iterator[None]:
    """What was made before the block is undone if the block is refused: half a resource is none."""
    try:
        yield
    except Refused:
        undo()
        raise


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """Removes what may be gone already."""
    try:
        yield
    except Refused as refused:
        if not refused.gone:
            raise


def names(text: str) -> frozenset[str]:
    """A set of names out of a line of them."""
    return frozenset(text.split())
