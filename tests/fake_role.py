"""A function's role that keeps what it is to write and to deliver."""


class FakeRole:
    def __init__(self, logged, delivered):
        self.credentials = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        self.logged = logged
        self.delivered = delivered

    def log(self, group, stream, lines):
        self.logged.append((group, stream, lines))

    def deliver(self, destination, record):
        self.delivered.append((destination, record))
