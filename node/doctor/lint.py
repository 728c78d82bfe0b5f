"""Probable mistakes in a valid ``config.toml``. Pure functions of the configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from node.check import Check
from node.config import Config, Rule, parse_condition
from node.config.order_values import PREFIX
from node.spool.free_space import space_of
from node.translation import gettext

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
        yield Check(
            name=_NAME, good=True, found=gettext("every rule can match, every pipeline and destination is used")
        )


def _rules(config: Config, needs: dict[str, list[str]]) -> Iterator[Check]:
    if not config.rules:
        remedy = gettext("add [[rules]]; the shipped config.toml has examples")
        yield _note(gettext("there are no rules: nothing is analysed"), remedy)
    for rule in config.rules:
        if fault := _never_matches(rule) or _senders_rejected(rule, config):
            text = gettext("can never match: {reason}", reason=fault[0])
            yield Check(name=gettext("rule {rule}", rule=repr(rule.name)), good=False, found=text, remedy=fault[1])
        if rule.pipelines and not rule.destinations:
            text = gettext("rule {rule} has no destinations", rule=repr(rule.name))
            yield _note(text, gettext("add destinations, unless the rule is a trial"))
        if not config.orders.enabled and any(path.startswith(PREFIX) for path in (*rule.match, *rule.unless)):
            text = gettext("rule {rule} asks for orders, and [orders] is not enabled", rule=repr(rule.name))
            remedy = gettext("enable [orders] here, unless another machine of this ledger takes the messages")
            yield _note(text, remedy)
        for name in (*rule.pipelines, *rule.shadow):
            modalities = [m for m in needs.get(name, []) if _can_match(rule, m)]
            if needs.get(name) and not modalities:
                yield Check(
                    name=gettext("rule {rule}", rule=repr(rule.name)),
                    good=False,
                    found=gettext(
                        "pipeline {name} needs Modality {modalities}, which the rule does not match",
                        name=name,
                        modalities=gettext(" or ").join(needs[name]),
                    ),
                    remedy=gettext("correct Modality in [rules.match], or remove the pipeline from the rule"),
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
            return (
                gettext("[rules.unless] {path} excludes everything in match", path=path),
                gettext("remove {path} from match or from unless", path=path),
            )
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
    listed = ", ".join(rule.senders)
    return gettext("none of its senders ({senders}) is in [ae] callers", senders=listed), gettext(
        "add the AE title to callers"
    )


def _is_address(sender: str) -> bool:
    try:
        ipaddress.ip_network(sender, strict=False)
    except ValueError:
        return False
    return True


def _unused(config: Config) -> Iterator[Check]:
    for kind, defined, used in (
        (
            "pipelines",
            config.pipelines,
            {*config.returned, *(n for r in config.rules for n in (*r.pipelines, *r.shadow))},
        ),
        (
            "destinations",
            config.destinations,
            {n for r in config.rules for n in (*r.destinations, *r.send, *((r.prior.source,) if r.prior else ()))}
            | {n for destination in config.destinations.values() for n in destination.results_to},
        ),
    ):
        for name in defined:
            if name not in used:
                text = gettext("no rule uses [{table}]", table=f"{kind}.{name}")
                yield _note(text, gettext("name it in {key} of a rule, or remove it", key=kind))


def _titles(config: Config) -> Iterator[Check]:
    ours = config.ae.title.strip()
    for name, to in config.destinations.items():
        if to.host and to.title.strip() == ours:
            yield Check(
                name=gettext("destination {name}", name=name),
                good=False,
                found=gettext("has the same AE title as this node, {title}", title=repr(ours)),
                remedy=gettext(
                    "AE titles must be unique: change [ae] title, or title in [destinations.{name}]", name=name
                ),
            )


def _open_access(config: Config) -> Iterator[Check]:
    if not config.ae.callers and config.ae.address not in _LOOPBACK:
        yield _note(
            gettext(
                "[ae] callers is empty and address is {address}: any system in the network may send images",
                address=config.ae.address,
            ),
            gettext(
                "list the accepted callers: {example}", example='callers = [{ title = "CT1", address = "10.1.2.0/24" }]'
            ),
        )
    web = config.web
    if web.enabled and web.address not in _LOOPBACK and web.certificate is None:
        yield _note(
            gettext(
                "[web] address is {address} without a certificate: passwords cross the network unencrypted",
                address=web.address,
            ),
            gettext("set certificate and key, or listen on 127.0.0.1 behind a reverse proxy"),
        )


def _disk(config: Config) -> Iterator[Check]:
    total = space_of(config.storage.folder).total / 2**30 if config.storage.folder.exists() else None
    if total is not None and config.storage.min_free_gib >= total:
        yield Check(
            name="storage",
            good=False,
            found=gettext(
                "min_free_gib is {limit}, the whole disk has {total} GiB",
                limit=f"{config.storage.min_free_gib:g}",
                total=f"{total:.0f}",
            ),
            remedy=gettext("every image is refused: lower [storage] min_free_gib, or use a larger disk"),
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
            text = gettext("{key} is about results, and no rule sends any there", key=key)
            yield _note(text, gettext("remove it, or use keep_days of the rule"))
            continue
        images = {rule.name: default if rule.keep_days == "default" else rule.keep_days for rule in sending}
        if (shortest := min(images.values())) > to.keep_days:
            rule = next(rule for rule, days in images.items() if days == shortest)
            yield _note(
                gettext(
                    "{key} has no effect: rule {rule} keeps images for {days} days, and results stay with them",
                    key=key,
                    rule=repr(rule),
                    days=f"{shortest:g}",
                ),
                gettext(
                    "set keep_days of the rule to {days} or less, or remove that of the destination",
                    days=f"{to.keep_days:g}",
                ),
            )


def _quotas(config: Config) -> Iterator[Check]:
    """Report a quota that can delete nothing, because only delivered results are deleted."""
    for name, table in config.pipelines.items():
        if table.quota_gib and not any(name in rule.pipelines and rule.destinations for rule in config.rules):
            yield _note(
                gettext(
                    "{key} deletes nothing: no rule sends its results",
                    key=f"[pipelines.{name}] quota_gib = {table.quota_gib:g}",
                ),
                gettext("name a destination in the rule, or remove the quota"),
            )


def _note(text: str, remedy: str) -> Check:
    return Check(name=_NAME, good=True, found=text, remedy=remedy)
