"""Fixtures for the tests of activities."""

from __future__ import annotations

import pytest

from paigeant import App


@pytest.fixture
def app() -> App:
    """An App that never connects."""
    return App("unit", broker="memory://", store="none")
