"""The working directory as a place of modules. Its modules never replace Python's own or an installed library.

The modules of an App are usually in the working directory, so it has to be on ``sys.path``. It is the last entry:
libraries are imported when they are first needed, and a file ``redis.py`` beside the App must not be imported instead.
"""

from __future__ import annotations

import filecmp
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from paigeant.errors import AppNotFound

OPTIONAL = frozenset(
    """
    azure bcrypt better_exceptions billiard boto3 botocore brotli brotlicffi colorama confluent_kafka consul etcd fsspec
    google greenlet gssapi h2 hiredis httpx kazoo logfire msgpack opentelemetry orjson pgmq psutil psycopg psycopg_c
    pycurl pymongo Pyro4 qpid redis rich socksio trio twisted ujson uvloop watchfiles xxhash yaml zstandard
    """.split()  # noqa: SIM905 - readable as text
)
"""Libraries that paigeant, kombu and pydantic-ai try to import, and do without if they are not installed."""


def append(folder: Path) -> None:
    """Let the modules of an App be imported from this folder, after the installed ones.

    Raises:
        AppNotFound: a file there would be imported instead of a library that is not installed.
    """
    if files := taking_a_librarys_place(folder):
        name, file = name_of(files[0]), files[0].relative_to(folder)
        raise AppNotFound(
            f"cannot load an App from {folder}: {file} would be imported as the library {name!r}, which is missing",
            hint=f"rename {file}, or install the library {name!r}",
        )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def inside(folder: Path, name: str) -> ModuleSpec | None:
    """Return the module or package of this name in a folder. A folder without ``__init__.py`` is none."""
    spec = PathFinder.find_spec(name, [str(folder)])
    return spec if spec is not None and spec.origin is not None else None


def outside(folder: Path, name: str) -> ModuleSpec | None:
    """Return the module of this name that Python finds without this folder: its own, or an installed one."""
    for finder in sys.meta_path:
        if finder is PathFinder:
            found = PathFinder.find_spec(name, [one for one in sys.path if Path(one or ".").resolve() != folder])
        else:
            found = finder.find_spec(name, None)
        if found is not None:
            return found if found.origin is not None else None
    return None


@dataclass(frozen=True, slots=True)
class Hidden:
    """A module of the working directory that is not imported, because another one has its name."""

    name: str
    file: Path
    other: str
    """The file that is imported instead, or a word for a module that is built into Python."""

    def __str__(self) -> str:
        what = "Python's own module" if self.name in sys.stdlib_module_names else self.other
        return f"{self.name!r} is {what}, not {os.path.relpath(self.file)}"


def hidden(folder: Path, name: str) -> Hidden | None:
    """Return the module of this name in a folder if another one, with other content, is imported instead of it."""
    here = inside(folder, name)
    other = outside(folder, name) if here is not None else None
    if here is None or other is None:
        return None
    found = Hidden(name, Path(str(here.origin)), str(other.origin))
    return None if _is_same(found) else found


def _is_same(found: Hidden) -> bool:
    """Whether both files have the same content, as those of an App that is installed from this folder."""
    try:
        return filecmp.cmp(found.file, found.other, shallow=False)
    except OSError:
        return False


def taking_a_librarys_place(folder: Path) -> list[Path]:
    """Return the files of a folder that would be imported instead of optional libraries that are not installed."""
    found = {name: spec for name in sorted(OPTIONAL) if (spec := inside(folder, name)) is not None}
    return [Path(str(spec.origin)) for name, spec in found.items() if outside(folder, name) is None]


def name_of(file: Path) -> str:
    """Return the name of the module or package that has this file."""
    return file.parent.name if file.stem == "__init__" else file.stem.partition(".")[0]


def names(folder: Path, most: int = 500) -> Iterator[str]:
    """Return the names of the modules and packages in a folder."""
    for path in sorted(folder.iterdir())[:most]:
        name = path.stem if path.suffix == ".py" else path.name
        if name.isidentifier() and (path.suffix == ".py" or (path / "__init__.py").is_file()):
            yield name


def import_path() -> dict[str, str]:
    """Return the variables with which another Python imports this paigeant, also from a tree that is not installed."""
    root = Path(__file__).parents[2]
    if root == Path(sysconfig.get_path("purelib")):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))}
