"""``ainode recipes``: configurations for models of other people."""

from __future__ import annotations

from importlib.resources import files

import click

from node.cli.options import echo, json_option, print_json

_KIND = ".toml"


@click.command()
@json_option
@click.argument("name", required=False, default="")
def recipes(*, as_json: bool, name: str) -> None:
    """List configurations for well-known models, or print one.

    Each says its licence, the documents that it was written from, and what was not tried.
    """
    from node.config import suggest
    from node.errors import NotFoundError

    known = recipe_texts()
    if name and name not in known:
        raise NotFoundError(f"recipe {name!r} does not exist{suggest(name, known)}; known are {', '.join(known)}")
    if as_json:
        print_json(known[name] if name else [{"name": recipe, "about": _about(text)} for recipe, text in known.items()])
    elif name:
        echo(known[name].rstrip())
    else:
        for recipe, text in known.items():
            echo(f"{recipe:12} {_about(text)}")


def recipe_texts() -> dict[str, str]:
    """Every recipe by name, as it is printed."""
    folder = files("node") / "inference" / "recipes"
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(_KIND)), key=lambda entry: entry.name)
    return {entry.name.removesuffix(_KIND): entry.read_text(encoding="utf-8") for entry in entries}


def _about(text: str) -> str:
    """The first line."""
    return text.partition("\n")[0].removeprefix("# ")
