"""A server on this machine, for clients that speak HTTP."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent. The names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def form(self) -> dict[str, str]:
        """The parameters of a form. A parameter that is sent twice is an error of the client."""
        pairs = parse_qsl(self.body, keep_blank_values=True)
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a parameter is sent twice")
        return dict(pairs)

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password of HTTP's basic authentication."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return unquote_plus(user), unquote_plus(password)

    def __str__(self) -> str:
        return f"{self.target} {self.body}".strip()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answers."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        """A reply in JSON."""
        return cls(status, json.dumps(value), {"Content-Type": "application/json", **headers})


@contextmanager
def serving(handle: Callable[[Request], Reply]) -> Iterator[str]:
    """A server on a free port of this machine, with a thread for each connection; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = handle(Request(self.command, self.path, headers, self.rfile.read(length).decode()))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body.encode())

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(answer: Callable[[str], tuple[int, str]]) -> Iterator[tuple[str, list[str]]]:
    """A server whose answer is ``answer(body)``; its URL, and what it was asked."""
    asked: list[str] = []

    def handle(request: Request) -> Reply:
        asked.append(str(request))
        status, said = answer(request.body)
        return Reply(status, said, {"Content-Type": "application/json"} if said.startswith("{") else {})

    with serving(handle) as url:
        yield url, asked
