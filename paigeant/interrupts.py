"""What an activity raises to say how its step goes on. These are no errors: ``except Exception`` lets them pass."""

from __future__ import annotations

from typing import Any

from paigeant.join import Join


class Interrupt(BaseException):
    """Base of what ends an attempt without being a failure."""


class Park(Interrupt):
    """The step waits for ``key``, at most ``seconds``, and holds neither a process nor a message meanwhile.

    When it goes on, the activity runs from its beginning, and what it waited for is there. ``detail`` says for people
    what is waited for. Activities call :meth:`ActivityContext.sleep` and its siblings, which raise this.
    """

    def __init__(self, key: str, seconds: float | None = None, detail: Any = None, join: Join | None = None) -> None:
        super().__init__(key)
        self.key = key
        self.seconds = seconds
        self.detail = detail
        self.join = join


class Retry(Interrupt):
    """Try the step again, ``after`` seconds from now; default: as its retry policy says.

    The reason is shown as the error of this attempt. ``counted=False`` does not use up an attempt of the policy.
    """

    def __init__(self, reason: str = "", *, after: float | None = None, counted: bool = True) -> None:
        super().__init__(reason)
        self.after = after
        self.counted = counted


class Terminate(Interrupt):
    """End the workflow here, successfully, with this output; the steps ahead are not run."""

    def __init__(self, output: Any = None) -> None:
        super().__init__("the workflow ends here")
        self.output = output
