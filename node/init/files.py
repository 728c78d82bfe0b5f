"""Files of a new node: shipped templates, certificates, systemd units."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import node
from node.errors import ConfigError, PlatformError
from node.translation import gettext

SYSTEMD = Path("/etc/systemd/system")
PACKAGED = Path("/lib/systemd/system")
"""Where the Debian package has its units."""
_USER = "ainode"
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user")))
"""What ProtectHome=yes of the units hides from the service (systemd.exec(5))."""


def shipped(name: str) -> Path:
    """Locate ``config.toml`` or ``systemd`` in the checkout or where the wheel installs it (``share/ainode``)."""
    checkout = Path(node.__file__).parents[1]
    places = (
        checkout if (checkout / "pyproject.toml").exists() else None,
        Path(sysconfig.get_path("data"), "share/ainode"),
    )
    for place in places:
        if place is not None and (place / name).exists():
            return place / name
    raise PlatformError(f"{name} is missing from this installation; reinstall the package, or use a checkout")


def keep_edited(path: Path) -> None:
    """Raise ``ConfigError`` if a configuration exists, unless it is the shipped one (Debian package)."""
    if path.exists() and path.read_bytes() != shipped("config.toml").read_bytes():
        raise ConfigError(f"{path} exists and was not changed; use --force to replace it, or another --config")


def write_config(path: Path, text: str) -> None:
    """Write or replace the configuration. Raises ``PlatformError`` if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.chmod(0o640)
        part.replace(path)
    except OSError as error:
        raise PlatformError(f"{path}: {error.strerror}; run as root, or use another --config") from error


def make_request(certificate: Path, host: str, *, force: bool, others: str = "") -> Path:
    """Create a key next to ``certificate`` and a signing request (CSR); return the request.

    ``others``: further names of the machine, as subjectAltName of openssl takes them.
    """
    request = certificate.with_suffix(".csr")
    _fresh(certificate.with_suffix(".key"), force=force)
    _openssl("req", *_key(certificate.with_suffix(".key")), *_subject(host, others), "-out", request)
    return request


def make_test_authority(certificate: Path, host: str, *, force: bool) -> Path:
    """Create a test authority that signs ``certificate``; return its PEM file. Do not use it for patient data.

    Its key is next to it, with the suffix ``.key``, so that it can sign certificates for peers.
    """
    ca = certificate.with_name("ca.pem")
    _fresh(ca, force=force)
    request = make_request(certificate, host, force=force, others=",DNS:localhost,IP:127.0.0.1")
    _openssl("req", "-x509", *_key(ca.with_suffix(".key")), "-days", "3650", "-subj", "/CN=Test authority", "-out", ca)
    signer = ("-CA", ca, "-CAkey", ca.with_suffix(".key"), "-CAcreateserial", "-copy_extensions", "copy")
    _openssl("x509", "-req", "-in", request, *signer, "-days", "825", "-out", certificate)
    return ca


def _fresh(path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(f"{path} exists and was not changed; use --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)


def _key(path: Path) -> tuple[str | Path, ...]:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path


def _subject(host: str, others: str) -> tuple[str, ...]:
    return "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}{others}"


def _openssl(*arguments: str | Path) -> None:
    try:
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PlatformError("openssl is not installed; install it (Debian package openssl)") from error
    if done.returncode:
        raise PlatformError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-300:]}")


def give_to_service(path: Path, *, group_only: bool = False) -> None:
    """As root, have the user of the service own a file, or its group read it, where there is one."""
    if os.geteuid() == 0 and _USER in {user.pw_name for user in pwd.getpwall()}:
        account = pwd.getpwnam(_USER)
        os.chown(path, -1 if group_only else account.pw_uid, account.pw_gid)


def open_to_service(config_path: Path) -> bool:
    """As root, let the user of the service replace the file; return whether that was done.

    The folder gets the sticky bit: files and folders of root in it, such as the key of an authority, stay root's. A
    folder at the top of the file system, such as /etc, is left as it is.
    """
    folder = config_path.absolute().parent
    if os.geteuid() != 0 or len(folder.parts) < 3 or _USER not in {user.pw_name for user in pwd.getpwall()}:
        return False
    give_to_service(config_path)
    give_to_service(folder, group_only=True)
    folder.chmod(folder.stat().st_mode & 0o777 | 0o1070)
    return True


def reachable_by_units(config_path: Path, storage: Path) -> None:
    """Raise ``ConfigError`` when the units' ProtectHome=yes would hide program, configuration or storage."""
    program = Path(sys.executable)
    for path, remedy in (
        (program, "install the node elsewhere, such as in /opt/ainode/.venv"),
        (program.resolve(), "make the virtual environment with a Python of the system (/usr/bin/python3)"),
        (config_path.absolute(), "use another --config, such as /etc/ainode/config.toml"),
        (storage.absolute(), "use another --storage, such as /var/lib/ainode"),
    ):
        if any(path.is_relative_to(hidden) for hidden in _HIDDEN):
            raise ConfigError(f"--install-units: services cannot read {path} (ProtectHome=yes); {remedy}")


def install_units(folder: Path, config_path: Path, storage: Path, port: int) -> Iterator[str]:
    """Write the units for this program and configuration; yield each step. Raises ``PlatformError``.

    For ``/etc/systemd/system`` also create the service user and reload systemd.
    """
    program = Path(sys.executable).with_name("ainode")
    service = ["[Service]"]
    if storage != Path("/var/lib/ainode"):
        service.append(f"ReadWritePaths={storage}")
    if port < 1024:
        service += ["AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"]
    try:
        for unit in sorted(shipped("systemd").glob("*.service")):
            text = unit.read_text(encoding="utf-8")
            text = text.replace("/opt/ainode/.venv/bin/ainode", str(program))
            text = text.replace("/etc/ainode/config.toml", str(config_path.absolute()))
            text = text.replace("=-/etc/ainode\n", f"=-{config_path.absolute().parent}\n")
            packaged = PACKAGED / unit.name
            if not packaged.exists() or packaged.read_text(encoding="utf-8") != text:
                (folder / unit.name).write_text(text, encoding="utf-8")
                yield gettext("wrote {path}", path=folder / unit.name)
            if len(service) > 1:
                more = folder / f"{unit.name}.d" / "init.conf"
                more.parent.mkdir(exist_ok=True)
                more.write_text("\n".join(service) + "\n", encoding="utf-8")
                yield gettext("wrote {path}", path=more)
        if folder == SYSTEMD:
            yield from _register_units(config_path, storage)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PlatformError(f"units cannot be installed ({error}); run as root on a machine with systemd") from error


def _register_units(config_path: Path, storage: Path) -> Iterator[str]:
    commands = [["systemctl", "daemon-reload"]]
    if _USER not in {user.pw_name for user in pwd.getpwall()}:
        shell = ["--home-dir", "/var/lib/ainode", "--shell", "/usr/sbin/nologin"]
        commands.insert(0, ["useradd", "--system", "--user-group", *shell, _USER])
    for command in commands:
        subprocess.run(command, check=True)
        yield gettext("ran {command}", command=" ".join(command))
    shutil.chown(config_path, group=_USER)
    storage.mkdir(parents=True, exist_ok=True)
    tls = config_path.parent / "tls"
    for path in [storage, *storage.rglob("*"), *(tls.iterdir() if tls.exists() else ())]:
        os.chown(path, pwd.getpwnam(_USER).pw_uid, -1)
    yield gettext("changed the owner of {folder} to {user}", folder=storage, user=_USER)
