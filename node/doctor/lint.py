"""What a valid ``config.toml`` may still get wrong. Takes values, returns answers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from node.check import Check
from node.config import Config, Rule, parse_condition
from node.spool.free_space import space_of

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_NAME = "configuration"


def lint(config: Config, pipelines: Sequence[dict[str, Any]]) -> Iterator[Check]:
    """Rules that cannot match, names that nothing uses, doors that stand open; one good line when there is nothing.

    ``pipelines``: as ``node.check.describe_pipelines`` tells them.
    """
    needs = {p["name"]: p.get("needs", {}).get("modalities", []) for p in pipelines}
    found = [*_rules(config, needs), *_unused(config), *_titles(config), *_doors(config), *_disk(config)]
    yield from found
    if not found:
        yield Check(name=_NAME, good=True, found="every rule can match, everything that is defined is used")


def _rules(config: Config, needs: dict[str, list[str]]) -> Iterator[Check]:
    if not config.rules:
        yield _note("no rule: nothing is analysed", "add [[rules]]; the shipped config.toml has examples")
    for rule in config.rules:
        if fault := _never(rule) or _never_called(rule, config):
            yield Check(name=f"rule {rule.name!r}", good=False, found=f"can never match: {fault[0]}", remedy=fault[1])
        if rule.pipelines and not rule.destinations:
            yield _note(f"rule {rule.name!r} sends its results nowhere", "give it destinations, or leave it as a trial")
        for name in rule.pipelines:
            modalities = [m for m in needs.get(name, []) if _may_be(rule, m)]
            if needs.get(name) and not modalities:
                yield Check(
                    name=f"rule {rule.name!r}",
                    good=False,
                    found=f"pipeline {name} needs Modality {' or '.join(needs[name])}, which the rule does not take",
                    remedy="correct Modality in [rules.match], or take the pipeline out of the rule",
                )


def _may_be(rule: Rule, modality: str) -> bool:
    wanted, unwanted = rule.match.get("Modality"), rule.unless.get("Modality")
    return (wanted is None or parse_condition("Modality", wanted).matches([modality])) and (
        unwanted is None or not parse_condition("Modality", unwanted).matches([modality])
    )


def _never(rule: Rule) -> tuple[str, str] | None:
    """Why ``unless`` takes back all that ``match`` gives, and the remedy."""
    for path, unwanted in rule.unless.items():
        refused = parse_condition(path, unwanted)
        wanted = rule.match.get(path)
        options = () if wanted is None else tuple(str(w) for w in (wanted if isinstance(wanted, tuple) else (wanted,)))
        same = set(options) <= {str(o) for o in refused.wanted}
        literal = not any(_is_pattern(option) for option in options)
        if "*" in {str(o) for o in refused.wanted} or (
            options and (same or (literal and all(refused.matches([option]) for option in options)))
        ):
            return f"[rules.unless] {path} refuses all that is wanted", f"remove {path} from match or from unless"
    return None


def _is_pattern(option: str) -> bool:
    return option.startswith("re:") or any(c in option for c in "*?-")


def _never_called(rule: Rule, config: Config) -> tuple[str, str] | None:
    """Why none of the senders may call us, and the remedy. Only titles are compared."""
    titles = [caller.title for caller in config.ae.callers]
    if not rule.senders or not titles or any(_is_address(sender) for sender in rule.senders):
        return None
    if any(fnmatchcase(title.strip(), sender.strip()) for title in titles for sender in rule.senders):
        return None
    return f"none of its senders ({', '.join(rule.senders)}) is in [ae] callers", "add the title to callers"


def _is_address(sender: str) -> bool:
    try:
        ipaddress.ip_network(sender, strict=False)
    except ValueError:
        return False
    return True


def _unused(config: Config) -> Iterator[Check]:
    for kind, defined, used in (
        ("pipelines", config.pipelines, {n for r in config.rules for n in r.pipelines}),
        (
            "destinations",
            config.destinations,
            {n for r in config.rules for n in (*r.destinations, *r.send, *((r.prior.source,) if r.prior else ()))},
        ),
    ):
        for name in defined:
            if name not in used:
                yield _note(f"[{kind}.{name}] is used by no rule", f"name it in {kind} of a rule, or remove it")


def _titles(config: Config) -> Iterator[Check]:
    ours = config.ae.title.strip()
    for name, to in config.destinations.items():
        if to.host and to.title.strip() == ours:
            yield Check(
                name=f"destination {name}",
                good=False,
                found=f"has our own AE title {ours!r}",
                remedy=f"AE titles are unique in a network: change [ae] title, or title in [destinations.{name}]",
            )


def _doors(config: Config) -> Iterator[Check]:
    if not config.ae.callers and config.ae.address not in _LOOPBACK:
        yield _note(
            f"[ae] callers is empty and address is {config.ae.address}: everyone in the network may send images",
            'name who may call: callers = [{ title = "CT1", address = "10.1.2.0/24" }]',
        )
    web = config.web
    if web.enabled and web.address not in _LOOPBACK and web.certificate is None:
        yield _note(
            f"[web] address is {web.address} without a certificate: passwords cross the network in clear",
            "give certificate and key, or listen on 127.0.0.1 behind a reverse proxy",
        )


def _disk(config: Config) -> Iterator[Check]:
    total = space_of(config.storage.folder).total / 2**30 if config.storage.folder.exists() else None
    if total is not None and config.storage.min_free_gib >= total:
        yield Check(
            name="storage",
            good=False,
            found=f"min_free_gib is {config.storage.min_free_gib:g}, the whole disk has {total:.0f} GiB",
            remedy="lower [storage] min_free_gib, or use a larger disk: every image is refused",
        )


def _note(found: str, remedy: str) -> Check:
    return Check(name=_NAME, good=True, found=found, remedy=remedy)
