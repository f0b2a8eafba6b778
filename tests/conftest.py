"""Puts this folder on the import path, and takes the option that writes goldens anew.

Modules here are shared by unit, integration and end-to-end tests.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write tests/goldens anew instead of comparing")
