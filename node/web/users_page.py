"""The page of the users, for operators; an administrator adds, changes and removes users of the users file here."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import date
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.errors import ConfigError
from node.translation import gettext
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest, require
from node.web.users import ROLES, User, make_user, read_users, remove_user, users_path, write_user

_PASSWORD_BYTES = 12
"""Random bytes of a password that the node makes: 16 characters."""


def users(context: AppContext, user_request: UserRequest) -> Response:
    """Show who may log in."""
    require(user_request.user, "operate")
    return _page(context, user_request)


def add(context: AppContext, user_request: UserRequest) -> Response:
    """Add a user, or give one another role and password. The password is made here and shown once, on this answer."""
    form = user_request.form
    name, role = form.get("name", "").strip(), form.get("role", "")
    if role not in ROLES:
        raise HTTPException(400, gettext("There is no role {role!r}.", role=role))
    expires = _day(form.get("expires", ""))
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    with context.changing_users:
        try:
            user = replace(make_user(_other(user_request, name), role, password), expires=expires)
        except ConfigError as error:
            raise HTTPException(400, str(error)) from None
        _write(context, user)
    note(context, user_request, f"gave user {name} the role {role} and a new password")
    return _page(context, user_request, made=user, password=password)


def expire(context: AppContext, user_request: UserRequest) -> Response:
    """Set the last day of a user; an empty day: the user does not expire."""
    name = _other(user_request, user_request.request.path_params["name"])
    day = _day(user_request.form.get("expires", ""))
    with context.changing_users:
        _write(context, replace(_known(context, name), expires=day))
    note(context, user_request, f"set the last day of user {name} to {day or 'none'}")
    return RedirectResponse("/users", 303)


def remove(context: AppContext, user_request: UserRequest) -> Response:
    """Remove a user, whose sessions end at once."""
    name = _other(user_request, user_request.request.path_params["name"])
    with context.changing_users:
        _known(context, name)
        try:
            remove_user(_path(context), name)
        except OSError as error:
            raise _not_writable(context, error) from None
    note(context, user_request, f"removed user {name}")
    return RedirectResponse("/users", 303)


def _page(context: AppContext, user_request: UserRequest, made: User | None = None, password: str = "") -> Response:
    listed = sorted(read_users(_path(context)).values(), key=lambda user: user.name)
    proxied = bool(context.config.web.proxy_header)
    values = {"users": listed, "roles": ROLES, "proxied": proxied, "made": made, "password": password}
    return context.page("users.html", user_request, **values)


def _path(context: AppContext) -> Path:
    return users_path(context.config.web, context.config.storage.folder)


def _known(context: AppContext, name: str) -> User:
    user = read_users(_path(context)).get(name)
    if user is None:
        raise HTTPException(404, gettext("There is no user {name!r}.", name=name))
    return user


def _other(user_request: UserRequest, name: str) -> str:
    """Return the name. Raises ``HTTPException`` for the own one: the last administrator would lock everybody out."""
    if name == user_request.user.name:
        raise HTTPException(409, gettext("You cannot change yourself here; another administrator can."))
    return name


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise HTTPException(400, gettext("{chosen!r} is no day; write it as 2026-01-31.", chosen=text)) from None


def _write(context: AppContext, user: User) -> None:
    try:
        write_user(_path(context), user)
    except OSError as error:
        raise _not_writable(context, error) from None


def _not_writable(context: AppContext, error: OSError) -> HTTPException:
    path = _path(context)
    why = error.strerror or ""
    return HTTPException(409, gettext("The node may not write {path} ({why}); use `ainode web`.", path=path, why=why))
