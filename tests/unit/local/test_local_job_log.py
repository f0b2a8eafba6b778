"""Metrics and failure reasons out of a job's log."""

import math
import os
import re

import pytest

from kennel import contract
from kennel.local.processes import Cause
from kennel.local.sagemaker.job_log import compiled, failure_reason, metrics
from kennel.local.wire import ServiceError


def test_every_match_is_a_metric_in_the_order_of_the_log():
    patterns = {"loss": re.compile(r"loss=([0-9.]+)"), "accuracy": re.compile(r"acc=([0-9.]+)")}
    lines = ["loss=2 acc=0.5", "nothing", "loss=1.5"]
    assert metrics(lines, patterns) == [("loss", 2.0), ("accuracy", 0.5), ("loss", 1.5)]


def test_a_regex_without_a_group_is_the_value_itself():
    assert metrics(["it is 42 now"], {"answer": re.compile(r"\d+")}) == [("answer", 42.0)]


@pytest.mark.parametrize(("regex", "line"), [(r"x=(\S+)", "x=many"), (r"x=(\d+)?", "x="), (r"x=(\S*)", "x=")])
def test_what_is_no_number_is_left_out(regex, line):
    assert metrics([line], {"x": re.compile(regex)}) == []


def test_our_own_regexes_read_our_own_lines():
    line = contract.metric_line(epoch=1, train_loss=0.5, validation_loss=math.nan, validation_accuracy=1e-7)
    names = ("train:loss", "validation:loss", "validation:accuracy")
    found = dict(metrics([line], {name: compiled(contract.metric_regex(name), name) for name in names}))
    assert found["train:loss"] == 0.5
    assert math.isnan(found["validation:loss"])
    assert found["validation:accuracy"] == 0.0


def test_a_regex_that_is_none_is_refused_by_its_metrics_name():
    with pytest.raises(ServiceError, match=r"MetricDefinition loss: invalid regex '\('") as caught:
        compiled("(", "loss")
    assert caught.value.code == "ValidationException"


@pytest.fixture
def base(tmp_path):
    (tmp_path / "output").mkdir()
    return tmp_path


def test_the_failure_file_comes_first(base):
    (base / "output/failure").write_text("  the reason\n")
    assert failure_reason(base, "algo-1", 137, ["last"]) == "AlgorithmError: the reason, exit code: 137"


def test_a_signal_comes_next(base):
    (base / "output/failure").write_text("\n")
    assert failure_reason(base, "algo-2", 139, []) == "AlgorithmError: algo-2 was killed by signal 11, exit code: 139"
    assert "out of memory?" in failure_reason(base, "algo-2", 137, [])


def test_a_cause_comes_before_everything_with_what_the_script_left(base):
    cause = Cause(what="was killed: out of memory; the limit is 8 GiB")
    assert failure_reason(base, "algo-1", 137, ["last"], cause) == (
        "AlgorithmError: algo-1 was killed: out of memory; the limit is 8 GiB, exit code: 137"
    )
    (base / "output/failure").write_text("MemoryError")
    assert "8 GiB; it left: MemoryError, exit code: 137" in failure_reason(base, "algo-1", 137, [], cause)


def test_what_is_not_the_scripts_fault_has_no_exit_code(base):
    cause = Cause(what="did not start: no image", fault="ClientError")
    assert failure_reason(base, "algo-1", 125, [], cause) == "ClientError: algo-1 did not start: no image"


def test_the_last_lines_stand_for_a_reason_that_was_not_left(base):
    reason = failure_reason(base, "algo-1", 1, ["Traceback", "ValueError: no"])
    assert reason == "AlgorithmError: algo-1 left no reason; its last lines:\nTraceback\nValueError: no, exit code: 1"


def test_a_failure_folder_is_no_reason(base):
    (base / "output/failure").mkdir()
    assert "left no reason" in failure_reason(base, "algo-1", 1, [])


def test_a_reason_is_not_read_through_a_link(base, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "failure").write_text("a secret of this machine")
    (base / "output/failure").symlink_to(elsewhere / "failure")
    assert "left no reason; its last lines:\nlast" in failure_reason(base, "algo-1", 1, ["last"])
    (base / "output/failure").unlink()
    (base / "output").rmdir()
    (base / "output").symlink_to(elsewhere)
    assert "left no reason; its last lines:\nlast" in failure_reason(base, "algo-1", 1, ["last"])


def test_a_pipe_is_no_reason_and_nobody_waits_for_one(base):
    os.mkfifo(base / "output/failure")
    assert "left no reason" in failure_reason(base, "algo-1", 1, [])


@pytest.mark.parametrize("written", [b"x" * 5_000, "é".encode() * 5_000, b"\xff" * 5_000])
def test_a_reason_has_at_most_1024_characters_and_keeps_the_exit_code(base, written):
    (base / "output/failure").write_bytes(written)
    reason = failure_reason(base, "algo-1", 3, [])
    assert len(reason) == 1024
    assert reason.endswith(", exit code: 3")
