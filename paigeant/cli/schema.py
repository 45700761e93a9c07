from __future__ import annotations

import click

from paigeant.cli.options import as_json
from paigeant.cli.output import print_json


@click.command()
@click.argument("what", type=click.Choice(["message", "routing-slip"]))
@as_json
def schema(what: str, as_json: bool) -> None:
    """Print the JSON Schema of a message, or of the routing slip in it."""
    del as_json  # it always is
    from paigeant.wire.message import PaigeantMessage
    from paigeant.wire.slip import RoutingSlip

    model = PaigeantMessage if what == "message" else RoutingSlip
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print_json(dialect | model.model_json_schema())
