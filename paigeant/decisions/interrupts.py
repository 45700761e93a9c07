"""Signals that an activity raises to end its attempt. They are not errors: ``except Exception`` does not catch them."""

from __future__ import annotations

from typing import Any

from paigeant.wire.join import Join
from paigeant.wire.times import bounded


class Interrupt(BaseException):
    """Base of what ends an attempt without being a failure."""


class Park(Interrupt):
    """The step waits for ``key``, at most ``seconds``, and holds neither a process nor a message meanwhile.

    When the step resumes, the activity runs from its beginning and finds the value that it waited for. ``detail``
    tells people what the step waits for.

    Activities call :meth:`ActivityContext.sleep` and its siblings, which raise this.

    Raises:
        InvalidArguments: ``seconds`` is no number, or more than a hundred years.
    """

    def __init__(self, key: str, seconds: float | None = None, detail: Any = None, join: Join | None = None) -> None:
        super().__init__(key)
        if seconds is not None:
            bounded("seconds", seconds)
        self.key = key
        self.seconds = seconds
        self.detail = detail
        self.join = join


class Retry(Interrupt):
    """Try the step again, ``after`` seconds from now; default: as its retry policy says.

    The reason is shown as the error of this attempt. ``counted=False`` does not use up an attempt of the policy.

    Raises:
        InvalidArguments: ``after`` is no number, or more than a hundred years.
    """

    def __init__(self, reason: str = "", *, after: float | None = None, counted: bool = True) -> None:
        super().__init__(reason)
        if after is not None:
            bounded("after", after)
        self.after = after
        self.counted = counted


class Terminate(Interrupt):
    """End the workflow here, successfully, with this output; the steps ahead are not run."""

    def __init__(self, output: Any = None) -> None:
        super().__init__("the workflow ends here")
        self.output = output
