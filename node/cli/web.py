"""``ainode web``: the users of the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, load

if TYPE_CHECKING:
    from node.web.users import Role


@click.group()
def web() -> None:
    """Manage the users of the dashboard.

    `ainode run` serves it with [web] enabled.
    """


@web.command()
@config_option
@click.option("--role", type=click.Choice(["view", "operate"]), default="operate", show_default=True)
@click.option("--print", "only_print", is_flag=True, help="Print the line for the users file instead of writing it.")
@click.password_option(help="Prompted for when absent, which keeps it out of your shell history.")
@click.argument("name")
def password(*, config_path: Path, role: Role, only_print: bool, password: str, name: str) -> None:
    """Create a user or change a password; ends the user's sessions."""
    from node.web.users import make_user, users_path, write_user

    user = make_user(name, role, password)
    if only_print:
        echo(f"{user.name}:{user.role}:{user.password}")
        return
    config = load(config_path)
    path = users_path(config.web, config.storage.folder)
    write_user(path, user)
    echo(f"wrote user {name} with role {role} to {path}")
