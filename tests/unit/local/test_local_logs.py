"""Log files followed line by line, and lines as CloudWatch Logs takes them."""

import time

from botocore.exceptions import ClientError

from kennel.local.logs import LogWriter, Tail


def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def followed(path, *writes):
    lines = []
    path.touch()
    tail = Tail(path, lines.extend)
    with path.open("ab", buffering=0) as file:
        for write in writes:
            file.write(write)
    tail.finish()
    return lines


def test_complete_lines_arrive_while_the_file_grows(tmp_path):
    path, lines = tmp_path / "log", []
    path.touch()
    tail = Tail(path, lines.extend)
    with path.open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        until(lambda: lines == ["one"])
        file.write(b"o\n")
        until(lambda: lines == ["one", "two"])
    tail.finish()
    assert lines == ["one", "two"]


def test_what_is_left_at_the_end_is_a_line(tmp_path):
    assert followed(tmp_path / "log", b"one\n", b"rest") == ["one", "rest"]


def test_carriage_returns_end_lines_too(tmp_path):
    assert followed(tmp_path / "log", b"10 %\r20 %\rdone\r\nnext\n") == ["10 %", "20 %", "done", "next"]


def test_bytes_that_are_no_text_do_not_end_it(tmp_path):
    assert followed(tmp_path / "log", b"\xff\xfe\n", b"after\n") == ["\ufffd\ufffd", "after"]


def test_a_line_without_end_arrives_in_pieces(tmp_path):
    lines = followed(tmp_path / "log", b"x" * 1_000_000)
    assert "".join(lines) == "x" * 1_000_000
    assert max(len(line) for line in lines) < 200_000


def test_a_taker_that_fails_gets_the_next_lines(tmp_path, caplog):
    path, taken = tmp_path / "log", []

    def take(lines):
        if "bad" in lines:
            raise RuntimeError("on purpose")
        taken.extend(lines)

    path.touch()
    tail = Tail(path, take)
    with path.open("ab", buffering=0) as file:
        file.write(b"bad\n")
        until(lambda: "are lost" in caplog.text)
        file.write(b"good\n")
    tail.finish()
    assert taken == ["good"]


class FakeLogs:
    def __init__(self, refuse=(), groups=()):
        self.made, self.events, self.refuse, self.groups = [], [], dict(refuse), set(groups)

    def _maybe(self, operation):
        if operation in self.refuse:
            raise ClientError({"Error": {"Code": self.refuse[operation], "Message": "no"}}, operation)

    def create_log_group(self, *, logGroupName):
        self._maybe("group")
        self.made.append(logGroupName)
        self.groups.add(logGroupName)

    def create_log_stream(self, *, logGroupName, logStreamName):
        self._maybe("stream")
        if logGroupName not in self.groups:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no"}}, "stream")
        self.made.append(f"{logGroupName}:{logStreamName}")

    def put_log_events(self, *, logGroupName, logStreamName, logEvents):
        self._maybe("put")
        assert len(logEvents) <= 10_000
        assert all(0 < len(event["message"].encode()) <= 262_144 - 26 for event in logEvents)
        self.events += [event["message"] for event in logEvents]


def test_group_and_stream_are_made_once():
    logs = FakeLogs()
    writer = LogWriter(logs)
    writer.write("/g", "s", ["one"])
    writer.write("/g", "s", ["two"])
    assert (logs.made, logs.events) == (["/g", "/g:s"], ["one", "two"])


def test_a_stream_that_exists_is_used():
    logs = FakeLogs({"stream": "ResourceAlreadyExistsException"}, groups=["/g"])
    LogWriter(logs).write("/g", "s", ["one"])
    assert logs.events == ["one"]


def test_who_may_make_no_group_writes_to_one_that_exists_and_to_no_other(caplog):
    logs = FakeLogs({"group": "AccessDeniedException"}, groups=["/g"])
    LogWriter(logs).write("/g", "s", ["one"])
    LogWriter(logs).write("/other", "s", ["two"])
    assert logs.events == ["one"]
    assert "1 lines for /other s are lost" in caplog.text


def test_empty_and_endless_lines_become_what_the_service_takes():
    logs = FakeLogs()
    LogWriter(logs).write("/g", "s", ["", "é" * 300_000])
    assert logs.events[0] == " "
    assert "".join(logs.events[1:]) == "é" * 300_000


def test_a_refusal_is_logged_and_ends_nobody(caplog):
    LogWriter(FakeLogs({"put": "ThrottlingException"})).write("/g", "s", ["one", "two"])
    assert "2 lines for /g s are lost" in caplog.text


def test_many_lines_go_in_batches_and_in_order():
    logs = FakeLogs()
    LogWriter(logs).write("/g", "s", [str(number) for number in range(1_200)])
    assert logs.events == [str(number) for number in range(1_200)]
