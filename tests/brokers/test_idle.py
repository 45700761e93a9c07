"""What a process costs that does nothing, in each role and on each broker."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from helpers import until
from processes import Process, start

PROGRAM = Path(__file__).with_name("idle_program.py")
ROLES = ("dispatcher", "caller", "worker", "keeper")

SETTLING = 3.0
"""Seconds after which a process has nothing more to do with its start."""

WATCHED = 8.0
"""Seconds of which the CPU time is measured."""

MOST = 4.0
"""Percent of a core. On a quiet machine each role takes about one or less; here other tests take their share."""


@pytest.fixture(
    params=[
        "sqlite",
        "redis",
        "rabbitmq and postgres",
        *(pytest.param(more, marks=pytest.mark.endurance) for more in ("postgres", "redis and postgres", "rabbitmq")),
    ]
)
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Broker and store, each a URL; the store is ``none`` where the broker is alone."""
    broker, _, store = str(request.param).partition(" and ")
    first = f"sqlite:///{tmp_path}/paigeant.db" if broker == "sqlite" else request.getfixturevalue(f"{broker}_url")
    if store:
        return first, request.getfixturevalue(f"{store}_url")
    return first, "" if broker in ("sqlite", "postgres") else "none"


@contextmanager
def running(role: str, urls: tuple[str, str], prefix: str, folder: Path) -> Iterator[int]:
    """The process id of such a program, once it is ready."""
    output = folder / f"{role}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAIGEANT_")}
    environment |= {"PAIGEANT_BROKER_URL": urls[0], "IDLE_PREFIX": prefix}
    environment |= {"PAIGEANT_STORE_URL": urls[1]} if urls[1] else {}
    with output.open("wb") as file:
        process = start(str(PROGRAM), role, cwd=folder, env=environment, stdout=file)
    try:
        until(lambda: is_ready(process, output), 30)
        yield process.pid
    finally:
        process.kill()
        process.wait(10)


def is_ready(process: Process, output: Path) -> bool:
    assert process.poll() is None, output.read_text()
    return b"READY" in output.read_bytes()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, as the kernel has counted it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_does_nothing_costs_nothing(urls: tuple[str, str], prefix: str, tmp_path: Path) -> None:
    """All roles at once; none of them polls in a tight loop."""
    roles = [role for role in ROLES if urls[1] != "none" or role in ("dispatcher", "worker")]
    with ExitStack() as stack:
        pids = {role: stack.enter_context(running(role, urls, prefix, tmp_path)) for role in roles}
        time.sleep(SETTLING)
        before = {role: cpu_seconds(pid) for role, pid in pids.items()}
        time.sleep(WATCHED)
        used = {role: (cpu_seconds(pid) - before[role]) / WATCHED * 100 for role, pid in pids.items()}
    print(", ".join(f"{role} {percent:.2f} %" for role, percent in used.items()))
    assert {role: percent for role, percent in used.items() if percent > MOST} == {}
