"""Shared values of ``config.toml`` beside rules and destinations: taken out as TOML, and put back with comments.

Pure. A value of ``Part.CONFIRMED`` is only put into a file that has it, unless its administrator confirms it.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from typing import Any, get_args

import tomlkit
from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from tomlkit.exceptions import TOMLKitError

from node.config.config import Config
from node.config.rules_text import TABLES
from node.config.shared_keys import OPTIONS, Key, Part, is_file, is_like, part_of, values_of
from node.errors import ConfigError
from node.peer_text import escaped

_NAMED = ("pipelines", "procedures")
"""Tables whose names are shared, whatever is in them."""
_PLAIN = re.compile(r"[\w -]{0,64}")
"""A text of an option that names no file, address, module or command."""
_NAMING = ("sha256", "_target_")
"""Options with the digest of a model, which has to be on the machine, and with a class or function of MONAI."""


def settings_text(text: str) -> str:
    """Return the shared values of a file as TOML, without rules, destinations and comments. Raises ``ConfigError``."""
    taken: dict[str, Any] = {}
    table = _parsed(text)
    for name in _NAMED:
        for item in table.get(name, {}):
            taken.setdefault(name, {})[item] = {}
    for key, value in _settings(table):
        _put(taken, key, value)
    return tomlkit.dumps(taken, sort_keys=True)


def with_settings(text: str, settings: str, *, confirmed: bool = False) -> str:
    """Return the file with these shared values in place of its own, and its comments.

    ``confirmed``: by the administrator of the machine, so that values of ``Part.CONFIRMED`` are taken over, too.
    Raises ``ConfigError`` with key, value and remedy for each that is not confirmed.
    """
    own = _parsed(text)
    changes = list(_changes(own, _parsed(settings_text(settings))))  # which may hold more: a machine wrote it
    if not confirmed and (faults := [fault for change in changes for fault in _unconfirmed(*change, own)]):
        raise ConfigError(
            "\n".join(sorted(faults)) + "\nsuch values name programs, models, files or addresses, or weaken "
            "encryption, isolation or de-identification: compare them, and confirm them with `ainode config take` on "
            "this machine, or edit its file"
        )
    wanted, document = copy.deepcopy(own), tomlkit.parse(text)
    try:
        for target in (wanted, document):
            for key, _, new in changes:
                _assign(target, key, _default(key) if new is None else new)
        changed = tomlkit.dumps(document)
        if _filled(_parsed(changed)) == _filled(wanted):
            return changed
    except (TOMLKitError, ConfigError):  # of tables in pieces
        pass
    raise ConfigError("the shared values cannot be changed in the file as it is written; write each table once")


def pipeline_keys_of_machine(text: str) -> set[str]:
    """Return the keys of pipelines in a file whose values are of one machine, files too: no publication has them."""
    pipelines = {"pipelines": _parsed(text).get("pipelines", {})}
    keys = (key for key, value in values_of(pipelines) if part_of(key) == Part.LOCAL or is_file(key[-1], value))
    return {_name(key) for key in keys}


def differences(here: str, there: str) -> dict[str, tuple[str, str]]:
    """Shared keys that two files do not have alike, rules and destinations too, with both values as they are shown.

    An absent value is that of the default. Files have a name on each machine, and only count where one has none.
    """
    mine, theirs = _all_shared(_parsed(here)), _all_shared(_parsed(there))
    pairs = {}
    for key in sorted(mine.keys() | theirs.keys()):
        own, other = mine.get(key), theirs.get(key)
        if not _same(key, own, other):
            pairs[_name(key)] = shown(own), shown(other)
    return pairs


def shown(value: Any) -> str:
    """Return a value as the file has it, in a line; ``-``: it has none, so the default counts."""
    if value is None:
        return "-"
    return " ".join(tomlkit.item(value).as_string().split()) if value != {} else "{}"


def _parsed(text: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from error
    for name in _NAMED:
        if not isinstance(table.get(name, {}), dict):
            raise ConfigError(f"{name} = {table[name]!r}: write tables [{name}.NAME]")
    return table


def _settings(table: dict[str, Any]) -> Iterator[tuple[Key, Any]]:
    for key, value in values_of(table):
        if key[0] not in TABLES and part_of(key) in (Part.SHARED, Part.CONFIRMED):
            yield key, value


def _all_shared(table: dict[str, Any]) -> dict[Key, Any]:
    """Settings with the values of rules and destinations, by name, and names of pipelines."""
    values = dict(_settings(table))
    rules = {str(rule.get("name")): rule for rule in table.get("rules", ())}
    for above, named in (("rules", rules), ("destinations", table.get("destinations", {}))):
        for name, item in named.items():
            values |= {(above, name): True} | {(above, name, key): value for key, value in item.items() if key != "tls"}
            values |= {(above, name, "tls", key): value for key, value in item.get("tls", {}).items()}
    return values | {(above, name): True for above in _NAMED for name in table.get(above, {})}


def _changes(own: dict[str, Any], published: dict[str, Any]) -> Iterator[tuple[Key, Any, Any]]:
    """Keys whose values differ, with both values; of a pipeline or procedure that only one has, its whole table."""
    for name in _NAMED:
        mine, new = own.get(name, {}), published.get(name, {})
        alone = [item for item in (*mine, *new) if (item in mine) != (item in new)]
        yield from (((name, item), mine.get(item), new.get(item)) for item in alone)
    here, there = dict(_settings(own)), dict(_settings(published))
    for key in sorted(here.keys() | there.keys()):
        in_both = key[0] not in _NAMED or all(key[1] in table.get(key[0], {}) for table in (own, published))
        if in_both and not _same(key, here.get(key), there.get(key)):
            yield key, here.get(key), there.get(key)


def _same(key: Key, value: Any, other: Any) -> bool:
    """Whether two values mean the same; a file may have another name on each machine."""
    if is_file(key[-1], other) and value and other:
        return True
    default = _default(key)
    return bool((default if value is None else value) == (default if other is None else other))


def _default(key: Key) -> Any:
    """The default of a key as a file would have it; ``None``: none."""
    return next((default for pattern, default in _defaults() if is_like(key, pattern)), None)


@cache
def _defaults() -> tuple[tuple[Key, Any], ...]:
    return tuple(_defaults_of(Config))


def _defaults_of(model: type[BaseModel], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, field in model.model_fields.items():
        key, kind = (*above, name), field.annotation
        inner = [
            argument
            for argument in get_args(kind) or (kind,)
            if isinstance(argument, type) and issubclass(argument, BaseModel)
        ]
        for nested in inner:
            yield from _defaults_of(nested, key if nested is kind else (*key, "*"))
        if not field.is_required() and kind not in inner:
            yield key, to_jsonable_python(field.get_default(call_default_factory=True))


def _unconfirmed(key: Key, mine: Any, new: Any, own: dict[str, Any]) -> list[str]:
    """Values of a change that the administrator of the machine has to confirm, a line each."""
    values = [(key, mine, new)]
    if len(key) == 2 and key[0] in _NAMED:
        values = [(inner, None, value) for inner, value in values_of({key[0]: {key[1]: new or {}}})]
    return [
        f"{_name(inner)} = {shown(value)}, here {shown(before)}"
        for inner, before, value in values
        if not _same(inner, before, value) and _needs_confirmation(inner, before, value, own)
    ]


def _needs_confirmation(key: Key, mine: Any, new: Any, own: dict[str, Any]) -> bool:
    if is_like(key, (*OPTIONS, "*")):
        return _is_delicate(key[-1], mine, new)
    if is_like(key, ("pipelines", "*", "factory")) and key[1] not in own.get("pipelines", {}):
        return new not in {pipeline.get("factory") for pipeline in own.get("pipelines", {}).values()}
    return part_of(key) == Part.CONFIRMED


def _is_delicate(name: str, mine: Any, new: Any) -> bool:
    """Whether a change adds or removes a value that may name a file, an address or code, or switches something."""
    if mine == new:
        return False
    if isinstance(mine, dict) and isinstance(new, dict):
        return any(_is_delicate(key, mine.get(key), new.get(key)) for key in mine.keys() | new.keys())
    if isinstance(mine, list) and isinstance(new, list):
        values = [item for item in mine if item not in new] + [item for item in new if item not in mine]
        return any(_names_or_switches(name, value) for value in values)
    return _names_or_switches(name, mine) or _names_or_switches(name, new)


def _names_or_switches(name: str, value: Any) -> bool:
    if isinstance(value, dict):
        return any(_names_or_switches(key, inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(_names_or_switches(name, item) for item in value)
    if isinstance(value, str):
        return is_file(name, value) or name in _NAMING or _PLAIN.fullmatch(value) is None
    return isinstance(value, bool)


def _assign(target: MutableMapping[str, Any], key: Key, value: Any) -> None:
    """Set a value, key by key where both are tables, so that comments stay; ``None``: remove it."""
    for name in key[:-1]:
        target = target.setdefault(name, {})
    old = target.get(key[-1])
    if value is None:
        target.pop(key[-1], None)
    elif isinstance(old, MutableMapping) and isinstance(value, Mapping):
        for name in old.keys() - value.keys():
            del old[name]
        for name in [item for item in value if old.get(item) != value[item]]:
            _assign(old, (name,), value[name])
    else:
        target[key[-1]] = copy.deepcopy(value)


def _put(target: dict[str, Any], key: Key, value: Any) -> None:
    for name in key[:-1]:
        target = target.setdefault(name, {})
    target[key[-1]] = value


def _filled(table: dict[str, Any]) -> dict[str, Any]:
    """Without empty tables of the first level, which mean nothing."""
    return {name: value for name, value in table.items() if value != {}}


def _name(key: Key) -> str:
    return escaped(".".join(key))
