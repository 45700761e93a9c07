"""Two PostgreSQL roles for a test: one owns the tables, the other one only reads and writes rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "use-postgresql.md"


class Roles:
    """Roles with names of their own, made by the statements of the documentation."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, f"pgt_{uuid4().hex[:8]}"
        [block] = [one for one in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL) if "CREATE ROLE" in one]
        self._execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        self._execute(re.sub(r"paigeant_(owner|worker)", rf"{self.name}_\1", block))

    def of(self, role: str) -> str:
        """The URL with which ``owner`` or ``worker`` connects."""
        at = urlsplit(self.url)
        return urlunsplit(at._replace(netloc=f"{self.name}_{role}@{at.hostname}:{at.port or 5432}"))

    def drop(self) -> None:
        for role in ("owner", "worker"):
            self._execute(f"DROP OWNED BY {self.name}_{role}; DROP ROLE {self.name}_{role}")

    def _execute(self, statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as server:
            server.execute(statements)


@contextmanager
def made(url: str) -> Iterator[Roles]:
    """Roles that are dropped at the end."""
    roles = Roles(url)
    try:
        yield roles
    finally:
        roles.drop()
