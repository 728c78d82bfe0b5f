"""The file of users."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from dashboards import PASSWORD, Dashboard

from node.__main__ import main
from node.errors import ConfigError, NotFoundError
from node.web.users import make_user, matches, read_users, write_user


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
