"""``python -m paigeant``: the same as the command ``paigeant``."""

from __future__ import annotations

from paigeant.cli import main

if __name__ == "__main__":
    main()
