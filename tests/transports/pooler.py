"""PgBouncer of a test's own, in transaction mode before the PostgreSQL of the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from brokers.servers import Server, answers

_SETTINGS = """
[databases]
* = host={host} port={port}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = trust
auth_file = users.txt
pool_mode = transaction
default_pool_size = {size}
"""


class PgBouncer(Server):
    """Its defaults but for the mode, and a pool so small that sessions change hands."""

    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    is_installed = Path(program).exists()

    def __init__(self, folder: Path, database: str, size: int = 2) -> None:
        super().__init__(folder)
        self.target = urlsplit(database)
        password = f" password={self.target.password}" if self.target.password else ""
        about = {"host": self.target.hostname, "port": self.target.port or 5432, "password": password}
        (folder / "users.txt").write_text(f'"{self.target.username}" ""\n')
        (folder / "bouncer.ini").write_text(_SETTINGS.format(**about, own=self.port, size=size))

    @property
    def url(self) -> str:
        return urlunsplit(self.target._replace(netloc=f"{self.target.username}@127.0.0.1:{self.port}"))

    def _command(self) -> list[str]:
        if os.getuid():
            return [self.program, "bouncer.ini"]
        return [self.program, "-u", "postgres", "bouncer.ini"]  # it does not run as root

    def _is_ready(self) -> bool:
        return answers(self.port)()
