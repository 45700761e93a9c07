"""An MCP server, over stdio or on a port. It writes down each call, and dies in the middle of the first ``risky``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mcp.server import MCPServer

LOG = Path(sys.argv[1])
server = MCPServer("shop")


def did(what: str) -> int:
    with LOG.open("a") as log:
        log.write(f"{what}\n")
    return LOG.read_text().splitlines().count(what)


@server.tool()
def charge(cents: int) -> dict[str, int]:
    """Charge somebody."""
    did(f"charge {cents}")
    return {"charged": cents}


@server.tool()
def risky() -> str:
    """Do something during which the server dies."""
    if did("risky") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


if __name__ == "__main__":
    if len(sys.argv) == 2:
        server.run(transport="stdio")
    else:
        server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[2]), stateless_http=True)
