"""``ainode init``: questions, or flags, and everything that a new node needs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.errors import ConfigError, PlatformError
from node.init.files import SYSTEMD, install_units, make_request, make_test_authority, shipped, write_new
from node.init.settings import Answers, filled_in, offered

if TYPE_CHECKING:
    from node.web.users import User

_QUESTIONS: tuple[tuple[str, str, Any], ...] = (
    ("title", "AE title of this node", "AINODE"),
    ("port", "Port on which it receives", 11112),
    ("storage", "Folder for images, results and ledger", "/var/lib/ainode"),
    ("pacs_title", "AE title of the PACS", None),
    ("pacs_host", "Name or address of the PACS", None),
    ("pacs_port", "DICOM port of the PACS", 104),
    ("commitment", "Ask the PACS for Storage Commitment", False),
    ("pipelines", "Pipelines, with commas between", None),
    ("web_user", "User of the dashboard (empty: no dashboard)", ""),
)
"""Parameter, question, default."""
_UNTIL_ASKED = {"pacs_title": "PACS", "pacs_host": "localhost"}
"""Stand for what has no default while the other answers are tried."""


@click.command("init")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("/etc/ainode/config.toml"),
    show_default=True,
    help="File to write.",
)
@click.option("--title", help="Our AE title.  [AINODE]")
@click.option("--port", type=int, help="Our DICOM port.  [11112]")
@click.option("--storage", help="Storage folder.  [/var/lib/ainode]")
@click.option("--pacs-title", help="AE title of the PACS.")
@click.option("--pacs-host", help="Name or address of the PACS.")
@click.option("--pacs-port", type=int, help="DICOM port of the PACS.  [104]")
@click.option("--commitment/--no-commitment", default=None, help="Ask the PACS for Storage Commitment.  [no]")
@click.option("--pipelines", metavar="NAME,NAME", help="Pipelines to run.  [all that are shipped]")
@click.option("--web-user", metavar="NAME", help="First user of the dashboard.  [no dashboard]")
@click.option("--web-password-file", type=click.Path(path_type=Path, exists=True), help="File with the password.")
@click.option("--csr", is_flag=True, default=None, help="Make a TLS key and a request for your authority (openssl).")
@click.option(
    "--test-ca", is_flag=True, default=None, help="Make a test authority and a certificate, and speak TLS (openssl)."
)
@click.option("--install-units", "units", is_flag=True, default=None, help="Install the units for systemd (as root).")
@click.option(
    "--unit-folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help=f"Where units go.  [{SYSTEMD}]",
)
@click.option("--yes", is_flag=True, help="Ask nothing: what no flag says is its default.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def first_run(*, config_path: Path, force: bool, **given: Any) -> None:
    """Write a config.toml for this place, and say what to enter on the PACS and on the scanner.

    Asks what no flag has said. An existing file is never replaced without --force.
    """
    if config_path.exists() and not force:
        raise ConfigError(f"{config_path} exists and was not touched; give --force to replace it, or another --config")
    text = shipped("config.toml").read_text(encoding="utf-8")
    _ask(given, text)
    user = _user(given)
    csr, test_ca, units = _ask_for_files(given)
    host = socket.gethostname()
    certificate = config_path.absolute().parent / "tls" / "ainode.pem" if csr or test_ca else None
    answers = _answers(given, certificate, tls=test_ca)
    config = filled_in(text, answers)
    if certificate is not None and test_ca:
        click.echo(f"made {make_test_authority(certificate, host, force=force)} and {certificate}, for tests only")
    elif certificate is not None:
        request = make_request(certificate, host, force=force)
        click.echo(f"made {request}: have it signed, save the answer as {certificate} and its authority as ca.pem")
        click.echo("  beside it; then set [ae.tls] enabled = true")
    write_new(config_path, config, force=force)
    click.echo(f"wrote {config_path}")
    if user is not None:
        _write_user(user, answers.folder)
    if units:
        for done in install_units(given["unit_folder"] or SYSTEMD, config_path, answers.folder, answers.port):
            click.echo(done)
    _print_next_steps(answers, config, config_path)


def _ask(given: dict[str, Any], shipped_text: str) -> None:
    """Fill in what no flag has said: from the keyboard, or with ``--yes`` from the defaults."""
    all_of_them = ",".join(offered(shipped_text))
    answered = {name: default for name, _, default in _QUESTIONS} | _UNTIL_ASKED | {"pipelines": all_of_them}
    answered |= {name: value for name, value in given.items() if value is not None}
    _try(answered, shipped_text)  # a flag that will not do is told before any question
    for name, question, default in _QUESTIONS:
        usual = all_of_them if name == "pipelines" else default
        if given[name] is None and given["yes"]:
            if usual is None:
                raise click.UsageError(f"--{name.replace('_', '-')} is needed with --yes")
            given[name] = usual
        elif given[name] is None and isinstance(usual, bool):
            given[name] = click.confirm(question)
        elif given[name] is None:

            def tried(typed: str, name: str = name, usual: Any = usual) -> Any:
                value = (click.INT if isinstance(usual, int) else click.STRING)(typed)
                with _asked_again():
                    _try(answered | {name: value}, shipped_text)
                return value

            given[name] = click.prompt(question, default=usual, value_proc=tried)


def _try(answered: dict[str, Any], shipped_text: str) -> None:
    """Raises ``ConfigError`` when one of the answers will not do."""
    from node.web.users import check_name

    filled_in(shipped_text, _answers(answered, None, tls=False))
    if answered["web_user"]:
        check_name(answered["web_user"])


@contextmanager
def _asked_again() -> Iterator[None]:
    """An answer that will not do is told, and its question asked again."""
    try:
        yield
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


def _ask_for_files(given: dict[str, Any]) -> tuple[bool, bool, bool]:
    """Whether a request, a test authority and units are wanted; without a keyboard only what a flag has said."""
    if not given["yes"]:
        if given["csr"] is None and given["test_ca"] is None:
            kinds = click.Choice(["none", "request", "test"])
            kind = click.prompt("Certificate for DICOM TLS: request one, or make a test one", "none", type=kinds)
            given["csr"], given["test_ca"] = kind == "request", kind == "test"
        if given["units"] is None:
            given["units"] = click.confirm("Install the units for systemd (as root)")
    return bool(given["csr"]), bool(given["test_ca"]), bool(given["units"])


def _answers(given: dict[str, Any], certificate: Path | None, *, tls: bool) -> Answers:
    return Answers(
        title=given["title"],
        port=given["port"],
        folder=Path(given["storage"]),
        pacs_title=given["pacs_title"],
        pacs_host=given["pacs_host"],
        pacs_port=given["pacs_port"],
        commitment=given["commitment"],
        pipelines=tuple(name.strip() for name in given["pipelines"].split(",") if name.strip()),
        dashboard=bool(given["web_user"]),
        certificate=certificate,
        tls=tls,
    )


def _user(given: dict[str, Any]) -> User | None:
    """The first user of the dashboard."""
    from node.web.users import make_user

    name = given["web_user"]
    if not name:
        return None
    if given["web_password_file"] is not None:
        return make_user(name, "operate", given["web_password_file"].read_text(encoding="utf-8").strip())
    if given["yes"]:
        raise click.UsageError("--web-password-file is needed with --yes and --web-user")

    def create_user(typed: str) -> User:
        with _asked_again():
            return make_user(name, "operate", typed)

    return click.prompt("Password", hide_input=True, confirmation_prompt=True, value_proc=create_user)


def _write_user(user: User, folder: Path) -> None:
    from node.config import Web
    from node.web.users import users_path, write_user

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_user(users_path(Web(), folder), user)
    except OSError as error:
        raise PlatformError(f"{folder}: {error.strerror}; run as root, or make the folder first") from error
    click.echo(f"made user {user.name} of the dashboard, at http://127.0.0.1:8080 of this machine")


def _address(towards: str) -> str:
    """Our address on the way to a host, nothing is sent; our name when there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def _print_next_steps(answers: Answers, config: str, config_path: Path) -> None:
    """What the neighbours must know."""
    from pydicom.uid import UID

    from node.config import parse
    from node.results.gate.check import SOP_CLASSES

    host = _address(answers.pacs_host)
    kinds = sorted(parse(config).kinds("pacs") & SOP_CLASSES.keys())
    classes = ", ".join(UID(SOP_CLASSES[kind]).name for kind in kinds)
    transport = " over TLS" if answers.tls else ""
    click.echo(f"\nEnter on the PACS ({answers.pacs_title} at {answers.pacs_host}:{answers.pacs_port}):")
    click.echo(f"  a DICOM node: AE title {answers.title}, host {host}, port {answers.port}{transport}")
    click.echo(f"  it may store: {classes}, CT and MR Image Storage")
    click.echo("  it may use: Verification" + (", Storage Commitment Push Model" if answers.commitment else ""))
    if answers.commitment:
        click.echo(f"  reports of Storage Commitment go to {answers.title} at {host}:{answers.port}")
    click.echo("\nEnter on the scanner, or as a forwarding rule of the PACS:")
    click.echo(f"  a store destination: AE title {answers.title}, host {host}, port {answers.port}{transport}")
    click.echo("\nThen:")
    click.echo(f"  ainode doctor --config {config_path}")
