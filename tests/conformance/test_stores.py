"""All our stores pass the suite that paigeant gives to everyone."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant.store import Store
from paigeant.stores import open_store
from paigeant.testing.conformance import StoreConformance


class TestSqlite(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(f"sqlite:///{tmp_path / 'store.db'}")


class TestSqliteInMemory(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        return open_store("sqlite://")


class TestPostgresql(StoreConformance):
    @pytest.fixture
    def store(self, postgres_url: str) -> Store:
        return open_store(postgres_url)
