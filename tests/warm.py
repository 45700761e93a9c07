"""Where processes come from that need not import paigeant first: one that has done so, and forks (Linux).

``warm.py FILE`` takes requests from this open socket until its standard input ends. A request is a command as one
gives it to Python (``-m paigeant ...``, ``-c ...``, ``script.py ...``), an environment, a folder and three open
files. Its answers are the process id, and when the process has ended its exit code, as ``subprocess`` has it. If
nobody listens any more, the process is killed.

The process is one like any other, but for what is imported: it can be killed, stopped and forked again. It ends as
others do, with what was registered with ``atexit``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 4
"""Bytes of a number: the length of a request, and both answers."""

_NEVER = ("__main__", "demo", "pytest_plugin")


# --- those who ask -----------------------------------------------------------------------------------------------


def ask(
    name: str, command: Sequence[str], environment: Mapping[str, str], folder: str, files: Sequence[int]
) -> tuple[socket.socket, int]:
    """Start a process; where its exit code will be told, and its id."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"\0{name}")
    body = json.dumps({"command": [*command], "environment": {**environment}, "folder": folder}).encode()
    socket.send_fds(connection, [len(body).to_bytes(WIDTH, "big")], files)
    connection.sendall(body)
    return connection, number(connection)


def number(connection: socket.socket) -> int:
    """The next answer."""
    told = connection.recv(WIDTH, socket.MSG_WAITALL)
    if len(told) < WIDTH:
        raise EOFError("the process that forks has ended")
    return int.from_bytes(told, "big", signed=True)


def stand_in(name: str, *command: str) -> None:
    """Act as a program: start Python with this command, pass signals on and exit as the process exits."""
    connection, child = ask(name, [*command, *sys.argv[1:]], os.environ, os.getcwd(), (0, 1, 2))  # noqa: PTH109
    for passed_on in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(passed_on, lambda received, _: os.kill(child, received))
    code = number(connection)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


# --- the one that forks --------------------------------------------------------------------------------------------


def _import_all() -> None:
    import gc
    import pkgutil
    from importlib import import_module

    import paigeant

    for package in ("cli", "stores", "transports"):
        folder = os.path.join(*paigeant.__path__, package)  # noqa: PTH118
        for found in pkgutil.walk_packages([folder], f"paigeant.{package}."):
            if not found.name.endswith(_NEVER):
                import_module(found.name)
    for module in (
        "paigeant.worker",
        "paigeant.worker.health",
        "kombu.transport.pyamqp",
        "psycopg",
        "redis",
        "rich.table",
    ):
        import_module(module)
    gc.collect()
    gc.freeze()


def _serve(listener: socket.socket) -> dict[str, Any]:
    """Returns in each process that was asked for, with the request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        head, files, _, _ = socket.recv_fds(connection, WIDTH, 3)
        length = int.from_bytes(head, "big")
        request: dict[str, Any] = json.loads(connection.recv(length, socket.MSG_WAITALL))
        child = os.fork()
        if not child:
            connection.close()
            os.setpgid(0, 0)
            for target, file in enumerate(files):
                os.dup2(file, target)
                os.close(file)
            return request
        _watch(child, connection, files)


def _watch(child: int, connection: socket.socket, files: Sequence[int]) -> None:
    """Tell its id and how it ended."""
    os.setpgid(child, child)
    for file in (0, *files):
        os.close(file)
    connection.sendall(child.to_bytes(WIDTH, "big"))
    end = os.pidfd_open(child)
    readable, _, _ = select.select([end, connection], [], [])
    if end not in readable:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        connection.sendall(code.to_bytes(WIDTH, "big", signed=True))
    finally:
        os._exit(0)


def _run(command: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
    """What Python does with such a command."""
    import runpy

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    match command:
        case ["-m", module, *arguments]:
            sys.path.insert(0, folder)
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *arguments]:
            sys.path.insert(0, "")
            sys.argv = ["-c", *arguments]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case [script, *arguments]:
            sys.path.insert(0, os.path.dirname(os.path.abspath(script)))  # noqa: PTH100, PTH120
            sys.argv = [script, *arguments]
            runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)
    os.setsid()
    _import_all()
    _run(**_serve(socket.socket(fileno=int(sys.argv[1]))))
