"""``ainode invite`` and ``ainode join``: how a machine becomes a member of a fleet."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node import __version__
from node.cli.options import config_option, echo, load
from node.errors import ConfigError, OperatorError

if TYPE_CHECKING:
    from node.config import Config

PORT = 11115
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", re.ASCII)
_CONFIG = Path("/etc/ainode/config.toml")
_WAITING_SECONDS = 0.5


@click.command()
@config_option
@click.argument("host")
@click.option(
    "--minutes", type=click.FloatRange(0.05, 1440), default=60.0, show_default=True, help="How long the token is valid."
)
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Port to answer on.")
@click.option("--ca-key", type=click.Path(path_type=Path), help="Key of the fleet's authority.  [next to its ca]")
def invite(*, config_path: Path, host: str, minutes: float, port: int, ca_key: Path | None) -> None:
    """Invite a new machine into the fleet.

    Prints the command to run on the new machine and waits until that machine has joined or the time is over. Ctrl-C
    withdraws the invitation. The token can be used once. HOST is the name or address under which the other machines
    reach the new one. Run this as root on the machine that has the key of the fleet's authority.
    """
    from node.fleet.authority import Authority
    from node.fleet.invitation import Invitation, inviting

    config = _load_member(config_path)
    _check_host(host)
    if host.lower() == config.fleet.host.lower():
        raise ConfigError(f"{host} is this machine; give the name of the new one")
    ca = Path(config.fleet.ca)
    authority = Authority.read(ca, ca_key or ca.with_suffix(".key"))
    invitation = Invitation(authority, host, config_path.read_text(encoding="utf-8"), minutes * 60.0)

    def refused(address: str, reason: str) -> None:
        echo(f"refused {address}: {reason}", err=True)

    with inviting(invitation, config.fleet, config.storage.folder, port, refused) as token:
        echo(f"On {host}, within {minutes:g} minutes, as root:\n\n  ainode join {token}\n")
        echo(f"Waiting at {config.fleet.host}:{port}. Ctrl-C withdraws the invitation.")
        while invitation.seconds_left and not invitation.closed.wait(_WAITING_SECONDS):
            pass
    if not invitation.closed.is_set():
        raise OperatorError(f"{host} has not joined within {minutes:g} minutes; the token is not valid any more")
    echo(f"{host} has joined, from {invitation.redeemed_by}; `ainode fleet` lists it when its service has started")


@click.command()
@click.argument("token", required=False)
@click.option("--first", metavar="HOST", help="Start a fleet with this machine, which the others reach as HOST.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=_CONFIG, show_default=True,
    help="Configuration file to write.",
)  # fmt: skip
@click.option("--title", help="AE title of this machine.  [that of the inviting machine]")
@click.option("--storage", help="Storage folder of this machine.  [as on the inviting machine]")
@click.option("--install-units", "units", is_flag=True, help="Install the systemd units (as root).")
@click.option("--force", is_flag=True, help="Replace existing files.")
def join(*, token: str | None, first: str | None, config_path: Path, force: bool, **options: Any) -> None:
    """Join a fleet with the TOKEN of `ainode invite` on a member.

    Writes the member's config.toml with this machine's own [fleet]. The folder fleet next to it gets a new key,
    its certificate and the certificate of the fleet's authority. Existing files are replaced only with --force.

    --first HOST starts a new fleet with this machine: it gets an authority, whose key signs the certificates of the
    others, and its config.toml a filled-in [fleet].
    """
    if (token is None) == (first is None):
        raise click.UsageError("give the TOKEN of an invitation, or --first HOST for the first machine of a fleet")
    if first is not None:
        _begin(first, config_path, force=force)
    else:
        _accept(str(token), config_path, force=force, **options)


def _begin(host: str, config_path: Path, *, force: bool) -> None:
    """Make an authority and a certificate, and fill in ``[fleet]``."""
    from node.config.loader import read
    from node.fleet.authority import Authority, new_request, write_private

    _check_host(host)
    text, config = read(config_path), load(config_path)
    if not config.storage.ledger_url:
        raise ConfigError("[storage] ledger_url is empty: the machines of a fleet share a PostgreSQL; name it there")
    if config.fleet.host and not force:
        raise ConfigError(
            f"[fleet] host is {config.fleet.host}: this machine is in a fleet; invite others with `ainode invite`"
        )
    folder = _fleet_folder(config_path, force=force)
    authority, (key, request) = Authority.make(), new_request(host)
    certificate = authority.sign(request, host)
    changed = _with_fleet(text, host, folder)
    write_private(folder / "ca.key", authority.key_pem)
    _write_member(folder, key, certificate, authority.pem)
    _write_config(config_path, changed)
    echo(f"wrote {folder}/machine.key, machine.pem, ca.pem, and ca.key, which signs the certificates of the fleet")
    echo(f"  keep a copy of {folder}/ca.key in a safe place; only root can read it")
    echo(f"wrote [fleet] of {config_path}")
    echo("Then: ainode check, restart the service, and `ainode invite HOST` for each further machine")
    if config.storage.copies == 1:
        echo("  with copies = 2 in [storage], an image is on two machines before it is acknowledged")


def _accept(token: str, config_path: Path, *, title: str | None, storage: str | None, units: bool, force: bool) -> None:
    from node.config import parse
    from node.config.table_text import with_values
    from node.fleet.invitation_token import Token
    from node.fleet.joining import accept
    from node.init.files import SYSTEMD, install_units, keep_edited, reachable_by_units

    invited = Token.parse(token)
    if not force:
        keep_edited(config_path)
    folder = _fleet_folder(config_path, force=force)
    admission = accept(invited)
    text = _with_fleet(admission.config, admission.host, folder)
    for table, key, value in (("ae", "title", title), ("storage", "folder", storage)):
        text = with_values(text, table, {key: value}) if value is not None else text
    config = parse(text, str(config_path))
    if units:
        reachable_by_units(config_path, config.storage.folder)
    _write_member(folder, admission.key, admission.certificate, admission.ca)
    _write_config(config_path, text)
    echo(f"wrote {folder}/machine.key, machine.pem and ca.pem, for {admission.host}")
    echo(f"wrote {config_path}, as on {invited.host} but for [fleet]")
    for done in install_units(SYSTEMD, config_path, config.storage.folder, config.ae.port) if units else ():
        echo(done)
    for line in _differences(config, text, invited.host):
        echo(f"  {line}")
    if admission.version != __version__:
        echo(f"  {invited.host} has version {admission.version}, this machine {__version__}; install the same one")
    echo("Then: ainode check, and start the service")


def _differences(config: Config, text: str, host: str) -> list[str]:
    """Return what must be the same on the new machine and is not in the file."""
    import tomllib

    from sqlalchemy import make_url

    own = str(config.storage.folder)
    absent = [path for path in _paths(tomllib.loads(text)) if path != own and not Path(path).exists()]
    lines = [f"{path} is in config.toml and not on this machine; copy it from {host}" for path in dict.fromkeys(absent)]
    url = make_url(config.storage.ledger_url) if config.storage.ledger_url else None
    if url is not None and url.password is None and "passfile" not in url.query:
        lines.append(f"the ledger's password is not in the file; where it needs one, copy ~ainode/.pgpass from {host}")
    if any(destination.deidentify for destination in config.destinations.values()) and not config.deidentify.key_file:
        lines.append(
            f"pseudonyms need one key in the whole fleet: copy deidentify-key from the storage folder of {host} into "
            "that of this machine before the service starts"
        )
    return lines


def _paths(value: Any) -> list[str]:
    """Absolute paths among the values of the file."""
    if isinstance(value, dict):
        return [path for inner in value.values() for path in _paths(inner)]
    if isinstance(value, list):
        return [path for inner in value for path in _paths(inner)]
    return [value] if isinstance(value, str) and value.startswith("/") else []


def _load_member(config_path: Path) -> Config:
    config = load(config_path)
    if not config.fleet.host:
        raise ConfigError("[fleet] host is empty: this machine is in no fleet; `ainode join --first HOST` begins one")
    return config


def _check_host(host: str) -> None:
    """Raise ``ConfigError`` unless it is a host name or an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if len(host) > 253 or not _HOST.fullmatch(host):
            raise ConfigError(f"{host!r} is no host name and no address") from None


def _fleet_folder(config_path: Path, *, force: bool) -> Path:
    """Return the folder for key and certificates. Raises ``ConfigError`` when they are there already."""
    folder = config_path.absolute().parent / "fleet"
    for name in ("machine.key", "ca.key"):
        if (folder / name).exists() and not force:
            raise ConfigError(f"{folder / name} exists; use --force to replace it, or another --config")
    return folder


def _with_fleet(text: str, host: str, folder: Path) -> str:
    from node.config.table_text import with_values

    files = {"certificate": "machine.pem", "key": "machine.key", "ca": "ca.pem"}
    paths = {key: str(folder / name) for key, name in files.items()}
    return with_values(text, "fleet", {"host": host, **paths})


def _write_member(folder: Path, key: bytes, certificate: bytes, ca: bytes) -> None:
    """Write key and certificates; the service's user can read them."""
    from node.fleet.authority import write_private
    from node.init.files import give_to_service

    write_private(folder / "machine.key", key)
    for name, content in (("machine.pem", certificate), ("ca.pem", ca)):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)
    folder.chmod(0o755)
    give_to_service(folder / "machine.key")


def _write_config(config_path: Path, text: str) -> None:
    from node.init.files import give_to_service, open_to_service, write_config

    write_config(config_path, text)
    give_to_service(config_path, group_only=True)
    if open_to_service(config_path):
        echo(f"{config_path} now belongs to the service, which writes published rules and destinations into it")


VERBS = (invite, join)
