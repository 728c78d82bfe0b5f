"""A machine is invited and joins, over real TLS: once, in time, and from the machine that the token names."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from real_peers import free_port

from node.__main__ import main
from node.config import Fleet, parse
from node.config.table_text import with_values
from node.errors import ConfigError, InputError, PlatformError
from node.fleet import invitation as invitations
from node.fleet.authority import Authority, new_request, write_private
from node.fleet.file_client import new_client
from node.fleet.file_service import serving
from node.fleet.invitation import Invitation, inviting
from node.fleet.invitation_token import Token
from node.fleet.joining import accept

HOST, NEW = "127.0.0.1", "localhost"
CONFIG = """\
# of this hospital
[ae]
title = "AI"
[storage]
folder = "{folder}"
ledger_url = "postgresql://ainode@db.example/ainode"

[fleet]                # more machines
host = ""              # of this one
port = {port}
[web]
enabled = false
"""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture
def member(tmp_path: Path, authority: Authority) -> Fleet:
    """``[fleet]`` of a member that invites."""
    return _member(tmp_path, authority)


def _member(folder: Path, authority: Authority) -> Fleet:
    key, request = new_request(HOST)
    write_private(folder / "key", key)
    (folder / "pem").write_bytes(authority.sign(request, HOST))
    (folder / "ca").write_bytes(authority.pem)
    files = {"certificate": str(folder / "pem"), "key": str(folder / "key"), "ca": str(folder / "ca")}
    return Fleet(host=HOST, address=HOST, port=free_port(), **files)


class Inviter:
    """An invitation that waits, and what it has refused."""

    def __init__(self, invitation: Invitation, token: str, refusals: list[str]) -> None:
        self.invitation = invitation
        self.token = Token.parse(token)
        self.refusals = refusals

    def post(self, body: bytes, path: str = invitations.PATH) -> tuple[int, bytes]:
        context = ssl._create_unverified_context()  # noqa: S323 - the test is the attacker
        connection = http.client.HTTPSConnection(self.token.host, self.token.port, timeout=10.0, context=context)
        try:
            connection.request("POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def waiting(authority: Authority, member: Fleet, folder: Path, seconds: float = 60.0) -> Iterator[Inviter]:
    invitation, refusals = Invitation(authority, NEW, "# theirs\n", seconds), []
    with inviting(invitation, member, folder, free_port(), lambda _, reason: refusals.append(reason)) as token:
        yield Inviter(invitation, token, refusals)


def asked(secret: bytes, request: bytes) -> bytes:
    return json.dumps({"secret": secret.hex(), "request": request.decode()}).encode()


def test_two_commands_make_a_machine_a_member_and_both_machines_read_each_others_files(tmp_path: Path):
    first, second = tmp_path / "ai1" / "config.toml", tmp_path / "ai2" / "config.toml"
    storage = tmp_path / "storage"
    storage.mkdir()
    first.parent.mkdir()
    first.write_text(CONFIG.format(folder=storage, port=free_port()))
    begun = CliRunner().invoke(main, ["join", "--first", HOST, "--config", str(first)])
    assert begun.exit_code == 0, begun.output
    assert [stat.S_IMODE((first.parent / "fleet" / name).stat().st_mode) for name in ("ca.key", "machine.key")] == [
        0o600, 0o600,
    ]  # fmt: skip
    verb = [sys.executable, "-m", "node", "invite", NEW, "--config", first, "--port", str(free_port())]
    with subprocess.Popen(verb, stdout=subprocess.PIPE, text=True) as inviting:
        assert inviting.stdout is not None
        command = next(line.split() for line in inviting.stdout if line.startswith("  ainode join"))
        joined = CliRunner().invoke(main, [*command[1:], "--config", str(second), "--title", "AI2"])
        assert joined.exit_code == 0, joined.output
        assert f"{NEW} has joined, from 127.0.0.1" in inviting.stdout.read()
    assert inviting.returncode == 0
    assert f"{storage}" not in joined.output, "it is named and exists"
    assert "copy ~ainode/.pgpass" in joined.output
    assert not (second.parent / "fleet" / "ca.key").exists()
    assert second.read_text().startswith("# of this hospital\n")
    first_config, other = parse(first.read_text()), parse(second.read_text())
    assert (other.fleet.host, other.ae.title, other.storage) == (NEW, "AI2", first_config.storage)
    other = other.model_copy(update={"fleet": other.fleet.model_copy(update={"address": HOST, "port": free_port()})})
    (storage / "incoming").mkdir()
    (storage / "incoming" / "1.dcm").write_bytes(b"image")
    for server, client in ((first_config.fleet, other.fleet), (other.fleet, first_config.fleet)):
        with serving(server, storage) as url, new_client(client) as fetching:
            assert fetching.get(f"{url}/files/nothing").status_code == 404


def test_a_token_is_good_once_also_when_two_use_it_at_the_same_time(
    authority: Authority, member: Fleet, tmp_path: Path
):
    def outcome(_: int) -> str:
        try:
            return accept(inviter.token).host
        except InputError as error:
            return str(error)

    with waiting(authority, member, tmp_path) as inviter:
        with ThreadPoolExecutor(4) as threads:
            outcomes = sorted(threads.map(outcome, range(4)))
        assert [of == NEW for of in outcomes].count(True) == 1
        assert sum("used already" in of for of in outcomes) == 3
        with pytest.raises(InputError, match="used already"):
            accept(inviter.token)
    with pytest.raises(PlatformError, match="does not answer"):
        accept(inviter.token)


def test_an_expired_token_gets_nothing(authority: Authority, member: Fleet, tmp_path: Path):
    with waiting(authority, member, tmp_path, seconds=0.0) as inviter:
        with pytest.raises(InputError, match="expired"):
            accept(inviter.token)
        assert not inviter.invitation.closed.is_set()


def test_the_verb_ends_when_the_time_is_over(tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(folder=tmp_path, port=free_port()))
    assert CliRunner().invoke(main, ["join", "--first", HOST, "--config", str(config)]).exit_code == 0
    verb = ["invite", NEW, "--config", str(config), "--port", str(free_port()), "--minutes", "0.05"]
    ended = CliRunner().invoke(main, verb)
    assert ended.exit_code == 10
    assert "has not joined within" in ended.output


def test_nothing_is_sent_to_a_machine_with_another_certificate_though_the_authority_has_signed_it(
    authority: Authority, member: Fleet, tmp_path: Path
):
    """A member that listens at the address of the one that has invited, and would read the secret."""
    (tmp_path / "other").mkdir()
    other = _member(tmp_path / "other", authority)
    with waiting(authority, member, tmp_path) as inviter, waiting(authority, other, tmp_path / "other") as impostor:
        with pytest.raises(PlatformError, match="Nothing was sent"):
            accept(replace(inviter.token, port=impostor.token.port))
        assert (impostor.refusals, impostor.invitation.redeemed_by) == ([], "")
        assert accept(inviter.token).host == NEW


def test_requests_of_strangers_get_nothing_and_leave_the_invitation_as_it_is(
    authority: Authority, member: Fleet, tmp_path: Path
):
    _, request = new_request("x")
    large = rsa.generate_private_key(65537, 2048)
    rsa_request = (
        x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(large, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    with waiting(authority, member, tmp_path) as inviter:
        right = inviter.token.secret
        for body, status in (
            (asked(bytes(24), request), 403),
            (asked(b"", request), 403),
            (asked(right, b"-----BEGIN CERTIFICATE REQUEST-----"), 400),
            (asked(right, rsa_request), 400),
            (asked(right, request)[:-1], 400),
            (b"", 400),
            (b"[]", 400),
            (b"[" * 10_000, 400),
            (b'{"secret": 1, "request": 2}', 400),
            (bytes(1 << 20), 413),
        ):
            assert inviter.post(body)[0] == status, body[:80]
        assert inviter.post(asked(right, request), "/files/salt")[0] == 404
        assert len(inviter.refusals) == 10
        assert accept(inviter.token).host == NEW


def test_the_certificate_has_the_invited_name_whatever_is_asked_for(
    authority: Authority, member: Fleet, tmp_path: Path
):
    _, request = new_request("ai1.example.org")
    with waiting(authority, member, tmp_path) as inviter:
        _, answer = inviter.post(asked(inviter.token.secret, request))
    own = x509.load_pem_x509_certificate(json.loads(answer)["certificate"].encode())
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NEW]
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_secret_is_nowhere_once_the_token_is_made(authority: Authority, member: Fleet, tmp_path: Path):
    with waiting(authority, member, tmp_path) as inviter:
        secret = inviter.token.secret
        assert secret not in vars(inviter.invitation).values()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_second_invitation_does_not_share_the_port_of_the_first(authority: Authority, member: Fleet, tmp_path: Path):
    with waiting(authority, member, tmp_path) as inviter, ExitStack() as stack:
        another = Invitation(authority, NEW, "", 60.0)
        with pytest.raises(PlatformError, match="another invitation"):
            stack.enter_context(inviting(another, member, tmp_path, inviter.token.port, lambda *_: None))


def test_connections_of_another_address_that_send_nothing_keep_nobody_out(
    authority: Authority, member: Fleet, tmp_path: Path
):
    with waiting(authority, member, tmp_path) as inviter, ExitStack() as stack:
        there = (HOST, inviter.token.port)
        for _ in range(8):
            stack.enter_context(socket.create_connection(there, source_address=("127.0.0.2", 0)))
        assert accept(inviter.token).host == NEW


@given(st.text(max_size=80) | st.binary(max_size=200).map(lambda content: "ainode-" + content.hex()))
def test_no_other_text_is_a_token(text: str):
    with pytest.raises(InputError):
        Token.parse(text)


def test_a_token_with_a_slip_is_refused_before_anything_is_asked():
    text = Token(host="ai1.example.org", port=11115, fingerprint=bytes(32), secret=bytes(24)).text()
    assert Token.parse(f" {text}\n").host == "ai1.example.org"
    for number in range(len("ainode-"), len(text)):
        slip = text[:number] + ("B" if text[number] != "B" else "C") + text[number + 1 :]
        if slip[-1] != text[-1]:  # the last character has bits that mean nothing
            continue
        with pytest.raises(InputError):
            Token.parse(slip)
    with pytest.raises(InputError):
        Token.parse(text[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["join"], "give the TOKEN"),
        (["join", "ainode-x", "--first", "a"], "give the TOKEN"),
        (["join", "--first", "a b"], "no host name"),
        (["join", "--first", "a", "--config", "{sqlite}"], "share a PostgreSQL"),
        (["invite", "b", "--config", "{alone}"], "in no fleet"),
        (["invite", "-b", "--config", "{alone}"], "No such option"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(arguments: list[str], message: str, tmp_path: Path):
    (tmp_path / "alone").write_text(CONFIG.format(folder=tmp_path, port=1))
    (tmp_path / "sqlite").write_text('[storage]\nledger_url = ""\n')
    places = {name: str(tmp_path / name) for name in ("alone", "sqlite")}
    refused = CliRunner().invoke(main, [argument.format(**places) for argument in arguments])
    assert refused.exit_code == 2
    assert message in refused.output


def test_join_replaces_no_configuration_that_somebody_has_written(tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text("# mine\n")
    token = Token(host=HOST, port=free_port(), fingerprint=bytes(32), secret=bytes(24)).text()
    refused = CliRunner().invoke(main, ["join", token, "--config", str(config)])
    assert (refused.exit_code, config.read_text()) == (2, "# mine\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[a]\nb = "old"   # why\n[c]\n', '[a]\nb = "new"   # why\n[c]\n'),
        ("[c]\nd = 1\n", '[c]\nd = 1\n\n[a]\nb = "new"\n'),
        ("[a] # x\nc = 1\n", '[a] # x\nb = "new"\nc = 1\n'),
        ("[a]\nb = 'old#'\n[a.c]\nb = 2\n", '[a]\nb = "new"\n[a.c]\nb = 2\n'),
    ],
)
def test_a_value_of_a_table_is_replaced_in_its_place(before: str, after: str):
    assert with_values(before, "a", {"b": "new"}) == after
    assert tomllib.loads(after)["a"]["b"] == "new"


def test_a_table_that_cannot_be_changed_in_its_text_is_left_alone():
    for text in ('a = {b = "old"}\n', 'a.b = "old"\n', '[a]\nb = """\nold"""\n'):
        with pytest.raises(ConfigError, match="cannot be changed"):
            with_values(text, "a", {"b": "new"})


def test_join_says_what_the_new_machine_lacks_and_that_its_version_is_another(
    authority: Authority, member: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(invitations, "__version__", "0.9.0")
    text = CONFIG.format(folder=tmp_path, port=1).replace("[web]", '[ae.tls]\nca = "/nowhere/ca.pem"\n[web]')
    invitation = Invitation(authority, NEW, text, 60.0)
    with inviting(invitation, member, tmp_path, free_port(), lambda *_: None) as token:
        joined = CliRunner().invoke(main, ["join", token, "--config", str(tmp_path / "new" / "config.toml")])
    assert joined.exit_code == 0, joined.output
    assert "/nowhere/ca.pem is in config.toml and not on this machine" in joined.output
    assert "has version 0.9.0" in joined.output
