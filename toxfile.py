"""Lets tox find the Pythons that pyenv keeps, not only the one that is selected; and do two things at a time."""

import os
import sys
from pathlib import Path

kept = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.*/bin"))
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, kept)])

if len(sys.argv) == 1:  # plain `tox`: half of the short environments' time is pip's, on one core
    os.environ.setdefault("TOX_PARALLEL", "2")
