"""What a run keeps: the result whole or not at all, and the end of the right log."""

import json

import pytest

from kennel.pipeline import execution, result


def test_result_is_written_whole_and_replaces_an_earlier_one(tmp_path):
    path = tmp_path / "result.json"
    result.write_json(path, {"a": 1})
    result.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_result_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "result.json"
    result.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        result.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_end_of_the_log_is_that_of_the_host_that_the_cause_names_without_progress(tmp_path):
    for host in (1, 2):
        lines = [f"line {number} of host {host}" for number in range(30)] + ["kennel-progress epoch=1/2 step=1/2"]
        (tmp_path / f"k-1-train-0.algo-{host}.log").write_text("\n".join(lines))
    named = execution.log_tail(tmp_path, {"job": "k-1-train-0", "cause": "algo-2 was killed by signal 9"})
    assert named == [f"line {number} of host 2" for number in range(15, 30)]
    assert execution.log_tail(tmp_path, {"job": "k-1-train-0", "cause": "no"})[-1] == "line 29 of host 1"


def test_failure_without_a_job_or_without_a_log_has_no_end_of_one(tmp_path):
    assert execution.log_tail(tmp_path, {"cause": "x"}) == []
    assert execution.log_tail(tmp_path, {"job": "k-1-t0", "cause": "x"}) == []
