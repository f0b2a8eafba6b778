from dataclasses import replace

import pytest

from kennel.local.function_code import FunctionVersion

VERSION = FunctionVersion(
    name="f", version="1", arn="a", handler="app.handler", runtime="python3.11", timeout=3, memory=128
)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "g"},
        {"version": "2"},
        {"handler": "app.other"},
        {"runtime": "python3.12"},
        {"timeout": 4},
        {"memory": 256},
        {"variables": {"A": "1"}},
        {"code": b"other"},
    ],
)
def test_a_change_that_a_process_would_notice_changes_the_fingerprint(change):
    assert replace(VERSION, **change).fingerprint != VERSION.fingerprint


def test_the_order_of_variables_and_the_name_it_was_called_by_do_not_change_the_fingerprint():
    one = replace(VERSION, variables={"A": "1", "B": "2"})
    assert replace(VERSION, variables={"B": "2", "A": "1"}, arn="a:live").fingerprint == one.fingerprint
