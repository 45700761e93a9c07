"""Brokers of a test's own, on a loopback port: they may be killed, flushed and started again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from helpers import until

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Not the wrapper in ``/usr/sbin``: it changes the user and the folder."""


def free_port(count: int = 1) -> int:
    """The first of so many in a row.

    Below those that the system gives to whoever connects: the other tests do that all the time.
    """

    def found() -> int:
        first = random.randrange(20_000, 32_000)
        with suppress(OSError), ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
        return 0

    return until(found)


def answers(port: int) -> Callable[[], bool]:
    def connects() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    return connects


class Server(ABC):
    """A server process with a folder and a port that outlive it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _options(self) -> dict[str, Any]:
        """More for ``Popen``."""
        return {"cwd": self.folder}

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self._command(),
                **self._options(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._is_ready, 60)

    def kill(self) -> None:
        """With SIGKILL, and whatever it has started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()


class RedisServer(Server):
    """Redis that writes every command to its append-only file before it answers."""

    is_installed = shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        options = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder), "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "always"}
        return ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _is_ready(self) -> bool:
        import redis

        with redis.Redis(port=self.port, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def flush(self) -> None:
        import redis

        with redis.Redis(port=self.port, socket_timeout=5) as client:
            client.flushall()


class RabbitServer(Server):
    """RabbitMQ with a name, folders, ports and a port mapper of its own, and nothing but AMQP."""

    is_installed = RABBITMQ.exists()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.distribution, self.mapper = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        (folder / "plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text("log.file.level = warning\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def _command(self) -> list[str]:
        return [str(RABBITMQ)]

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "HOME": str(self.folder),  # the cookie of the node
            "RABBITMQ_NODENAME": f"paigeant-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "db"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "ERL_EPMD_PORT": str(self.mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # no shell between us and the server
        }

    def control(self, *command: str) -> str:
        """Run ``rabbitmqctl`` against this server; what it prints."""
        environment = self._environment() | {"RABBITMQ_CTL_ERL_ARGS": self._environment()["ERL_FLAGS"]}
        tool = [str(RABBITMQ.with_name("rabbitmqctl")), "--quiet", *command]
        how: dict[str, Any] = {"check": True, "capture_output": True, "text": True, "timeout": 60}
        return str(subprocess.run(tool, env=environment, cwd=self.folder, **how).stdout)

    def alarm(self, is_on: bool) -> None:
        """Its memory alarm: from now on the server reads nothing from connections that publish, or reads again."""
        self.control("set_vm_memory_high_watermark", "0.000001" if is_on else "0.8")

    def start(self) -> None:
        if self._epmd is None:  # else the server would start one that stays
            command = ["epmd", "-port", str(self.mapper), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            until(answers(self.mapper), 10)
        super().start()

    def _is_ready(self) -> bool:
        return answers(self.port)()

    def close(self) -> None:
        super().close()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait(10)


class PostgresServer(Server):
    """A cluster of PostgreSQL. Run by root, it belongs to the user ``postgres``: the server refuses root."""

    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))
    is_installed = (programs / "initdb").exists()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.home = Path(mkdtemp(prefix="paigeant-postgres-"))  # folders of pytest are closed to other users
        if os.geteuid() == 0:
            shutil.chown(self.home, "postgres", "postgres")
        options = {"pgdata": self._data, "username": "postgres", "auth": "trust", "encoding": "UTF8"}
        command = [
            str(self.programs / "initdb"),
            "--no-sync",
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        subprocess.run(
            command, **self._options(), env=self._environment(), check=True, capture_output=True, timeout=120
        )

    @property
    def _data(self) -> str:
        return str(self.home / "data")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _options(self) -> dict[str, Any]:
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        return {"cwd": self.home, **owner}

    def _command(self) -> list[str]:
        settings = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        settings |= {"fsync": "off", "max_connections": "200"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", self._data, *options]

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    def _is_ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """As a machine that loses its power, but for the files; what it left in memory goes with it."""
        super().kill()
        until(lambda: not answers(self.port)(), 20)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.home, ignore_errors=True)
