"""What a key of KMS asks of whoever encrypts or decrypts with it through another service. Pure."""

from __future__ import annotations

from kennel.local.iam.access import Access, Call


def uses(key: str, call: Call, *actions: str, via: str, context: dict[str, str] | None = None) -> list[Access]:
    """`actions` (`Decrypt`) on a key, asked for by the service `via`; nothing where there is no key."""
    if not key:
        return []
    by_service = {"kms:ViaService": f"{via}.{call.region}.amazonaws.com", "kms:CallerAccount": call.account}
    return [
        Access(action=f"kms:{action}", resource=key, context={**by_service, **(context or {})}) for action in actions
    ]


def grants(key: str, call: Call, *, via: str) -> list[Access]:
    """What lets a service hand a key on to the volumes that it makes."""
    for_resource = {"kms:GrantIsForAWSResource": "true"}
    return [
        *uses(key, call, "CreateGrant", via=via, context=for_resource),
        *uses(key, call, "DescribeKey", via=via),
    ]
