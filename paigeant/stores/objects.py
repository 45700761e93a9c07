"""Large values as files in a directory, or as objects in an object store: any URL that fsspec supports."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from uuid import uuid4

from paigeant.errors import ConfigurationError, StoreError
from paigeant.runtime import private
from paigeant.runtime.urls import masked
from paigeant.wire.claim_check import Kept, Parcel


class Objects:
    """A :class:`~paigeant.wire.claim_check.Keeper` in the directory that a URL names, with a folder for each workflow.

    The path is derived from the hash of the workflow's id and the digest, so a message cannot name another file.

    Raises:
        ConfigurationError: no installed package supports such URLs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = _opened(url)
        self._is_local = "file" in _protocols(self._files)

    async def keep(self, parcels: Sequence[Parcel]) -> None:
        await asyncio.to_thread(self._keep, parcels)

    def _keep(self, parcels: Sequence[Parcel]) -> None:
        with self._trouble("write to"):
            for parcel in parcels:
                path = self._path(parcel.kept)
                if not self._files.exists(path):
                    self._write(path, parcel.data)

    def _write(self, path: str, data: bytes) -> None:
        """Write all or nothing, so that a reader never finds a part of a value after the writer died."""
        beside = f"{path}.{uuid4().hex}"
        if self._is_local:
            self._write_private(beside, data)
        else:
            self._files.makedirs(self._files._parent(path), exist_ok=True)
            self._files.pipe_file(beside, data)
        self._files.mv(beside, path)

    def _write_private(self, path: str, data: bytes) -> None:
        """Write a file that other users of this machine cannot read, unless the directory is shared with a group."""
        private.folder(self._root)
        private.folder(self._files._parent(path), shared_with=self._root)
        with private.create(path, "wb", shared_with=self._root) as file:
            file.write(data)

    async def fetch(self, kept: Collection[Kept]) -> Mapping[Kept, bytes]:
        return await asyncio.to_thread(lambda: {one: data for one in kept if (data := self._read(one)) is not None})

    def _read(self, kept: Kept) -> bytes | None:
        with self._trouble("read"):
            try:
                data: bytes = self._files.cat_file(self._path(kept))
            except FileNotFoundError:
                return None
            return data

    async def drop(self, workflows: Collection[str]) -> int:
        return await asyncio.to_thread(self._drop, workflows)

    def _drop(self, workflows: Collection[str]) -> int:
        dropped = 0
        with self._trouble("delete from"):
            there = self._names(self._root)
            for folder in there & {_folder(workflow) for workflow in workflows}:
                dropped += len(self._names(f"{self._root}/{folder}"))
                self._files.rm(f"{self._root}/{folder}", recursive=True)
        return dropped

    def _names(self, path: str) -> set[str]:
        """Return the names in a directory."""
        try:
            return {one.rstrip("/").rpartition("/")[2] for one in self._files.ls(path, detail=False, refresh=True)}
        except FileNotFoundError:
            return set()

    def _path(self, kept: Kept) -> str:
        return f"{self._root}/{_folder(kept.of)}/{kept.digest}"

    @contextmanager
    def _trouble(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system raises errors of its own
            text = f"cannot {what} {masked(self.url)}: {type(error).__name__}: {error}"
            raise StoreError(text, hint="see the setting PAIGEANT_CLAIM_CHECK") from error


def _folder(workflow: str) -> str:
    return sha256(workflow.encode()).hexdigest()[:32]


def _protocols(files: Any) -> tuple[str, ...]:
    """Return the schemes of the URLs that this file system of fsspec supports."""
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _opened(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path of the directory in it."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "values are kept outside the store with fsspec, which is not installed",
            hint='pip install "paigeant[objects]"',
        ) from error
    try:
        files, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"nothing here keeps values at {masked(url)!r}: {error}",
            hint="for example claim_check='file:///srv/values', or s3://bucket/values with s3fs installed",
        ) from error
    return files, root.rstrip("/")
