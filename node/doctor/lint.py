"""Probable mistakes in a valid ``config.toml``. Pure functions of the configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from node.check_result import Check
from node.config import Config, Rule, parse_condition
from node.config.order_values import PREFIX
from node.spool.free_space import space_of

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_NAME = "configuration"


def lint(config: Config, pipelines: Sequence[dict[str, Any]]) -> Iterator[Check]:
    """Report rules that cannot match, unused names and open access; one positive line if there are none.

    ``pipelines``: the result of ``node.check.describe_pipelines``.
    """
    needs = {p["name"]: p.get("needs", {}).get("modalities", []) for p in pipelines}
    checks = [*_rules(config, needs), *_unused(config), *_titles(config), *_open_access(config), *_disk(config)]
    checks += [*_keep_days(config), *_quotas(config)]
    yield from checks
    if not checks:
        yield Check(name=_NAME, good=True, found="every rule can match, every pipeline and destination is used")


def _rules(config: Config, needs: dict[str, list[str]]) -> Iterator[Check]:
    if not config.rules:
        yield _note("there are no rules: nothing is analysed", "add [[rules]]; the shipped config.toml has examples")
    for rule in config.rules:
        if fault := _never_matches(rule) or _senders_rejected(rule, config):
            yield Check(name=f"rule {rule.name!r}", good=False, found=f"can never match: {fault[0]}", remedy=fault[1])
        if rule.pipelines and not rule.destinations:
            yield _note(f"rule {rule.name!r} has no destinations", "add destinations, unless the rule is a trial")
        if not config.orders.enabled and any(path.startswith(PREFIX) for path in (*rule.match, *rule.unless)):
            remedy = "enable [orders] here, unless another machine of this ledger takes the messages"
            yield _note(f"rule {rule.name!r} asks for orders, and [orders] is not enabled", remedy)
        for name in (*rule.pipelines, *rule.shadow):
            modalities = [m for m in needs.get(name, []) if _can_match(rule, m)]
            if needs.get(name) and not modalities:
                yield Check(
                    name=f"rule {rule.name!r}",
                    good=False,
                    found=f"pipeline {name} needs Modality {' or '.join(needs[name])}, which the rule does not match",
                    remedy="correct Modality in [rules.match], or remove the pipeline from the rule",
                )


def _can_match(rule: Rule, modality: str) -> bool:
    wanted, unwanted = rule.match.get("Modality"), rule.unless.get("Modality")
    return (wanted is None or parse_condition("Modality", wanted).matches([modality])) and (
        unwanted is None or not parse_condition("Modality", unwanted).matches([modality])
    )


def _never_matches(rule: Rule) -> tuple[str, str] | None:
    """Return why ``unless`` excludes everything that ``match`` includes, and the remedy."""
    for path, unwanted in rule.unless.items():
        refused = parse_condition(path, unwanted)
        wanted = rule.match.get(path)
        options = () if wanted is None else tuple(str(w) for w in (wanted if isinstance(wanted, tuple) else (wanted,)))
        same = set(options) <= {str(o) for o in refused.wanted}
        literal = not any(_is_pattern(option) for option in options)
        if "*" in {str(o) for o in refused.wanted} or (
            options and (same or (literal and all(refused.matches([option]) for option in options)))
        ):
            return f"[rules.unless] {path} excludes everything in match", f"remove {path} from match or from unless"
    return None


def _is_pattern(option: str) -> bool:
    return option.startswith("re:") or any(c in option for c in "*?-")


def _senders_rejected(rule: Rule, config: Config) -> tuple[str, str] | None:
    """Return why no sender of the rule is an accepted caller, and the remedy. Only AE titles are compared."""
    titles = [caller.title for caller in config.ae.callers]
    if not rule.senders or not titles or any(_is_address(sender) for sender in rule.senders):
        return None
    if any(fnmatchcase(title.strip(), sender.strip()) for title in titles for sender in rule.senders):
        return None
    return f"none of its senders ({', '.join(rule.senders)}) is in [ae] callers", "add the AE title to callers"


def _is_address(sender: str) -> bool:
    try:
        ipaddress.ip_network(sender, strict=False)
    except ValueError:
        return False
    return True


def _unused(config: Config) -> Iterator[Check]:
    for kind, defined, used in (
        ("pipelines", config.pipelines, {n for r in config.rules for n in (*r.pipelines, *r.shadow)}),
        (
            "destinations",
            config.destinations,
            {n for r in config.rules for n in (*r.destinations, *r.send, *((r.prior.source,) if r.prior else ()))},
        ),
    ):
        for name in defined:
            if name not in used:
                yield _note(f"no rule uses [{kind}.{name}]", f"name it in {kind} of a rule, or remove it")


def _titles(config: Config) -> Iterator[Check]:
    ours = config.ae.title.strip()
    for name, to in config.destinations.items():
        if to.host and to.title.strip() == ours:
            yield Check(
                name=f"destination {name}",
                good=False,
                found=f"has the same AE title as this node, {ours!r}",
                remedy=f"AE titles must be unique: change [ae] title, or title in [destinations.{name}]",
            )


def _open_access(config: Config) -> Iterator[Check]:
    if not config.ae.callers and config.ae.address not in _LOOPBACK:
        yield _note(
            f"[ae] callers is empty and address is {config.ae.address}: any system in the network may send images",
            'list the accepted callers: callers = [{ title = "CT1", address = "10.1.2.0/24" }]',
        )
    web = config.web
    if web.enabled and web.address not in _LOOPBACK and web.certificate is None:
        yield _note(
            f"[web] address is {web.address} without a certificate: passwords cross the network unencrypted",
            "set certificate and key, or listen on 127.0.0.1 behind a reverse proxy",
        )


def _disk(config: Config) -> Iterator[Check]:
    total = space_of(config.storage.folder).total / 2**30 if config.storage.folder.exists() else None
    if total is not None and config.storage.min_free_gib >= total:
        yield Check(
            name="storage",
            good=False,
            found=f"min_free_gib is {config.storage.min_free_gib:g}, the whole disk has {total:.0f} GiB",
            remedy="every image is refused: lower [storage] min_free_gib, or use a larger disk",
        )


def _keep_days(config: Config) -> Iterator[Check]:
    """Report a destination whose results are kept for another time than it says."""
    default = config.retention.days
    for name, to in config.destinations.items():
        if to.keep_days == "default":
            continue
        key = f"[destinations.{name}] keep_days = {to.keep_days:g}"
        sending = [rule for rule in config.rules if name in rule.destinations and rule.pipelines]
        if not sending:
            yield _note(
                f"{key} is about results, and no rule sends any there", "remove it, or use keep_days of the rule"
            )
            continue
        images = {rule.name: default if rule.keep_days == "default" else rule.keep_days for rule in sending}
        if (shortest := min(images.values())) > to.keep_days:
            rule = next(rule for rule, days in images.items() if days == shortest)
            yield _note(
                f"{key} has no effect: rule {rule!r} keeps images for {shortest:g} days, and results stay with them",
                f"set keep_days of the rule to {to.keep_days:g} or less, or remove that of the destination",
            )


def _quotas(config: Config) -> Iterator[Check]:
    """Report a quota that can delete nothing, because only delivered results are deleted."""
    for name, table in config.pipelines.items():
        if table.quota_gib and not any(name in rule.pipelines and rule.destinations for rule in config.rules):
            yield _note(
                f"[pipelines.{name}] quota_gib = {table.quota_gib:g} deletes nothing: no rule sends its results",
                "name a destination in the rule, or remove the quota",
            )


def _note(found: str, remedy: str) -> Check:
    return Check(name=_NAME, good=True, found=found, remedy=remedy)
