from __future__ import annotations

from pathlib import Path

import click

from paigeant.cli.errors import WrongUsage

_STARTER = '''\
"""A workflow of two steps. README and tutorial take it from here."""

from paigeant import ActivityContext, App

app = App("{name}")


@app.activity
async def greet(name: str) -> str:
    """Say hello."""
    return f"Hello, {{name}}"


@app.activity
def shout(text: str, ctx: ActivityContext) -> str:
    """Say it louder; a parameter that is still open gets the output of the step before."""
    ctx.logger.info("shouting")
    return text.upper() + "!"


if __name__ == "__main__":
    workflow = app.dispatch(greet.step(name="Ada"), shout)
    print(workflow.result_sync(timeout=60))
'''


@click.command()
@click.argument("file", default="hello.py", type=click.Path(path_type=Path, dir_okay=False))
def init(file: Path) -> None:
    """Create a small example module, by default hello.py. The command never overwrites a file."""
    name = file.stem.replace("-", "_")
    if file.suffix != ".py" or not name.isidentifier():
        raise WrongUsage(f"{str(file)!r} cannot be a Python module", hint="for example: paigeant init hello.py")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(_STARTER.format(name=name))
    except FileExistsError:
        raise WrongUsage(f"{file} already exists: not overwritten", hint="paigeant init another.py") from None
    except OSError as error:
        raise WrongUsage(f"cannot write {file}: {error.strerror}") from error
    where = name if file.parent == Path() and name == file.stem else str(file)
    click.echo(f"Wrote {file}. Next, in two terminals:\n")
    click.echo(f"  paigeant worker -A {where}")
    click.echo(f"""  paigeant dispatch -A {where} greet shout --input '{{"name": "Ada"}}' --follow\n""")
    click.echo("Then look at it: paigeant workflows")
