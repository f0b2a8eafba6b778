"""kennel.pipeline.rules: what is checked in offends none, and no exception is there for nothing."""

from deployed import checked_in

from kennel.pipeline.rules import general, roles, table

MOST_STARRED = 15


def test_what_is_deployed_offends_no_rule():
    found = table.findings(checked_in().template, checked_in().definition)
    assert [f"{finding.rule}: {finding.fault}" for finding in found] == []


def test_few_actions_have_every_resource_and_each_says_why():
    assert len(roles.STARRED) <= MOST_STARRED
    assert all(roles.STARRED.values())
    assert all(reason for _, reason in roles.FOREIGN.values())


def test_every_exception_is_in_use():
    statements = list(checked_in().template.identity_statements())
    starred = {action for found in statements if "*" in found.resources for action in found.actions}
    assert starred == roles.STARRED.keys()
    for resource, (actions, _) in roles.FOREIGN.items():
        using = [found for found in statements if f"arn:${{AWS::Partition}}:{resource}" in found.resources]
        assert {action for found in using for action in found.actions} == set(actions), resource


def test_every_rule_has_a_name_of_its_own_and_a_reason():
    assert len(set(table.names())) == len(table.names())
    assert all(rule.__doc__ for rule in (*table.OF_TEMPLATE, *table.OF_DEFINITION, *table.OF_BOTH))


def test_every_resource_that_has_a_name_bears_the_stack_s():
    named = [found for found in checked_in().template.resources.values() if general.TYPES[found.type]]
    assert len(named) > len(checked_in().template.resources) / 2, "the rule on names would say little"
