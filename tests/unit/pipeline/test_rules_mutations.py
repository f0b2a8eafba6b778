"""Each way to spoil what is deployed is caught by the rules that it offends, and by no other."""

from collections import Counter

import pytest
from deployed import checked_in
from mutations import HARMLESS, MUTATIONS

from kennel.pipeline.rules import table


@pytest.mark.parametrize("mutation", [*MUTATIONS, *HARMLESS], ids=lambda mutation: mutation.name)
def test_mutation_is_caught_by_these_rules(mutation):
    spoiled = mutation.spoiled()
    assert spoiled != checked_in(), "a mutation that changes nothing proves nothing"
    found = table.findings(spoiled.template, spoiled.definition)
    assert {finding.rule for finding in found} == mutation.caught_by, found


@pytest.mark.parametrize("rule", table.names())
def test_rule_is_proven_by_a_mutation(rule):
    assert any(rule in mutation.caught_by for mutation in MUTATIONS)


def test_mutations_have_names_of_their_own_and_name_rules_that_exist():
    assert all(mutation.caught_by for mutation in MUTATIONS)
    assert max(Counter(mutation.name for mutation in MUTATIONS).values()) == 1
    assert {rule for mutation in MUTATIONS for rule in mutation.caught_by} <= set(table.names())
