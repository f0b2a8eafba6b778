"""What Amazon States Language computes."""

import json

import pytest

from kennel.pipeline.plans.expressions import Scope, put, resolve, value_of

DATA = {
    "Name": "a",
    "Count": 2,
    "Table": {"x": "1", "y-z": [10, 20]},
    "Metrics": [{"MetricName": "loss", "Value": 0.5}, {"MetricName": "accuracy", "Value": 0.9}],
    "Text": '{"b":[1]}',
}
SCOPE = Scope(data=DATA, context={"Execution": {"Name": "run-1"}}, absent=lambda path: f"nothing at {path}")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("$", DATA),
        ("$.Table.x", "1"),
        ("$.Table['y-z'][1]", 20),
        ("$$.Execution.Name", "run-1"),
        ("$.Metrics[?(@.MetricName=='accuracy')].Value", [0.9]),
        ("States.ArrayGetItem($.Metrics[?(@.MetricName=='accuracy')].Value, 0)", 0.9),
        ("States.Format('{}-t{}', $$.Execution.Name, $.Count)", "run-1-t2"),
        (r"States.Format('it\'s {}', $.Name)", "it's a"),
        ("States.Format('{}', States.JsonToString($.Table.y-z))", "[10,20]"),
        ("States.JsonMerge($.Table, States.StringToJson($.Text), false)", {**DATA["Table"], "b": [1]}),
        ("States.MathAdd($.Count, -1)", 1),
        ("States.Array('a', 1, true, null, States.Array())", ["a", 1, True, None, []]),
        ("States.ArrayPartition(States.ArrayRange(1, 5, 2), 2)", [[1, 3], [5]]),
        ("States.ArrayUnique(States.Array(1, 1, 2))", [1, 2]),
        ("States.ArrayContains($.Table.y-z, 20)", True),
        ("States.ArrayLength($.Metrics)", 2),
        ("States.Base64Decode(States.Base64Encode('é'))", "é"),
        ("States.Hash('a', 'SHA-256')", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ("States.StringSplit('a.b-c', '.-')", ["a", "b", "c"]),
        ("$.Table.Missing", "nothing at $.Table.Missing"),
        ("$.Name.Inner", "nothing at $.Name.Inner"),
    ],
)
def test_paths_and_intrinsic_functions_have_the_values_that_step_functions_gives_them(expression, value):
    assert value_of(expression, SCOPE) == value


def test_a_template_is_resolved_at_every_depth_and_the_rest_stays():
    template = {"A.$": "$.Name", "B": [{"C.$": "$.Count", "D": "$.Name"}], "E": {"F": None}}
    assert resolve(template, SCOPE) == {"A": "a", "B": [{"C": 2, "D": "$.Name"}], "E": {"F": None}}


@pytest.mark.parametrize("wrong", ["States.Nothing($.Name)", "States.Format('{}'", "$.Name rest", "$.Name[*]"])
def test_what_is_not_known_is_refused_and_not_guessed(wrong):
    with pytest.raises(ValueError, match=r"known here|bracket|expression|too much"):
        value_of(wrong, SCOPE)


def test_putting_leaves_the_data_as_it_was():
    before = json.dumps(DATA)
    assert put(DATA, "$.Table.x", 5)["Table"] == {**DATA["Table"], "x": 5}
    assert put(DATA, "$.New.Deep", 5)["New"] == {"Deep": 5}
    assert put(DATA, "$", 5) == 5
    assert json.dumps(DATA) == before
