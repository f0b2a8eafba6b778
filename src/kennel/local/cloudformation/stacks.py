"""CloudFormation's API: change sets are planned in the request, and executed in a thread, as on AWS.

Whoever executes a change set or deletes a stack gets an answer at once and follows the stack's status and events.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.deployment import Deployment
from kennel.local.cloudformation.intrinsics import resolve
from kennel.local.cloudformation.journal import Journal
from kennel.local.cloudformation.kinds import Kind
from kennel.local.cloudformation.plan import changes_to, scope_of
from kennel.local.cloudformation.records import ChangeSet, Stack
from kennel.local.cloudformation.requests import declared, given_values, in_full, refuse_unknown
from kennel.local.cloudformation.resources.table import KINDS
from kennel.local.cloudformation.steps import Steps
from kennel.local.cloudformation.template import MAX_BYTES, Template, invalid, load, template_of
from kennel.local.wire import Operation, ServiceError

LOG = logging.getLogger(__name__)

NO_CHANGES: Final = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)

_UPDATABLE: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")


class Stacks:
    """Stacks and change sets of one region."""

    def __init__(
        self,
        *,
        client: Callable[[str], Any],
        region: str,
        account: str,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        unique: Callable[[], str] = lambda: str(uuid.uuid4()),
        kinds: Mapping[str, Kind] = KINDS,
    ) -> None:
        """`client` makes boto3 clients of the local AWS, with which resources are made."""
        self._api = Api(client)
        self._region = region
        self._account = account
        self._unique = unique
        self._kinds = kinds
        self._lock = threading.RLock()
        self._journal = Journal(now=now, unique=unique, lock=self._lock)
        self._stacks: dict[str, Stack] = {}
        self._change_sets: dict[str, ChangeSet] = {}
        self._workers: list[threading.Thread] = []

    @property
    def operations(self) -> Mapping[str, Operation]:
        """The table for `wire.Service`."""
        return {
            "CreateChangeSet": self._create_change_set,
            "DescribeChangeSet": self._describe_change_set,
            "ListChangeSets": self._list_change_sets,
            "DeleteChangeSet": self._delete_change_set,
            "ExecuteChangeSet": self._execute_change_set,
            "ContinueUpdateRollback": self._continue_rollback,
            "DeleteStack": self._delete_stack,
            "DescribeStacks": self._describe_stacks,
            "ListStacks": self._list_stacks,
            "DescribeStackEvents": self._describe_events,
            "ListStackResources": self._list_resources,
            "DescribeStackResources": self._describe_resources,
            "DescribeStackResource": self._describe_resource,
            "GetTemplate": self._get_template,
            "GetTemplateSummary": self._get_summary,
            "ValidateTemplate": self._validate,
        }

    def close(self, seconds: float = 10.0) -> None:
        """Wait for what is being deployed, so that it does not go on against a server that is gone."""
        for worker in self._workers:
            worker.join(seconds)

    def _create_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        refuse_unknown("CreateChangeSet", params)
        name, kind = params["StackName"], params.get("ChangeSetType", "UPDATE")
        with self._lock:
            stack = self._open(name) if kind == "UPDATE" else self._stack_to_create(name, params["ChangeSetName"])
            taken = [
                c for c in self._change_sets.values() if c.stack_id == stack.id and c.name == params["ChangeSetName"]
            ]
            if taken:
                raise ServiceError("AlreadyExistsException", f"ChangeSet {params['ChangeSetName']} already exists")
            change_set = self._planned(stack, kind, params)
            self._change_sets[change_set.arn] = change_set
            if stack.id not in self._stacks:
                self._stacks[stack.id] = stack
                self._journal.stack(stack, "REVIEW_IN_PROGRESS", "User Initiated")
        return {"Id": change_set.arn, "StackId": stack.id}

    def _stack_to_create(self, name: str, change_set: str) -> Stack:
        existing = next((stack for stack in self._living() if name in (stack.name, stack.id)), None)
        if existing is None:
            arn = self._arn(f"stack/{name}/{self._unique()}")
            return Stack(id=arn, name=name, created=self._journal.now(), status="REVIEW_IN_PROGRESS")
        if existing.status != "REVIEW_IN_PROGRESS":
            raise invalid(
                f"Stack [{name}] already exists and cannot be created again with the changeSet [{change_set}]."
            )
        return existing

    def _planned(self, stack: Stack, kind: str, params: Mapping[str, Any]) -> ChangeSet:
        deployed = stack.deployed
        body = deployed.body if deployed and params.get("UsePreviousTemplate") else params.get("TemplateBody")
        if not body:
            raise invalid("Either Template URL or Template Body must be specified.")
        if len(body.encode()) > MAX_BYTES and "TemplateBody" in params:
            raise invalid(
                "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have "
                f"length less than or equal to {MAX_BYTES}"
            )
        given = given_values(params.get("Parameters", []), deployed.given if deployed else {})
        document = load(body)
        template = template_of(document, given, self._pseudo(stack))
        changes = changes_to(stack.resources, template, self._pseudo(stack), self._kinds)
        self._check_capabilities(template, params.get("Capabilities", []))
        tags = params.get("Tags", [])
        same = not changes and deployed is not None and self._outputs_as_they_are(stack, template)
        unchanged = same and deployed is not None and tags == deployed.tags
        return ChangeSet(
            arn=self._arn(f"changeSet/{params['ChangeSetName']}/{self._unique()}"),
            name=params["ChangeSetName"],
            type=kind,
            stack_id=stack.id,
            stack_name=stack.name,
            description=params.get("Description", ""),
            body=body,
            given=in_full(document, given),
            tags=tags,
            capabilities=params.get("Capabilities", []),
            template=template,
            changes=changes,
            time=self._journal.now(),
            reason=NO_CHANGES if unchanged else "",
        )

    def _outputs_as_they_are(self, stack: Stack, template: Template) -> bool:
        scope = scope_of(template, self._pseudo(stack), stack.resources.get, self._kinds)
        new = {key: str(resolve(output["Value"], scope)) for key, output in template.outputs.items()}
        return new == {output["OutputKey"]: output["OutputValue"] for output in stack.outputs}

    def _check_capabilities(self, template: Template, given: list[str]) -> None:
        iam = [resource for resource in template.resources.values() if self._kinds[resource.type].iam]
        named = any(resource.properties.get(self._kinds[resource.type].name) for resource in iam)
        enough = {"CAPABILITY_NAMED_IAM"} if named else {"CAPABILITY_NAMED_IAM", "CAPABILITY_IAM"}
        if iam and not enough & set(given):
            wanted = "CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"
            raise ServiceError("InsufficientCapabilitiesException", f"Requires capabilities : [{wanted}]")

    def _execute_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        refuse_unknown("ExecuteChangeSet", params)
        with self._lock:
            change_set = self._change_set(params)
            stack = self._stacks[change_set.stack_id]
            if change_set.execution_status != "AVAILABLE":
                raise ServiceError(
                    "InvalidChangeSetStatus",
                    f"ChangeSet [{change_set.arn}] cannot be executed in its current status of [{change_set.status}]",
                )
            self._check_idle(stack)
            executed = replace(change_set, executed="EXECUTE_COMPLETE")
            # the stack is another one afterwards: no other change set of it can be executed
            for other in [c for c in self._change_sets.values() if c.stack_id == stack.id and not c.reason]:
                self._change_sets[other.arn] = executed if other is change_set else replace(other, executed="OBSOLETE")
            self._journal.stack(stack, f"{change_set.type}_IN_PROGRESS", "User Initiated")
        deployment = self._deployment(stack)
        work = deployment.create if change_set.type == "CREATE" else deployment.update
        self._start(stack, lambda: work(executed))
        return {}

    def _continue_rollback(self, params: dict[str, Any]) -> dict[str, Any]:
        refuse_unknown("ContinueUpdateRollback", params)
        with self._lock:
            stack = self._find(params["StackName"])
            deployed = stack.deployed
            if stack.status != "UPDATE_ROLLBACK_FAILED" or deployed is None:
                raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be continued.")
            self._journal.stack(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        deployment = self._deployment(stack)
        self._start(stack, lambda: deployment.continue_rollback(deployed))
        return {}

    def _delete_stack(self, params: dict[str, Any]) -> dict[str, Any]:
        refuse_unknown("DeleteStack", params)
        with self._lock:
            stack = next((s for s in self._living() if params["StackName"] in (s.name, s.id)), None)
            if stack is None:
                return {}  # as on AWS: what is not there is deleted
            self._check_idle(stack)
            self._journal.stack(stack, "DELETE_IN_PROGRESS", "User Initiated")
            for arn in [c.arn for c in self._change_sets.values() if c.stack_id == stack.id]:
                del self._change_sets[arn]
        self._start(stack, self._deployment(stack).delete)
        return {}

    def _start(self, stack: Stack, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # a bug of ours: whoever waits for the stack must hear of it
                LOG.exception("deployment of %s", stack.name)
                doing = stack.status.partition("_")[0]
                self._journal.stack(stack, f"{doing}_FAILED", f"Internal Failure: {type(error).__name__}: {error}")

        worker = threading.Thread(target=run, name="CloudFormation", daemon=True)
        self._workers = [*(thread for thread in self._workers if thread.is_alive()), worker]
        worker.start()

    def _deployment(self, stack: Stack) -> Deployment:
        steps = Steps(
            stack=stack,
            journal=self._journal,
            api=self._api,
            kinds=self._kinds,
            pseudo=self._pseudo(stack),
            unique=self._end_of_name,
        )
        return Deployment(steps=steps)

    def _end_of_name(self) -> str:
        return self._unique().replace("-", "")[:12].upper()

    def _describe_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            return self._change_set(params).described()

    def _list_change_sets(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            stack = self._find(params["StackName"])
            return {"Summaries": [c.summary() for c in self._change_sets.values() if c.stack_id == stack.id]}

    def _delete_change_set(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            del self._change_sets[self._change_set(params).arn]
        return {}

    def _describe_stacks(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            found = [self._find(params["StackName"])] if params.get("StackName") else self._living()
            return {"Stacks": [stack.described() for stack in found]}

    def _list_stacks(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("StackStatusFilter")
        with self._lock:
            found = [s for s in self._stacks.values() if not wanted or s.status in wanted]
            return {"StackSummaries": [stack.summary() for stack in found]}

    def _describe_events(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            return {"StackEvents": self._find(params["StackName"], "Stack [{}] does not exist").events[::-1]}

    def _list_resources(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            stack = self._find(params["StackName"])
            return {"StackResourceSummaries": [resource.described() for resource in stack.resources.values()]}

    def _describe_resources(self, params: dict[str, Any]) -> dict[str, Any]:
        only = params.get("LogicalResourceId")
        with self._lock:
            stack = self._find(params["StackName"])
            of_stack = {"StackName": stack.name, "StackId": stack.id}
            found = [r for r in stack.resources.values() if only in (None, r.logical_id)]
            return {"StackResources": [{**of_stack, **resource.described()} for resource in found]}

    def _describe_resource(self, params: dict[str, Any]) -> dict[str, Any]:
        found = self._describe_resources(params)["StackResources"]
        if not found:
            name, stack = params["LogicalResourceId"], params["StackName"]
            raise invalid(f"Resource {name} does not exist for stack {stack}")
        return {"StackResourceDetail": found[0]}

    def _get_template(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            deployed = self._find(params["StackName"]).deployed
            return {"TemplateBody": deployed.body if deployed else "", "StagesAvailable": ["Original", "Processed"]}

    def _get_summary(self, params: dict[str, Any]) -> dict[str, Any]:
        body = params.get("TemplateBody") or self._get_template(params)["TemplateBody"]
        document = load(body)
        resources = document["Resources"].values()
        return {**declared(document), "ResourceTypes": sorted({resource["Type"] for resource in resources})}

    def _validate(self, params: dict[str, Any]) -> dict[str, Any]:
        return declared(load(params["TemplateBody"]))

    def _change_set(self, params: Mapping[str, Any]) -> ChangeSet:
        name, stack = params["ChangeSetName"], params.get("StackName")
        for change_set in self._change_sets.values():
            if name == change_set.arn or (
                name == change_set.name and stack in (change_set.stack_name, change_set.stack_id)
            ):
                return change_set
        raise ServiceError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", status=404)

    def _open(self, name: str) -> Stack:
        """The stack, if it can be updated."""
        stack = self._find(name)
        if stack.status not in _UPDATABLE:
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
        return stack

    def _check_idle(self, stack: Stack) -> None:
        if stack.busy:
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")

    def _find(self, name: str, missing: str = "Stack with id {} does not exist") -> Stack:
        for stack in self._living():
            if name in (stack.name, stack.id):
                return stack
        if name in self._stacks:  # deleted: found by its id for a while
            return self._stacks[name]
        raise invalid(missing.format(name))

    def _living(self) -> list[Stack]:
        return [stack for stack in self._stacks.values() if stack.status != "DELETE_COMPLETE"]

    def _pseudo(self, stack: Stack) -> dict[str, Any]:
        return {
            "AWS::AccountId": self._account,
            "AWS::NoValue": None,
            "AWS::NotificationARNs": [],
            "AWS::Partition": "aws",
            "AWS::Region": self._region,
            "AWS::StackId": stack.id,
            "AWS::StackName": stack.name,
            "AWS::URLSuffix": "amazonaws.com",
        }

    def _arn(self, resource: str) -> str:
        return f"arn:aws:cloudformation:{self._region}:{self._account}:{resource}"
