"""``ainode web``: the users of the dashboard."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.errors import NotFoundError
from node.translation import gettext

if TYPE_CHECKING:
    from node.web.users import Role


@click.group()
def web() -> None:
    """Manage the users of the dashboard.

    `ainode run` serves it with [web] enabled.
    """


@web.command()
@config_option
@click.option("--role", type=click.Choice(["view", "read", "operate", "admin"]), default="operate", show_default=True)
@click.option("--print", "only_print", is_flag=True, help="Print the line for the users file instead of writing it.")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The last day on which the user may log in; absent: as before, or never.",
)
@click.password_option(help="Prompted for when absent, which keeps it out of your shell history.")
@click.argument("name")
@in_language_of_user
def password(
    *, config_path: Path, role: Role, only_print: bool, expires: datetime | None, password: str, name: str
) -> None:
    """Create a user or change a password; ends the user's sessions."""
    from node.web.users import make_user, read_users, write_user

    user = replace(make_user(name, role, password), expires=expires.date() if expires else None)
    if only_print:
        echo(user.line)
        return
    path = _users_path(config_path)
    known = read_users(path).get(name)
    if known is not None and expires is None:
        user = replace(user, expires=known.expires)
    write_user(path, user)
    echo(gettext("wrote user {name} with role {role} to {path}", name=name, role=role, path=path))


@web.command()
@config_option
@json_option
@in_language_of_user
def users(*, config_path: Path, as_json: bool) -> None:
    """List the users of the dashboard with role and last day."""
    from node.web.users import read_users

    listed = [
        {"name": user.name, "role": user.role, "expires": user.expires, "expired": user.is_expired}
        for user in read_users(_users_path(config_path)).values()
    ]
    if as_json:
        print_json(listed)
        return
    for user in listed:
        day = {"day": user["expires"]}
        until = gettext("expired after {day}", **day) if user["expired"] else gettext("until {day}", **day)
        until = until if user["expires"] else ""
        echo(f"{user['name']:24} {user['role']:8} {until}".rstrip())


@web.command()
@config_option
@click.argument("name")
@in_language_of_user
def remove(*, config_path: Path, name: str) -> None:
    """Remove a user and end the user's sessions."""
    from node.web.users import remove_user

    remove_user(_users_path(config_path), name)
    echo(gettext("removed user {name}", name=name))


@web.command()
@config_option
@click.argument("name")
@click.argument("day", type=click.DateTime(["%Y-%m-%d"]), required=False)
@in_language_of_user
def expire(*, config_path: Path, name: str, day: datetime | None) -> None:
    """Set the last day of a user.

    Without DAY the user does not expire.
    """
    from node.web.users import read_users, write_user

    path = _users_path(config_path)
    user = read_users(path).get(name)
    if user is None:
        raise NotFoundError(f"user {name!r} is not in {path}; `ainode web users` lists all")
    write_user(path, replace(user, expires=day.date() if day else None))
    if day:
        echo(gettext("user {name} expires after {day}", name=name, day=day.date()))
    else:
        echo(gettext("user {name} does not expire", name=name))


def _users_path(config_path: Path) -> Path:
    from node.web.users import users_path

    config = load(config_path)
    return users_path(config.web, config.storage.folder)
