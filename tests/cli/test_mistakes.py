"""Each mistake a newcomer makes: within seconds, a few lines that say what to type, and its exit code."""

from __future__ import annotations

import pytest

from paigeant.cli.errors import explain
from paigeant.errors import InvalidArguments, TransportError

APP = "from paigeant import App\n"
MODULES = {
    "typo": "from onboarding import ap",
    "unmet": "import nothing_like_this",
    "broken": "def f(:",
    "leaves": "import sys\nsys.exit('no configuration')",
    "empty": "app = 'not an App'",
    "two": APP + "one, two = App('one'), App('two')",
    "twice": APP + "app = App('twice')\nfor _ in 'ab':\n    @app.activity(name='a')\n    def a(): ...",
    "unwritable": "from onboarding import app, validate\napp.dispatch(validate, variables={'x': [object()]})",
    "misspelt": APP + "app = App('misspelt', broker='reddis://localhost')\n@app.activity\ndef a(): ...",
    "keyless": "class UserError(Exception): ...\nraise UserError('Set the `OPENAI_API_KEY` environment variable')",
    "sent": "from onboarding import app, validate\napp.dispatch(validate.step(emial='a@b.c'))",
}
DISPATCH = ("dispatch", "-A", "onboarding", "validate")
GIVEN = ("--input", '{"email": "a@b.c"}')

MISTAKES = {
    # --- the App
    "no App named": (("worker",), 2, "add: -A"),
    "no such module": (("worker", "-A", "onbording"), 2, "did you mean: -A onboarding"),
    "a dot for a colon": (("worker", "-A", "onboarding.app"), 2, "-A onboarding:app"),
    "no such file": (("worker", "-A", "./nope.py"), 2, "there is no such file"),
    "its import fails": (("worker", "-A", "unmet"), 2, "unmet.py, line 1: No module named 'nothing_like_this'"),
    "its import misses a name": (("-A", "typo", "activities"), 2, "typo.py, line 1"),
    "its syntax is wrong": (("worker", "-A", "broken"), 2, "broken.py, line 1"),
    "it leaves": (("worker", "-A", "leaves"), 2, "SystemExit in leaves.py, line 2"),
    "its agent has no API key": (("worker", "-A", "keyless"), 2, "set OPENAI_API_KEY, or check the key only when"),
    "that key and the option": (("worker", "-A", "keyless"), 2, "Agent(..., defer_model_check=True)"),
    "no App in it": (("worker", "-A", "empty"), 2, "app = paigeant.App("),
    "two Apps in it": (("worker", "-A", "two"), 2, "-A two:one or -A two:two"),
    "no such App in it": (("worker", "-A", "two:three"), 2, "-A two:one or -A two:two"),
    "no App under that name": (("worker", "-A", "empty:app"), 2, "'app' is a str, not an App"),
    "two activities of one name": (("worker", "-A", "twice"), 2, "already has an activity 'a'"),
    "an argument without a parameter": (("worker", "-A", "sent"), 2, "did you mean 'email'?"),
    "an argument that is no JSON": (("worker", "-A", "unwritable"), 2, "cannot be written as JSON"),
    # --- the command
    "no such command": (("dispach",), 2, "did you mean 'dispatch'?"),
    "an App without -A": (("worker", "onboarding"), 2, "name the App with -A: paigeant worker -A onboarding"),
    "no such option": (("worker", "--onyl", "x"), 2, "--only"),
    "no such activity": (("execute", "-A", "onboarding", "validat"), 2, "did you mean 'validate'?"),
    "wrong argument": ((*DISPATCH, "--input", '{"emial": "a@b.c"}'), 2, "did you mean 'email'?"),
    "argument of a wrong type": ((*DISPATCH, "--input", '{"email": {}}'), 2, "argument 'email'"),
    "argument missing": (DISPATCH, 2, """--input '{"email": …}'"""),
    "input that is no JSON": ((*DISPATCH, "--input", "{email: a@b.c}"), 2, "--input is not JSON"),
    "input that is no object": ((*DISPATCH, "--input", "[1]"), 2, "it is [1]"),
    "input for a step that is not sent": ((*DISPATCH, "--input", "welcome:{}"), 2, "steps: validate"),
    "input from a missing file": ((*DISPATCH, "--input", "@nope.json"), 2, "nope.json"),
    "a time that is none": ((*DISPATCH, "--eta", "soon"), 2, "--eta 2030-01-31T09:00:00+01:00"),
    "a time without a zone": ((*DISPATCH, *GIVEN, "--eta", "2030-01-31T09:00:00"), 2, "eta has no time zone"),
    "no such workflow": (("workflow", "0199"), 3, "paigeant workflows"),
    "no such workflow to try again": (("retry", "0199"), 3, "paigeant workflows"),
    "no such workflow to approve": (("approve", "0199"), 3, "paigeant workflows"),
    "no such workflow to signal": (("signal", "0199", "word"), 3, "paigeant workflows"),
    # --- broker and store
    "a broker nobody knows": (("queues", "-b", "reddis://localhost"), 78, "redis://"),
    "an App's broker nobody knows": (("worker", "-A", "misspelt"), 78, "redis://"),
    "a store nobody knows": (("workflows", "--store", "mongodb://localhost"), 78, "sqlite://"),
    "broker down": (("queues", "-b", "amqp://127.0.0.1:1"), 69, "paigeant config"),
    "broker down, how to start one": (("queues", "-b", "amqp://127.0.0.1:1"), 69, "docker run -p 5672:5672 rabbitmq:4"),
    "broker down, how to name another": (
        ("queues", "-b", "amqp://127.0.0.1:1"),
        69,
        "name another with -b URL or PAIGEANT_BROKER_URL",
    ),
    "broker of a worker that does not wait": (
        ("worker", "-A", "onboarding", "-b", "amqp://127.0.0.1:1", "--no-wait"),
        69,
        "docker run -p 5672:5672 rabbitmq:4",
    ),
    "database server down": (("workflows", "-b", "postgresql://127.0.0.1:1/x"), 69, "paigeant config"),
    "database in a missing folder": (("workflows", "--store", "sqlite:////no/such/x.db"), 69, "mkdir -p /no/such"),
    "database is a folder": (("workflows", "--store", "sqlite:////proc"), 69, "it is a folder"),
    "database cannot be read": (("workflows", "--store", "sqlite:////proc/self/mem/x.db"), 69, ""),
    "not a database": (("workflows", "--store", "sqlite:///onboarding.py"), 69, "name another file"),
}


@pytest.mark.parametrize(("arguments", "code", "says"), MISTAKES.values(), ids=MISTAKES)
def test_is_explained(terminal, arguments: tuple[str, ...], code: int, says: str) -> None:
    """Nothing on standard output, at most six lines, the exit code of the table."""
    terminal.write(**MODULES)
    done = terminal.run(*arguments, code=code)
    assert done.stdout == ""
    assert done.stderr.count("Error: ") == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) <= 6


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("cannot use the store postgresql://h/x: permission denied for table workflows", "what may this user do"),
        ("cannot use the broker redis://h: OOM command not allowed when used memory > 'maxmemory'", "no room left"),
        ("cannot use the store sqlite:///x.db: database or disk is full", "no room left"),
        ("cannot use the broker redis://h: Timeout reading from socket", "did not answer in time"),
        ("cannot use the store sqlite:///x.db: attempt to write a readonly database", "can be read and not written"),
        ("cannot use the broker amqp://h: Connection refused", "is it running"),
        ("cannot use the broker amqp://h: something odd", "is this the right URL"),
    ],
)
def test_what_to_do_fits_what_happened(said: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what does not answer may not be running."""
    assert explain(TransportError(said)) == 69
    shown = capsys.readouterr().err
    assert advice in shown
    assert ("is it running" in shown) == (advice == "is it running")


@pytest.mark.parametrize("broker", ["amqp://127.0.0.1:1", "postgresql://127.0.0.1:1/x"])
def test_dispatching_to_a_broker_that_is_down(terminal, broker: str) -> None:
    """Only a worker waits for it."""
    done = terminal.run(*DISPATCH, "--input", '{"email": "a@b.c"}', code=69, PAIGEANT_BROKER_URL=broker)
    assert "127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) <= 6


def test_settings_that_are_wrong(terminal) -> None:
    """The setting is named, and where it can come from."""
    done = terminal.run("worker", "-A", "onboarding", code=78, PAIGEANT_CONCURRENCY="many")
    assert "concurrency" in done.stderr
    assert "PAIGEANT_" in done.stderr


@pytest.mark.parametrize("arguments", [("--traceback", "workflow", "x"), ("workflow", "x", "--traceback")])
def test_traceback_on_demand(terminal, arguments: tuple[str, ...]) -> None:
    """Before or after the command; the lines for people come last."""
    done = terminal.run(*arguments, code=3)
    assert "Traceback (most recent call last)" in done.stderr
    assert "Error: no workflow's id begins with 'x'" in done.stderr


def test_a_hint_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback shows it already; without one the lines for people do."""
    error = InvalidArguments("there is no step", hint="name one")
    for traceback in (True, False):
        assert explain(error, traceback=traceback) == 2
        shown = capsys.readouterr().err
        assert shown.count("name one") == 1
        assert "Error: there is no step" in shown


def test_passwords_are_not_shown(terminal) -> None:
    """An error names the broker, not how to get in."""
    done = terminal.run("workflows", "-b", "postgresql://ada:s3cret@127.0.0.1:1/x", code=69)
    assert "s3cret" not in done.stderr
    assert "ada:***@127.0.0.1" in done.stderr
