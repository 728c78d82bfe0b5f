"""The file of users."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from dashboards import PASSWORD

from node.__main__ import main
from node.errors import ConfigError
from node.web.users import make_user, matches, read_users


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
