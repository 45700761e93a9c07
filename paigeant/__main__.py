"""``python -m paigeant``, and the program ``paigeant``. This module imports nothing that takes time."""

from __future__ import annotations

import os
import signal
import sys

_SERVING = ("worker", "execute")
"""Commands that a container runs as its first process, to which a signal without a handler means nothing."""


def main() -> None:
    """Run the command; one that serves can be told to stop from its first moment on, while it still imports."""
    if _command(sys.argv[1:]) in _SERVING:
        signal.signal(signal.SIGTERM, _end)
    from paigeant.cli import main as run

    run()


def _command(arguments: list[str]) -> str | None:
    """The first word that is neither an option nor the App that ``-A`` names."""
    words = iter(arguments)
    for word in words:
        if word in ("-A", "--app"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _end(_number: int, _frame: object) -> None:
    """Nothing is held so far."""
    os._exit(0)


def _trust_installed_first() -> None:
    """Move the working directory, which ``python -m`` puts first on the import path, behind the installed packages."""
    if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):  # noqa: PTH109 - pathlib takes time
        sys.path.append(sys.path.pop(0))


if __name__ == "__main__":
    _trust_installed_first()
    main()
