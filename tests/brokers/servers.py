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

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
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
