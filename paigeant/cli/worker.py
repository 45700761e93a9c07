from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from paigeant.cli.connect import named_app, settings_in_force, unknown
from paigeant.cli.options import Options, connections

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.config import Settings
    from paigeant.worker import Worker

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("auto", "console", "json")


_OPTIONS = (
    click.option(
        "-c",
        "--concurrency",
        type=click.IntRange(1),
        metavar="N",
        help="Maximum number of steps that a process runs at the same time.",
    ),
    click.option(
        "-w",
        "--processes",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Number of worker processes.",
    ),
    click.option(
        "--prefetch",
        type=click.IntRange(1),
        metavar="N",
        help="Maximum number of messages that a process claims. Default: automatic.",
    ),
    click.option("-Q", "--queues", multiple=True, metavar="QUEUE", help="Serve only this queue (repeatable)."),
    click.option(
        "--wait/--no-wait",
        "waits",
        default=True,
        help="Wait for a broker or store that is down, or exit with 69. Default: wait.",
    ),
    click.option("--burst", is_flag=True, help="Exit when the queues are empty."),
    click.option("--reload", is_flag=True, help="Restart when a .py file in this folder changes (for development)."),
    click.option(
        "--shutdown-timeout",
        type=click.FloatRange(0),
        metavar="SECONDS",
        help="Time for running steps to finish after the first SIGTERM or Ctrl-C.",
    ),
    click.option(
        "--health-port",
        type=click.IntRange(1, 65535),
        metavar="PORT",
        help="Serve /live and /ready over HTTP on this port. With -w, each process uses the next port.",
    ),
    click.option("--health-host", metavar="HOST", help="Address for --health-port. Default: 127.0.0.1."),
    click.option("--log-level", type=click.Choice(_LEVELS), help="Minimum log level."),
    click.option(
        "--log-format",
        type=click.Choice(_FORMATS),
        help="Log format. auto: console on a terminal, otherwise json.",
    ),
    click.option("--lifeline", type=int, hidden=True),
)
"""The options of `worker` and `execute`, in the order of the help text."""


def worker_options(command: F) -> F:
    """Add the options of `worker` and `execute`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.option("--only", multiple=True, metavar="ACTIVITY", help="Run only this activity (repeatable).")
@worker_options
@connections
def worker(only: tuple[str, ...], **options: Any) -> None:
    """Run a worker for an App until you stop it.

    After the first SIGTERM or Ctrl-C, running steps can finish within --shutdown-timeout, and the worker releases all
    other messages. After the second, it releases everything at once.
    """
    run(only, **options)


def run(
    only: Sequence[str],
    *,
    log_level: str | None,
    log_format: str | None,
    lifeline: int | None,
    or_only_candidate: bool = False,
    **options: Any,
) -> NoReturn:
    """Run a worker here, or a supervisor with workers of its own.

    ``or_only_candidate``: where no App is named, it is the one of the only module here that seems to have one.
    """
    settings = settings_in_force(log_level, log_format)
    from paigeant.cli.loading import candidates

    if or_only_candidate and settings.app is None and len(found := candidates()) == 1:
        settings = settings.model_copy(update={"app": found[0]})
    processes, reload = options.pop("processes"), options.pop("reload")
    said = {name: options.pop(name) for name in ("health_port", "health_host")}
    said["shutdown_timeout"] = options["shutdown_timeout"]
    settings = settings.model_copy(update={name: value for name, value in said.items() if value is not None})
    if lifeline is None and (processes > 1 or reload):
        _supervise(settings, processes, reload, burst=options["burst"])
    _serve(settings, only, lifeline, **options)


def _supervise(settings: Settings, processes: int, reload: bool, *, burst: bool) -> NoReturn:
    from paigeant.cli.supervisor import Supervisor, missing_watchfiles

    if reload and importlib.util.find_spec("watchfiles") is None:
        raise missing_watchfiles()
    supervisor = Supervisor(
        command=[sys.executable, "-m", "paigeant", *sys.argv[1:]],
        processes=processes,
        shutdown_timeout=settings.shutdown_timeout,
        burst=burst,
        watch=Path.cwd() if reload else None,
        health_port=settings.health_port,
    )
    sys.exit(asyncio.run(supervisor.run()))


def _serve(
    settings: Settings, only: Sequence[str], lifeline: int | None, *, queues: Sequence[str], **options: Any
) -> NoReturn:
    from paigeant.cli.serve import serve
    from paigeant.cli.stopping import Stopping

    stopping = Stopping(settings.shutdown_timeout, lifeline)
    stopping.listen()
    app = named_app(settings)
    if missing := [name for name in only if name not in app.activities]:
        raise unknown("activity", missing[0], list(app.activities))

    def make() -> Worker:
        from paigeant.worker import Worker
        from paigeant.worker.health import Health

        health = Health(settings.health_patience) if settings.health_port else None
        worker = Worker(app, only=only, queues=_full(app, queues), health=health, **options)
        stopping.shutdown_timeout = worker.shutdown_timeout
        return worker

    address = (settings.health_host, settings.health_port) if settings.health_port else None
    serve(make, stopping, address, traceback=Options.current().traceback)


def _full(app: App, queues: Sequence[str]) -> list[str]:
    """The full names of the queues; the options may omit the App's prefix."""
    from paigeant.dispatch.packing import queue_name

    names = [name for said in queues for name in said.split(",") if name]
    known = {app.queue_of(activity) for activity in app.activities.values()}
    return [full if (full := queue_name(app.prefix, name)) in known else name for name in names]
