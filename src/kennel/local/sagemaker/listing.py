"""What all of SageMaker's List calls have in common: filters, order and pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kennel.local.wire import ServiceError

_DEFAULT_PAGE = 100


def listed(
    request: Mapping[str, Any], items: Iterable[Mapping[str, Any]], *, kind: str, keys: Iterable[str], answer: str
) -> dict[str, Any]:
    """The answer of a List call: one page of `items`, reduced to `keys`, under the name `answer`.

    Items carry `<kind>Name`, `CreationTime` and, where the request can ask for it, `<kind>Status` and
    `LastModifiedTime`. Newest first unless the request says otherwise.
    """
    name, status = f"{kind}Name", f"{kind}Status"
    found = [item for item in items if _wanted(request, item, name=name, status=status)]
    order = {"Name": name, "Status": status}.get(request.get("SortBy", ""), "CreationTime")
    found.sort(key=lambda item: item[order], reverse=request.get("SortOrder", "Descending") == "Descending")
    start = _offset(request.get("NextToken"))
    end = start + int(request.get("MaxResults", _DEFAULT_PAGE))
    page: dict[str, Any] = {answer: [{key: item[key] for key in keys if key in item} for item in found[start:end]]}
    return page | ({"NextToken": str(end)} if end < len(found) else {})


def _wanted(request: Mapping[str, Any], item: Mapping[str, Any], *, name: str, status: str) -> bool:
    if request.get("NameContains", "").lower() not in item[name].lower():
        return False
    if "StatusEquals" in request and item[status] != request["StatusEquals"]:
        return False
    for moment in ("CreationTime", "LastModifiedTime"):
        at = item.get(moment, item["CreationTime"]).timestamp()
        if not float(request.get(f"{moment}After", 0)) <= at <= float(request.get(f"{moment}Before", "inf")):
            return False
    return True


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    if not (token.isascii() and token.isdigit()):
        raise ServiceError("ValidationException", "The NextToken is not one of ours")
    return int(token)
