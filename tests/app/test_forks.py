"""Programs that fork after they used an App: gunicorn with --preload, multiprocessing, pools."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not hasattr(os, "fork"), reason="only where programs can fork")]

BEGIN = """
import json, logging, multiprocessing, os, signal, sys, threading, time
import structlog
from paigeant import App

signal.alarm(90)
broker, store, prefix = json.loads(sys.argv[1])
app = App("forks", broker, store, queue_prefix=prefix)

@app.activity
async def double(n: int) -> int:
    return 2 * n

def doubled(n):
    return app.dispatch(double.step(n=n)).result_sync(timeout=60)

def ended(child):
    assert os.waitpid(child, 0)[1] == 0, "the child failed"
"""

PRELOADED = """
assert doubled(1) == 2
child = os.fork()
if not child:
    assert [doubled(n) for n in (2, 3)] == [4, 6]
    grandchild = os.fork()
    if not grandchild:
        assert doubled(4) == 8
        sys.exit()  # the interpreter ends in good order, and destroys what it has
    ended(grandchild)
    assert doubled(5) == 10
    sys.exit()
assert doubled(6) == 12
ended(child)
assert doubled(7) == 14
"""

POOL = """
assert doubled(1) == 2
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(doubled, range(12)) == [2 * n for n in range(12)]
assert doubled(2) == 4
"""

AMID = """
stop, results, errors = threading.Event(), [], []

def work(first):
    n = first
    while not stop.is_set():
        try:
            results.append(doubled(n) == 2 * n)
        except Exception as error:
            errors.append(error)
        n += 10

threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for one in threads:
    one.start()
while len(results) < 3 and not errors:
    time.sleep(0.01)
for n in range(8):
    child = os.fork()
    if not child:
        assert doubled(n) == 2 * n
        os._exit(0)
    ended(child)
stop.set()
for one in threads:
    one.join()
assert all(results) and not errors, errors
"""

INHERITED = """
assert doubled(1) == 2
child = os.fork()
if not child:
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    names = [os.readlink(path) for path in paths if os.path.lexists(path)]
    os._exit(any(".db" in name for name in names))
ended(child)
"""

WITHIN_A_STEP = """
import asyncio
from paigeant import Worker

def leave(how):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "exits":
        sys.exit(7)
    if how == "raises":
        raise KeyError("meant for nobody")
    return -1

@app.activity
async def forks(how: str) -> int:
    return leave(how)

@app.activity
def forks_in_a_thread(how: str) -> int:
    return leave(how)

async def main():
    worker, ready = Worker(app), asyncio.Event()
    serving = asyncio.ensure_future(worker.run(ready.set))
    await ready.wait()
    for step in (forks, forks_in_a_thread):
        for how, code in {"exits": 7, "raises": 1, "returns": 0}.items():
            workflow = await app.dispatch(step.step(how=how))
            assert await workflow.result(timeout=60) == code, how
    worker.stop()
    await serving

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgres", "redis and sqlite", "rabbitmq and postgres"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[str | None]:
    """A broker, and a store where it is apart."""

    def url(name: str) -> str:
        return f"sqlite:///{tmp_path}/x.db" if name == "sqlite" else str(request.getfixturevalue(f"{name}_url"))

    broker, _, store = request.param.partition(" and ")
    return [url(broker), url(store) if store else None]


async def _run(source: str, urls: list[str | None], prefix: str, tmp_path: Path) -> None:
    """Run the program to its end; it must have nothing to complain about."""
    said = await _program(source, urls, prefix, tmp_path)
    for complaint in ("unreachable", "Exception", "Traceback", "could not", "locked", "superseded"):
        assert complaint not in said


async def _program(source: str, urls: list[str | None], prefix: str, tmp_path: Path) -> str:
    """Run the program to its end; it must succeed. What it said."""
    (tmp_path / "program.py").write_text(BEGIN + source)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "program.py", json.dumps([*urls, prefix])),
        cwd=tmp_path,
        stderr=asyncio.subprocess.STDOUT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.parametrize("program", [PRELOADED, POOL, AMID], ids=["preloaded", "pool", "amid"])
async def test_a_child_dispatches_and_waits_as_its_parent_does(
    urls: list[str | None], make_app: Any, running: Any, prefix: str, tmp_path: Path, program: str
):
    """And the parent notices nothing: not when the child works, and not when it ends."""
    app = make_app(*urls, queue_prefix=prefix)
    app.activity(name="double")(lambda n: 2 * n)
    async with running(app):
        await _run(program, urls, prefix, tmp_path)


async def test_a_child_of_a_step_ends_where_the_step_ends(prefix: str, tmp_path: Path):
    """It would go on as a second copy of the worker, with the worker's loop, threads and files."""
    said = await _program(WITHIN_A_STEP, [f"sqlite:///{tmp_path}/x.db", None], prefix, tmp_path)
    assert said.count("KeyError: 'meant for nobody'") == 2, said  # once for each step


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_child_inherits_no_open_file_of_sqlite(make_app: Any, running: Any, prefix: str, tmp_path: Path):
    """SQLite would take the parent's locks for the child's own, and not lock what the child opens."""
    urls = [f"sqlite:///{tmp_path}/x.db", None]
    app = make_app(*urls, queue_prefix=prefix)
    app.activity(name="double")(lambda n: 2 * n)
    async with running(app):
        await _run(INHERITED, urls, prefix, tmp_path)
