"""The file of users."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from dashboards import PASSWORD, Dashboard, token

from node.__main__ import main
from node.errors import ConfigError, NotFoundError
from node.ledger.tables import notice
from node.web.users import make_user, matches, read_users, users_path, write_user


def test_the_verb_makes_a_user_whose_file_only_its_owner_reads(tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n')
    arguments = ["web", "password", "anna", "--role", "view", "--config", str(config), "--password", PASSWORD]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    path = tmp_path / "web-users"
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    anna = read_users(path)["anna"]
    assert (anna.role, matches(anna, PASSWORD), matches(anna, PASSWORD + "x")) == ("view", True, False)
    printed = CliRunner().invoke(main, [*arguments, "--print"]).output.strip()
    assert printed.startswith("anna:view:scrypt$")


@pytest.mark.parametrize(("name", "password"), [("a:b", PASSWORD), ("", PASSWORD), ("anna", "short")])
def test_a_user_that_cannot_be_is_refused(name: str, password: str):
    with pytest.raises(ConfigError):
        make_user(name, "view", password)


def test_a_spoilt_users_file_lets_nobody_in_and_names_the_line(tmp_path: Path):
    path = tmp_path / "users"
    path.write_text("# users\n\nanna:root:x\n")
    with pytest.raises(ConfigError, match="line 3"):
        read_users(path)


def verb(folder: Path, *arguments: str) -> str:
    config = folder / "config.toml"
    config.write_text(f'[storage]\nfolder = "{folder}"\n')
    done = CliRunner().invoke(main, ["web", *arguments, "--config", str(config)])
    return done.output if done.exit_code == 0 else f"{done.exit_code}"


def test_users_are_listed_expire_and_are_removed(tmp_path: Path):
    verb(tmp_path, "password", "anna", "--expires", "2020-02-29", "--password", PASSWORD)
    verb(tmp_path, "password", "vera", "--role", "view", "--password", PASSWORD)
    listed = verb(tmp_path, "users").splitlines()
    assert listed[0].split() == ["anna", "operate", "expired", "after", "2020-02-29"]
    assert listed[1].split() == ["vera", "view"]
    assert json.loads(verb(tmp_path, "users", "--json"))[0]["expires"] == "2020-02-29"
    assert PASSWORD not in "".join(listed)
    verb(tmp_path, "password", "anna", "--password", PASSWORD + "x")
    assert read_users(tmp_path / "web-users")["anna"].is_expired, "a new password does not lengthen the time"
    assert verb(tmp_path, "expire", "anna") == "user anna does not expire\n"
    assert not read_users(tmp_path / "web-users")["anna"].is_expired
    verb(tmp_path, "expire", "vera", "2999-01-01")
    verb(tmp_path, "remove", "anna")
    assert verb(tmp_path, "users").split() == ["vera", "view", "until", "2999-01-01"]
    assert verb(tmp_path, "remove", "anna") == verb(tmp_path, "expire", "anna") == str(NotFoundError.exit_code)
    assert (tmp_path / "web-users").stat().st_mode & 0o777 == 0o600


def test_a_last_day_that_is_no_day_lets_nobody_in_and_names_the_line(tmp_path: Path):
    path = tmp_path / "users"
    path.write_text("anna:view:x:soon\n")
    with pytest.raises(ConfigError, match="line 1: 'soon' is no day"):
        read_users(path)


@pytest.mark.thorough
def test_a_user_who_expires_is_out_at_once_and_cannot_log_in(dashboard: Dashboard):
    browser, operator = dashboard.browser("vera"), dashboard.browser("otto")
    assert browser.get("/").status_code == 200
    user = read_users(dashboard.users)["vera"]
    today = datetime.now(UTC).astimezone().date()
    write_user(dashboard.users, replace(user, expires=today))
    assert browser.get("/").status_code == 200, "the last day counts"
    assert "expired</span>" not in operator.get("/users").text
    assert browser.get("/users").status_code == 403
    write_user(dashboard.users, replace(user, expires=today - timedelta(days=1)))
    assert browser.get("/").headers["location"] == "/login"
    assert dashboard.log_in(browser, "vera", PASSWORD).status_code != 303
    assert "expired</span>" in operator.get("/users").text


@pytest.mark.thorough
def test_an_administrator_adds_expires_and_removes_users_who_log_in_with_the_password_shown_once(dashboard: Dashboard):
    users = users_path(dashboard.config.web, dashboard.config.storage.folder)
    write_user(users, make_user("ada", "admin", PASSWORD))
    ada = dashboard.browser("ada")
    csrf = {"csrf": token(ada)}
    made = ada.post("/users", data={**csrf, "name": "nina", "role": "read", "expires": "2999-12-31"})
    password = re.search(r"<code>([\w-]{16})</code><small>", made.text)
    assert password is not None
    nina = dashboard.browser()
    form = {"csrf": token(nina, "/login"), "name": "nina", "password": password[1]}
    assert nina.post("/login", data=form).status_code == 303
    assert "nina <small>read" in nina.get("/").text
    page = ada.get("/users").text
    assert "2999-12-31" in page
    assert password[1] not in page
    assert ada.post("/users/nina/expire", data={**csrf, "expires": "2020-01-31"}).status_code == 303
    assert nina.get("/").headers["location"] == "/login", "the session is over at once"
    assert ada.post("/users/nina/expire", data={**csrf, "expires": "soon"}).status_code == 400
    assert ada.post("/users/nina/remove", data=csrf).status_code == 303
    assert "nina" not in read_users(users)
    assert ada.post("/users/nina/remove", data=csrf).status_code == 404
    assert ada.post("/users", data={**csrf, "name": "../x", "role": "view"}).status_code == 400
    assert ada.post("/users", data={**csrf, "name": "nina", "role": "king"}).status_code == 400
    with dashboard.engine.connect() as connection:
        acts = connection.execute(sa.select(notice.c.who, notice.c.detail)).all()
    wanted = ["gave user nina the role read and a new password", "set the last day of user nina to 2020-01-31"]
    assert [detail for who, detail in acts if who == "ada" and "nina" in (detail or "")] == [
        *wanted, "removed user nina",
    ]  # fmt: skip


@pytest.mark.thorough
def test_nobody_but_an_administrator_changes_users_and_nobody_the_own_one(dashboard: Dashboard):
    users = users_path(dashboard.config.web, dashboard.config.storage.folder)
    write_user(users, make_user("ada", "admin", PASSWORD))
    before = users.read_text()
    for name in ("vera", "rita", "otto"):
        browser = dashboard.browser(name)
        csrf = {"csrf": token(browser)}
        assert browser.post("/users", data={**csrf, "name": name, "role": "admin"}).status_code == 403
        assert browser.post("/users/ada/remove", data=csrf).status_code == 403
        assert "Make a password" not in browser.get("/users").text
    ada = dashboard.browser("ada")
    csrf = {"csrf": token(ada)}
    assert ada.post("/users/ada/remove", data=csrf).status_code == 409
    assert ada.post("/users/ada/expire", data={**csrf, "expires": "2020-01-31"}).status_code == 409
    assert ada.post("/users", data={**csrf, "name": "ada", "role": "view"}).status_code == 409
    assert users.read_text() == before
    assert ada.post("/destinations/pacs", data={**csrf, "to": "pause"}).status_code == 303, "an operator too"
