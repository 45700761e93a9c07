"""Loads the App that ``-A`` names: ``module``, ``module:attr``, ``package`` or ``path/file.py``."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from paigeant.cli.errors import warn
from paigeant.cli.sources import defines_app
from paigeant.errors import AppNotFound, PaigeantError
from paigeant.runtime import beside
from paigeant.runtime.nearest import nearest

if TYPE_CHECKING:
    from paigeant.app import App


def load(target: str) -> App:
    """Load the App.

    Raises:
        AppNotFound: saying what is wrong and what would be right.
        PaigeantError: as the module itself raised it.
    """
    where, _, attribute = target.partition(":")
    if not where:
        raise AppNotFound(f"{target!r} does not name a module", hint="for example: -A onboarding, or -A onboarding:app")
    beside.append(Path.cwd())
    if _is_path(where):
        return _chosen(_from_file(Path(where)), where, attribute)
    with _Namesake(where):
        return _chosen(_from_name(where), where, attribute)


def candidates() -> list[str]:
    """Modules in the working directory that define an App, as far as can be seen without importing them."""
    files = sorted(Path.cwd().glob("*.py"))[:200]
    return [path.stem for path in files if path.stem.isidentifier() and defines_app(path.read_text(errors="replace"))]


# --- the module ------------------------------------------------------------------------------------------------------


def _is_path(where: str) -> bool:
    return where.endswith(".py") or os.sep in where


def _from_name(name: str) -> ModuleType:
    try:
        return _imported(name, name)
    except ModuleNotFoundError as error:
        raise AppNotFound(
            f"cannot load the App from {name!r}: there is no module {error.name!r} in {Path.cwd()} or on sys.path",
            hint=_instead(name),
        ) from error


def _instead(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    if module and _exists(module):
        return f"if {attribute!r} is the App in it: -A {module}:{attribute}"
    found = candidates()
    if near := nearest(name, found):
        return f"did you mean: -A {near}"
    if found:
        return f"this folder has: -A {found[0]}"
    return "change to the folder of the module, or name the file: -A path/to/file.py"


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _from_file(path: Path) -> ModuleType:
    """Import a file under the name it has in its package, so that its own imports work."""
    if path.is_dir():
        path = path / "__init__.py"
    if not path.is_file():
        text = f"cannot load the App from {str(path)!r}: there is no such file"
        raise AppNotFound(text, hint=f"the current folder is {Path.cwd()}")
    path = path.resolve()
    root = path.parent
    parts = [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    beside.append(root)
    if "." not in path.stem and _is_free(parts, root, path):
        return _imported(".".join(parts), str(path))
    return _executed(path, parts, root)


def _is_free(parts: Sequence[str], root: Path, path: Path) -> bool:
    """Whether a file can be imported under the name that it has in its package: no other module has this name."""
    found = sys.modules.get(".".join(parts))
    if found is not None:
        return getattr(found, "__file__", None) == str(path)
    other = beside.outside(root, parts[0])
    return other is None or other.origin in (str(root / parts[0] / "__init__.py"), str(path))


def _executed(path: Path, parts: Sequence[str], root: Path) -> ModuleType:
    """Execute a file, in its package, whose name another module has or that no module can have, under another name."""
    top = root / parts[0] / "__init__.py"
    is_packed = path.parent != root and "." not in path.stem
    name = f"paigeant_app_{re.sub(r'[^0-9A-Za-z_]', '_', parts[0] if is_packed else path.stem)}"
    _execute(name, top if is_packed else path)
    rest = parts[1:] if is_packed else ()
    return _imported(".".join((name, *rest)), str(path))


def _execute(name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AppNotFound(f"cannot load the App from {str(path)!r}: it is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    loader = spec.loader
    with _OwnFailures(name, str(path)):
        loader.exec_module(module)


def _imported(name: str, said: str) -> ModuleType:
    with _OwnFailures(name, said):
        return import_module(name)


class _OwnFailures:
    """Tells a module that does not exist from one whose own code fails."""

    def __init__(self, name: str, said: str) -> None:
        self.name, self.said = name, said

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _place: object) -> None:
        if error is None or isinstance(error, PaigeantError | KeyboardInterrupt | GeneratorExit):
            return
        if isinstance(error, ModuleNotFoundError) and self._is_missing(error.name):
            return
        text = error.msg if isinstance(error, SyntaxError) else "".join(str(error).splitlines()[:1])
        raise AppNotFound(
            f"cannot load the App from {self.said!r}: {type(error).__name__}{_place_of(error)}: {text}".rstrip(": "),
            hint=_key_hint(error) or self._where(),
        ) from error

    def _where(self) -> str:
        return f"see where: python -c 'import {self.name}'" if self.said == self.name else "see where: --traceback"

    def _is_missing(self, module: str | None) -> bool:
        return module is not None and (self.name == module or self.name.startswith(f"{module}."))


def _key_hint(error: BaseException) -> str | None:
    """What to do about an agent whose provider needs an API key that is not set."""
    needs = re.search(r"\b[A-Z][A-Z0-9_]*API_KEY\b", str(error))
    if needs is None:
        return None
    return f"set {needs[0]}, or check the key only when the agent runs: Agent(..., defer_model_check=True)"


def _place_of(error: BaseException) -> str:
    """Where in the user's code it happened."""
    if isinstance(error, SyntaxError):
        return f" in {_short(error.filename or '?')}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return f" in {_short(frames[-1].filename)}, line {frames[-1].lineno}" if frames else ""


def _is_users(filename: str) -> bool:
    ours, standard = str(Path(__file__).parents[1]), sysconfig.get_path("stdlib")
    return not filename.startswith(("<", ours, standard)) and "site-packages" not in filename


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


class _Namesake:
    """Says so if an installed module was imported although the working directory has one of the same name."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._hidden = beside.hidden(Path.cwd(), where.partition(".")[0])

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _place: object) -> None:
        if self._hidden is None:
            return
        if error is None:
            warn(f"{self._hidden}; to use the file: -A {self._as_file(self._hidden.file)}")
        elif isinstance(error, AppNotFound):
            text = f"cannot load the App from {self._where!r}: {self._hidden}"
            hint = f"name the file: -A {self._as_file(self._hidden.file)}, or rename it"
            raise AppNotFound(text, hint=hint) from error

    def _as_file(self, otherwise: Path) -> str:
        """What to type after -A for the module of the working directory."""
        path = Path(*self._where.split("."))
        found = next((one for one in (path.with_suffix(".py"), path) if one.exists()), otherwise)
        return f".{os.sep}{_short(str(found))}"


# --- the App in it ---------------------------------------------------------------------------------------------------


def _chosen(module: ModuleType, where: str, attribute: str) -> App:
    return _named(module, where, attribute) if attribute else _only(module, where)


def _named(module: ModuleType, where: str, attribute: str) -> App:
    from paigeant.runway.modules import app_of, apps_in
    from paigeant.wire.values import with_article

    value: object = module
    for part in attribute.split("."):
        value = getattr(value, part, None)
    if (app := app_of(value)) is not None:
        return app
    found = f"{attribute!r} is {with_article(type(value).__name__)}, not an App"
    problem = found if value is not None else f"it has no {attribute!r}"
    raise AppNotFound(f"cannot load the App from {where!r}: {problem}", hint=_choices(where, apps_in(module)))


def _only(module: ModuleType, where: str) -> App:
    from paigeant.runway.modules import app_of

    if (app := app_of(getattr(module, "app", None))) is not None:
        return app
    for apps in _places(module):
        if len(apps) == 1:
            return next(iter(apps.values()))
        if apps:
            text = f"{where!r} has {len(apps)} Apps: {', '.join(apps)}"
            raise AppNotFound(text, hint=_choices(where, apps))
    raise AppNotFound(
        f"there is no App in {where!r}: it does not define a paigeant.App",
        hint=_choices(where, {}),
    )


def _places(module: ModuleType) -> Iterator[dict[str, App]]:
    """The module itself; for a package also its module ``app``."""
    from paigeant.runway.modules import apps_in

    yield apps_in(module)
    if hasattr(module, "__path__") and _exists(f"{module.__name__}.app"):
        yield apps_in(_imported(f"{module.__name__}.app", f"{module.__name__}.app"))


def _choices(where: str, apps: dict[str, App]) -> str:
    if not apps:
        return 'define one in it: app = paigeant.App("name")'
    return "choose one: " + " or ".join(f"-A {where}:{name}" for name in apps)
