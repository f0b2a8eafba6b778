"""Ways to spoil what is deployed, one thing at a time, each with the rules that must see it.

`python -m kennel.pipeline.rules` is worth what this list proves: a rule that catches nothing here is no rule.
"""

from mutations import agreement, harmless, identity, network, parts, states, storage

MUTATIONS = [
    *identity.ROLES,
    *storage.STORAGE,
    *network.NETWORK,
    *parts.FUNCTION,
    *parts.MACHINE,
    *parts.INSTANCES,
    *parts.GENERAL,
    *states.JOBS,
    *states.TASKS,
    *states.STRUCTURE,
    *agreement.AGREEMENT,
]
HARMLESS = harmless.HARMLESS
