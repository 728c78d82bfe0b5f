"""The part of ``config.toml`` with rules and destinations, as text: taken out, and put back with its comments. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import MutableMapping
from typing import Any

import tomlkit

from node.config.config import Config
from node.config.loader import parse
from node.errors import ConfigError

TABLES = ("destinations", "rules")
_HEADER = re.compile(r"""\s*\[{1,2}\s*["']?([\w-]+)[^,=]*\]\s*(#.*)?$""")
FILE_KEYS = ("token_file", "client_secret_file", "ca_file", "folder", "certificate", "key", "ca", "crl")
"""Keys of a destination that name a file or folder."""
_SECRETS = ("token_file", "client_secret_file")
_ADDRESSES = ("url", "fhir", "token_url")
"""Keys of a destination where its secrets are sent."""


def rules_text(text: str) -> str:
    """Return the tables of rules and destinations, each with the comment before it, in the order of the file.

    Raises ``ConfigError`` when the file is written in a way from which they cannot be taken out.
    """
    taken = "".join(lines for is_ours, lines in _blocks(text) if is_ours)
    if _table(taken) != _only(_table(text), ours=True):
        raise ConfigError("rules and destinations are not tables of their own in the file; edit it on the machine")
    return taken.rstrip() + "\n" if taken else ""


def with_rules_text(text: str, part: str) -> str:
    """Return the file with ``part`` in the place of its rules and destinations. Raises ``ConfigError``."""
    blocks = _blocks(text)
    first = next((number for number, (is_ours, _) in enumerate(blocks) if is_ours), len(blocks))
    others = ("".join(lines for is_ours, lines in some if not is_ours) for some in (blocks[:first], blocks[first:]))
    changed = (
        "\n\n".join(piece for piece in (next(others).rstrip(), part.strip(), next(others).strip()) if piece) + "\n"
    )
    if _only(_table(changed), ours=False) != _only(_table(text), ours=False):
        raise ConfigError("only [[rules]] and [destinations.NAME] can be changed here; edit the file for other tables")
    return changed


def with_files_of(text: str, part: str) -> str:
    """Return rules and destinations in which a file that both have has the name that it has in ``text``.

    Raises ``ConfigError`` when they are written in a way in which it cannot be changed.
    """
    own, wanted, document = _table(text), _table(part), tomlkit.parse(part)
    _rename_files(own, wanted)
    _rename_files(own, document)
    changed = tomlkit.dumps(document)
    if _table(changed) != wanted:
        raise ConfigError("names of files cannot be changed in the destinations as written; write each table once")
    return changed


def changed_config(text: str, part: str, origin: str) -> tuple[str, Config]:
    """Return the file with ``part`` as its rules and destinations, and the configuration that it is then.

    Raises ``ConfigError`` for every fault that `ainode check` finds in a file, for a file or folder that no destination
    of ``text`` names, or a secret for another address (whoever edits here could have the node send any of its files or
    secrets elsewhere), and for a destination of ``text`` that would be de-identified less or otherwise, or reached
    without the encryption that it has.
    """
    changed = with_rules_text(text, part)
    config = parse(changed, origin)
    before = _files(_table(text))
    for name, value, _ in sorted(_files(_table(changed)) - before):
        raise ConfigError(
            f"{name} = {value!r}: files and folders of a destination, and the addresses of one with a token, are "
            "changed in the file only"
        )
    now = _deidentified(_table(changed))
    for name, of in _deidentified(_table(text)).items():
        if name in config.destinations and now.get(name) != of:
            raise ConfigError(f"destinations.{name}: deidentify and deidentify_options are changed in the file only")
    encrypted = _encrypted(_table(changed))
    for name, encrypted_keys in _encrypted(_table(text)).items():
        if name in config.destinations and (lost := sorted(encrypted_keys - encrypted[name])):
            raise ConfigError(f"destinations.{name}: {' and '.join(lost)} is given up in the file only")
    return changed, config


def _blocks(text: str) -> list[tuple[bool, str]]:
    """Lines of each table with the comments directly before its header, and whether it is of rules or destinations."""
    blocks: list[tuple[bool, list[str]]] = [(False, [])]
    for line in text.splitlines(keepends=True):
        if header := _HEADER.match(line):
            last = blocks[-1][1]
            start = len(last)
            while start and last[start - 1].lstrip().startswith("#"):
                start -= 1
            blocks.append((header[1] in TABLES, last[start:]))
            del last[start:]
        blocks[-1][1].append(line)
    return [(is_ours, "".join(lines)) for is_ours, lines in blocks]


def _table(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from error


def _only(table: dict[str, Any], *, ours: bool) -> dict[str, Any]:
    return {name: value for name, value in table.items() if (name in TABLES) is ours}


def _rename_files(own: dict[str, Any], target: MutableMapping[str, Any]) -> None:
    for name, mine in own.get("destinations", {}).items():
        to = target.get("destinations", {}).get(name, {})
        for here, there in ((mine, to), (mine.get("tls", {}), to.get("tls", {}))):
            for key in FILE_KEYS:
                if here.get(key) and there.get(key) and here[key] != there[key]:
                    there[key] = here[key]


def _files(table: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Key and value of every file of a destination; with a secret also the addresses that get it."""
    files = set()
    for destination in table.get("destinations", {}).values():
        addresses = " ".join(str(destination.get(name, "")) for name in _ADDRESSES)
        for keys in (destination, destination.get("tls", {})):
            names = [name for name in FILE_KEYS if keys.get(name)]
            files |= {(name, str(keys[name]), addresses if name in _SECRETS else "") for name in names}
    return files


def _deidentified(table: dict[str, Any]) -> dict[str, tuple[str, set[str]]]:
    """Profile and options of each destination that is de-identified."""
    return {
        name: (str(destination["deidentify"]), set(map(str, destination.get("deidentify_options", ()))))
        for name, destination in table.get("destinations", {}).items()
        if destination.get("deidentify")
    }


def _encrypted(table: dict[str, Any]) -> dict[str, set[str]]:
    """What protects the way to each destination."""
    protections = {}
    for name, destination in table.get("destinations", {}).items():
        tls = destination.get("tls", {})
        is_https = str(destination.get("url") or destination.get("fhir")).startswith("https://")
        switches = {
            "TLS": tls.get("enabled", False),
            "tls.check_host": tls.get("enabled") and tls.get("check_host", True),
        }
        protections[name] = {switch for switch, is_on in switches.items() if is_on or is_https}
    return protections
