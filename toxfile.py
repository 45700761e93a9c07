"""Lets tox find the Pythons that pyenv keeps, not only the one that is selected."""

import os
from pathlib import Path

kept = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.*/bin"))
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, kept)])
