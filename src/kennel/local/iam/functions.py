"""What Lambda's calls need. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.iam.access import Access, Call
from kennel.local.iam.facts import Facts

SERVICE = "lambda.amazonaws.com"

_ACTIONS: Mapping[str, str] = {
    "Invoke": "InvokeFunction",
    **{
        same: same
        for same in (
            "GetFunction",
            "GetFunctionConfiguration",
            "GetFunctionConcurrency",
            "GetProvisionedConcurrencyConfig",
            "GetAlias",
            "GetPolicy",
            "ListAliases",
            "ListVersionsByFunction",
            "ListProvisionedConcurrencyConfigs",
            "UpdateFunctionConfiguration",
            "UpdateFunctionCode",
            "PublishVersion",
            "CreateAlias",
            "UpdateAlias",
            "DeleteAlias",
            "PutFunctionConcurrency",
            "DeleteFunctionConcurrency",
            "PutProvisionedConcurrencyConfig",
            "DeleteProvisionedConcurrencyConfig",
        )
    },
}


def accesses(call: Call, _facts: Facts) -> list[Access] | None:
    """What the caller must be allowed; None for an operation that is not known here."""
    action = _ACTIONS.get(call.operation)
    if action is None:
        return None
    name = call.parameters["FunctionName"].rpartition("function:")[2]
    if qualifier := call.parameters.get("Qualifier"):
        name = f"{name.partition(':')[0]}:{qualifier}"
    function = call.arn("lambda", f"function:{name}")
    needed = [Access(action=f"lambda:{action}", resource=function)]
    if role := call.parameters.get("Role"):
        needed.append(Access(action="iam:PassRole", resource=role, context={"iam:PassedToService": SERVICE}))
    return needed
