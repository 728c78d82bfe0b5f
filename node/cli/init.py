"""``ainode init``: create the configuration of a new node from questions or options."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.new_settings import print_settings
from node.cli.options import confirmed, echo, in_language_of_user
from node.errors import ConfigError, PlatformError
from node.init.files import (
    SYSTEMD,
    install_units,
    keep_edited,
    make_request,
    make_test_authority,
    reachable_by_units,
    shipped,
    write_config,
)
from node.init.settings import Answers, filled_in, offered
from node.init.viewers import VIEWERS, viewer_url
from node.translation import current_language, gettext, marked

if TYPE_CHECKING:
    from node.web.users import User

_QUESTIONS: tuple[tuple[str, str, Any], ...] = (
    ("title", marked("AE title of this node"), "AINODE"),
    ("port", marked("DICOM port of this node"), 11112),
    ("storage", marked("Folder for images, results and ledger"), "/var/lib/ainode"),
    ("pacs_title", marked("AE title of the PACS"), None),
    ("pacs_host", marked("Name or address of the PACS"), None),
    ("pacs_port", marked("DICOM port of the PACS"), 104),
    ("commitment", marked("Ask the PACS for Storage Commitment"), False),
    ("language", marked("Language of reports in the PACS (en, de, fr, es, zh, ja)"), None),
    ("pipelines", marked("Pipelines, comma-separated"), None),
    ("web_user", marked("User of the dashboard (empty: no dashboard)"), ""),
)
"""Parameter, question, default."""
_PLACEHOLDERS = {"pacs_title": "PACS", "pacs_host": "localhost"}
"""Values that replace missing answers without a default while the others are validated."""


@click.command("init")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("/etc/ainode/config.toml"),
    show_default=True,
    help="Configuration file to write.",
)
@click.option("--title", help="AE title of this node.  [AINODE]")
@click.option("--port", type=int, help="DICOM port of this node.  [11112]")
@click.option("--storage", help="Storage folder.  [/var/lib/ainode]")
@click.option("--pacs-title", help="AE title of the PACS.")
@click.option("--pacs-host", help="Name or address of the PACS.")
@click.option("--pacs-port", type=int, help="DICOM port of the PACS.  [104]")
@click.option("--commitment/--no-commitment", default=None, help="Ask the PACS for Storage Commitment.  [no]")
@click.option("--language", help="Language of reports in the PACS: en, de, fr, es, zh or ja.  [that of the locale]")
@click.option("--pipelines", metavar="NAME,NAME", help="Pipelines to run.  [all shipped ones]")
@click.option("--web-user", metavar="NAME", help="First user of the dashboard.  [no dashboard]")
@click.option("--web-password-file", type=click.Path(path_type=Path, exists=True), help="File with the password.")
@click.option("--viewer", type=click.Choice([*VIEWERS]), help="Viewer in which the dashboard opens a study.  [none]")
@click.option(
    "--viewer-address", metavar="URL", help="Address of the viewer; with weasis, of the archive's DICOMweb service."
)
@click.option("--csr", is_flag=True, default=None, help="Create a TLS key and a signing request (openssl).")
@click.option(
    "--test-ca", is_flag=True, default=None, help="Create a test authority and a certificate, enable TLS (openssl)."
)
@click.option("--install-units", "units", is_flag=True, default=None, help="Install the systemd units (as root).")
@click.option(
    "--unit-folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help=f"Folder for the systemd units.  [{SYSTEMD}]",
)
@click.option("--yes", is_flag=True, help="Ask no questions; use defaults for options that are not given.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@in_language_of_user
def first_run(*, config_path: Path, force: bool, **options: Any) -> None:
    """Write config.toml for this site.

    Prints the settings to enter on PACS and scanner. Asks for every option that is not given.

    Existing files are replaced only with --force.
    """
    if not force:
        keep_edited(config_path)
    text = shipped("config.toml").read_text(encoding="utf-8")
    _ask(options, text)
    user = _first_user(options)
    _ask_for_viewer(options)
    csr, test_ca, units = _ask_for_files(options)
    host = socket.gethostname()
    certificate = config_path.absolute().parent / "tls" / "ainode.pem" if csr or test_ca else None
    answers = _to_answers(options, certificate, tls=test_ca)
    config = filled_in(text, answers)
    if units:
        reachable_by_units(config_path, answers.folder)
    if certificate is not None and test_ca:
        authority = make_test_authority(certificate, host, force=force)
        echo(
            gettext(
                "created {authority} and {certificate}, for tests only", authority=authority, certificate=certificate
            )
        )
        key = authority.with_suffix(".key")
        echo("  " + gettext("move {key} to another machine: it signs certificates that this node accepts", key=key))
    elif certificate is not None:
        request = make_request(certificate, host, force=force)
        echo(
            gettext(
                "created {request}: have it signed, save the certificate as {certificate} and its authority\n"
                "  as ca.pem in the same folder, then set [ae.tls] enabled = true",
                request=request,
                certificate=certificate,
            )
        )
    write_config(config_path, config)
    echo(gettext("wrote {path}", path=config_path))
    if user is not None:
        _write_user(user, answers.folder)
    if answers.viewer_url:
        _print_viewer(answers.viewer_url, VIEWERS[options["viewer"]].remark)
    if units:
        for done in install_units(options["unit_folder"] or SYSTEMD, config_path, answers.folder, answers.port):
            echo(done)
    print_settings(answers, config, config_path)


def _ask(options: dict[str, Any], shipped_text: str) -> None:
    """Fill in missing options from questions, or with ``--yes`` from defaults."""
    all_of_them = ",".join(offered(shipped_text))
    usual_ones = {name: default for name, _, default in _QUESTIONS}
    usual_ones |= {"pipelines": all_of_them, "language": current_language()}
    known = usual_ones | _PLACEHOLDERS
    known |= dict.fromkeys(("viewer", "viewer_address"))
    known |= {name: value for name, value in options.items() if value is not None}
    _try(known, shipped_text)  # report an invalid option before any question
    for name, question, _ in _QUESTIONS:
        usual = usual_ones[name]
        if options[name] is None and options["yes"]:
            if usual is None:
                raise click.UsageError(f"--{name.replace('_', '-')} is needed with --yes")
            options[name] = usual
        elif options[name] is None and isinstance(usual, bool):
            options[name] = confirmed(gettext(question))
        elif options[name] is None:

            def parsed(typed: str, name: str = name, usual: Any = usual) -> Any:
                value = (click.INT if isinstance(usual, int) else click.STRING)(typed)
                with _retried():
                    _try(known | {name: value}, shipped_text)
                return value

            options[name] = click.prompt(gettext(question), default=usual, value_proc=parsed)


def _try(known: dict[str, Any], shipped_text: str) -> None:
    """Raise ``ConfigError`` if an answer is invalid."""
    from node.web.users import check_name

    if known["viewer_address"] and not known["viewer"]:
        raise click.UsageError("--viewer-address is the address of a viewer; name it with --viewer")
    filled_in(shipped_text, _to_answers(known, None, tls=False))
    if known["web_user"]:
        check_name(known["web_user"])


@contextmanager
def _retried() -> Iterator[None]:
    """Report an invalid answer and repeat its question."""
    try:
        yield
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


def _ask_for_viewer(options: dict[str, Any]) -> None:
    """Ask which viewer opens a study from the dashboard, where there is one, and for the address of the viewer."""
    if options["viewer"] is None and options["web_user"] and not options["yes"]:
        choice = click.prompt(
            gettext("Viewer in which the dashboard opens a study"), "none", type=click.Choice(["none", *VIEWERS])
        )
        options["viewer"] = choice if choice in VIEWERS else None
    if options["viewer"] is None or options["viewer_address"] is not None:
        return
    if options["yes"]:
        raise click.UsageError("--viewer-address is needed with --yes and --viewer")
    viewer = VIEWERS[options["viewer"]]

    def checked(typed: str) -> str:
        with _retried():
            viewer_url(viewer, typed)
        return typed

    options["viewer_address"] = click.prompt(gettext(viewer.asked), value_proc=checked)


def _print_viewer(url: str, remark: str) -> None:
    echo(gettext("the page of a study will have a link to {url}", url=url))
    if remark:
        echo(f"  {gettext(remark)}")


def _ask_for_files(options: dict[str, Any]) -> tuple[bool, bool, bool]:
    """Return whether to create a signing request, a test authority and units; asks unless ``--yes`` is given."""
    if not options["yes"]:
        if options["csr"] is None and options["test_ca"] is None:
            kinds = click.Choice(["none", "request", "test"])
            kind = click.prompt(
                gettext("Certificate for DICOM TLS: create a request, or a test certificate"), "none", type=kinds
            )
            options["csr"], options["test_ca"] = kind == "request", kind == "test"
        if options["units"] is None:
            options["units"] = confirmed(gettext("Install the systemd units (as root)"))
    return bool(options["csr"]), bool(options["test_ca"]), bool(options["units"])


def _to_answers(options: dict[str, Any], certificate: Path | None, *, tls: bool) -> Answers:
    address = options["viewer_address"]
    return Answers(
        title=options["title"],
        port=options["port"],
        folder=Path(options["storage"]),
        pacs_title=options["pacs_title"],
        pacs_host=options["pacs_host"],
        pacs_port=options["pacs_port"],
        commitment=options["commitment"],
        language=options["language"],
        pipelines=tuple(name.strip() for name in options["pipelines"].split(",") if name.strip()),
        dashboard=bool(options["web_user"]),
        certificate=certificate,
        tls=tls,
        viewer_url=viewer_url(VIEWERS[options["viewer"]], address) if address else "",
    )


def _first_user(options: dict[str, Any]) -> User | None:
    """Create the first user of the dashboard, if one is wanted."""
    from node.web.users import make_user

    name = options["web_user"]
    if not name:
        return None
    if options["web_password_file"] is not None:
        return make_user(name, "operate", options["web_password_file"].read_text(encoding="utf-8").strip())
    if options["yes"]:
        raise click.UsageError("--web-password-file is needed with --yes and --web-user")

    def create(typed: str) -> User:
        with _retried():
            return make_user(name, "operate", typed)

    return click.prompt(gettext("Password"), hide_input=True, confirmation_prompt=True, value_proc=create)


def _write_user(user: User, folder: Path) -> None:
    from node.config import Web
    from node.web.users import users_path, write_user

    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        write_user(users_path(Web(), folder), user)
    except OSError as error:
        raise PlatformError(f"{folder}: {error.strerror}; run as root, or create the folder first") from error
    address = "http://127.0.0.1:8080"
    echo(gettext("created dashboard user {name}; the dashboard will be at {address}", name=user.name, address=address))
