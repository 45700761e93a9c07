from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from helpers import until

SOON = 8.0
"""Seconds in which a process that was told to hurry must have ended; far less than any timeout given here."""


def test_finishes_what_runs_on_the_first_signal(terminal) -> None:
    """One SIGTERM: the running step ends, the workflow is done, the exit code is 0."""
    workflow = terminal.dispatch("work", "slow", seconds=0.7)
    worker = terminal.start("worker", "-A", "work")
    terminal.wait_begun()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert terminal.status(workflow) == "completed"


def test_hands_back_at_once_on_the_second_signal(terminal) -> None:
    """SIGTERM twice, or Ctrl-C twice: nothing is lost, and the message is free for the next worker."""
    terminal.dispatch("work", "slow", seconds=60)
    worker = terminal.start("worker", "-A", "work", "--shutdown-timeout", "60")
    terminal.wait_begun()
    worker.send(signal.SIGINT)
    worker.wait_logged("finishing")
    worker.send(signal.SIGTERM)
    assert worker.wait(SOON) == 0
    assert terminal.depth("work.slow") == 1


def test_hands_back_after_the_shutdown_timeout(terminal) -> None:
    """One signal is enough when steps take longer than they may; a queued delivery goes back as well."""
    terminal.dispatch("work", "slow", seconds=60)
    terminal.dispatch("work", "slow", seconds=60)
    options = ("-c", "1", "--prefetch", "2", "--shutdown-timeout", "0.1")
    worker = terminal.start("worker", "-A", "work", *options)
    terminal.wait_begun()
    worker.send(signal.SIGTERM)
    assert worker.wait(SOON) == 0
    assert terminal.depth("work.slow") == 2


def test_does_not_wait_for_the_thread_of_a_plain_function(terminal) -> None:
    """A thread cannot be stopped: the process leaves it behind, but runs what was registered with atexit."""
    terminal.dispatch("work", "stuck", seconds=60)
    worker = terminal.start("worker", "-A", "work", "--shutdown-timeout", "0.1")
    terminal.wait_begun()
    worker.send(signal.SIGTERM)
    assert worker.wait(SOON) == 0
    assert (terminal.folder / "left").exists()


def test_ends_although_an_activity_blocks_the_event_loop(terminal) -> None:
    """Nothing can be handed back then: the lease will, and the exit code says so."""
    terminal.dispatch("work", "blocking", seconds=60)
    impatient = "import paigeant.cli.stopping as stopping; stopping.PATIENCE = 0.3"
    worker = terminal.start("worker", "-A", "work", "--shutdown-timeout", "0", before=impatient)
    terminal.wait_begun()
    worker.send(signal.SIGTERM)
    assert worker.wait(SOON) == 70
    assert "did not stop in time" in worker.log


def test_third_signal_drops_everything(terminal) -> None:
    """Whoever insists is obeyed."""
    terminal.dispatch("work", "blocking", seconds=60)
    worker = terminal.start("worker", "-A", "work", "--shutdown-timeout", "60")
    terminal.wait_begun()
    until(lambda: worker.send(signal.SIGTERM) or worker.process.poll() is not None, SOON)
    assert worker.wait(SOON) == 143


def test_stopped_while_loading_the_app(terminal) -> None:
    """Nothing is held yet, so there is nothing to wait for."""
    terminal.write(heavy="import time, pathlib; pathlib.Path('begun').touch(); time.sleep(60)")
    worker = terminal.start("worker", "-A", "heavy")
    terminal.wait_begun()
    worker.send(signal.SIGTERM)
    assert worker.wait(SOON) == 0


def test_burst_serves_what_is_there_and_ends(terminal) -> None:
    """Also with several processes, of which every one ends by itself."""
    workflows = [terminal.dispatch("work", "slow", seconds=0) for _ in range(3)]
    worker = terminal.start("worker", "-A", "work", "--burst", "-w", "2")
    assert worker.wait() == 0
    assert {terminal.status(workflow) for workflow in workflows} == {"completed"}


@pytest.mark.parametrize(
    "command",
    [("execute", "slow"), ("execute", "slow", "work"), ("worker", "--only", "slow"), ("worker", "-Q", "slow,none")],
)
def test_serves_a_part_of_the_app(terminal, command: tuple[str, ...]) -> None:
    """One activity by name, or one queue: the rest waits for other workers."""
    terminal.dispatch("work", "slow", seconds=0)
    terminal.dispatch("work", "stuck", seconds=0)
    terminal.run("-A", "work", *command, "--burst")
    assert (terminal.depth("work.slow"), terminal.depth("work.stuck")) == (0, 1)


# --- several processes -----------------------------------------------------------------------------------------------


def test_ctrl_c_reaches_the_supervisor_alone(terminal) -> None:
    """A terminal sends SIGINT to its whole process group; workers must not count it twice."""
    workflow = terminal.dispatch("work", "slow", seconds=1.5)
    worker = terminal.start("worker", "-A", "work", "-w", "2")
    terminal.wait_begun()
    os.killpg(worker.process.pid, signal.SIGINT)
    assert worker.wait() == 0
    assert terminal.status(workflow) == "completed"


def test_a_signal_to_all_processes_counts_once(terminal) -> None:
    """systemd sends SIGTERM to the supervisor and to each worker."""
    workflow = terminal.dispatch("work", "slow", seconds=2)
    worker = terminal.start("worker", "-A", "work", "-w", "2")
    worker.wait_ready(2)
    terminal.wait_begun()
    for pid in (worker.process.pid, *worker.workers):
        os.kill(pid, signal.SIGTERM)
    assert worker.wait() == 0
    assert terminal.status(workflow) == "completed"


def test_two_signals_to_the_supervisor_hand_back_at_once(terminal) -> None:
    """The second request is passed on like the first."""
    terminal.dispatch("work", "slow", seconds=60)
    worker = terminal.start("worker", "-A", "work", "-w", "2", "--shutdown-timeout", "60")
    terminal.wait_begun()
    worker.send(signal.SIGTERM)
    worker.wait_logged("finishing")
    worker.send(signal.SIGTERM)
    assert worker.wait(SOON) == 0
    assert terminal.depth("work.slow") == 1


def test_workers_end_when_their_supervisor_is_killed(terminal, is_alive: Callable[[int], bool]) -> None:
    """SIGKILL leaves no orphan that goes on serving; what it runs is finished."""
    workflow = terminal.dispatch("work", "slow", seconds=1)
    worker = terminal.start("worker", "-A", "work", "-w", "2")
    worker.wait_ready(2)
    terminal.wait_begun()
    worker.send(signal.SIGKILL)
    worker.wait()
    until(lambda: not any(map(is_alive, worker.workers)), 15)
    assert terminal.status(workflow) == "completed"


def test_a_worker_that_dies_is_replaced(terminal) -> None:
    """With a pause, and not when it never came up: then its exit code is the supervisor's."""
    worker = terminal.start("worker", "-A", "work", "-w", "2")
    worker.wait_ready(2)
    os.kill(worker.workers[0], signal.SIGKILL)
    worker.wait_ready(3)
    assert '"exit_code":137' in worker.log
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_what_cannot_come_up_is_not_tried_again(terminal) -> None:
    """One message, not one from each process."""
    failed = terminal.run("worker", "-A", "nothing", "-w", "4", code=2)
    assert failed.stderr.count("Error: ") == 1


def test_reload_serves_the_changed_code(terminal) -> None:
    """A mistake in between is waited out."""
    pytest.importorskip("watchfiles")
    worker = terminal.start("worker", "-A", "work", "--reload", "--log-format", "json")
    worker.wait_ready()
    module = terminal.folder / "work.py"
    source = module.read_text()
    module.write_text("oh no")
    worker.wait_logged("waiting for a change")
    module.write_text(source.replace('"slept"', '"dreamt"'))
    worker.wait_ready(2)
    workflow = terminal.dispatch("work", "slow", seconds=0)
    assert terminal.run("result", workflow, "--timeout", "20").stdout == '"dreamt"\n'
    worker.send(signal.SIGINT)
    assert worker.wait() == 0


def test_reload_without_watchfiles(terminal) -> None:
    """The message says what to install."""
    worker = terminal.start("worker", "-A", "work", "--reload", before="import sys; sys.modules['watchfiles'] = None")
    assert worker.wait() == 78
    assert 'pip install "paigeant[dev]"' in worker.log
