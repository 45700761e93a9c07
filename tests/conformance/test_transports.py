"""All our transports pass the suite that paigeant gives to everyone."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant.testing.conformance import KombuScratch, TransportConformance

LEASE = 1.5
"""Seconds. A live holder must be able to renew within it on a busy machine."""


class TestSqlite(TransportConformance):
    @pytest.fixture
    def scratch(self, tmp_path: Path, prefix: str) -> KombuScratch:
        return KombuScratch(f"sqlite:///{tmp_path / 'queue.db'}", prefix, LEASE)


class TestPostgresql(TransportConformance):
    @pytest.fixture
    def scratch(self, postgres_url: str, prefix: str) -> KombuScratch:
        return KombuScratch(postgres_url, prefix, LEASE)


class TestRabbitmq(TransportConformance):
    @pytest.fixture
    def scratch(self, rabbitmq_url: str, prefix: str) -> KombuScratch:
        return KombuScratch(rabbitmq_url, prefix, LEASE)


class TestRedis(TransportConformance):
    @pytest.fixture
    def scratch(self, redis_url: str, prefix: str) -> KombuScratch:
        return KombuScratch(redis_url, prefix, LEASE)


class TestMemory(TransportConformance):
    @pytest.fixture
    def scratch(self, prefix: str) -> KombuScratch:
        return KombuScratch("memory://", prefix, LEASE)
