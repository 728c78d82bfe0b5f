"""The rule that tries a model in shadow: that of its champion, or a new one for the series that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.adopt.channel_series import ChannelSeries
from node.adopt.table_lines import line_of, table_header
from node.config import Config
from node.config.rules_text import rules_text
from node.config.shadow_text import with_shadow
from node.config.table import suggest
from node.errors import NotFoundError

_BY_NAME = "from the name of the channel"
_ORIGINAL = ["original", "unknown"]


@dataclass(frozen=True, kw_only=True)
class RuleProposal:
    """A new rule, or a change of existing ones."""

    shown: str
    """What is new, as text for `config.toml`, or as a comment that says what to change."""
    beside: tuple[str, ...]
    """Names of the rules whose ``shadow`` gets the pipeline; empty: ``shown`` is a rule of its own."""
    missing: tuple[str, ...]
    """What must be given before it can be written."""

    def part(self, text: str, name: str) -> str:
        """Rules and destinations of the file with pipeline ``name``. Raises ``ConfigError`` when that is impossible."""
        before = rules_text(text)
        if self.beside:
            return with_shadow(before, self.beside, name)
        return f"{before.rstrip()}\n\n{self.shown}".lstrip()


def champion_rules(config: Config, champion: str) -> tuple[str, ...]:
    """Names of the rules that send results of ``champion``. Raises ``NotFoundError`` when there is none."""
    names = tuple(rule.name for rule in config.rules if champion in rule.pipelines)
    if not names:
        sent = sorted({name for rule in config.rules for name in rule.pipelines})
        known = ", ".join(sent) or "no pipeline"
        raise NotFoundError(
            f"--champion {champion!r}: no rule sends its results{suggest(champion, sent)}; rules send those of {known}"
        )
    return names


def beside_champion(config: Config, champion: str, name: str, series: ChannelSeries) -> RuleProposal:
    """Try pipeline ``name`` on every series of ``champion``. Raises ``NotFoundError`` when no rule sends it."""
    names = champion_rules(config, champion)
    lacks = [
        f"companions.{key}: rule {rule.name!r} lacks it; add [rules.companions.{key}] to it, or leave --champion out"
        for rule in config.rules
        if rule.name in names
        for key in series.companions
        if key not in rule.companions
    ]
    shown = "\n".join(f"# In [[rules]] {rule!r}, below the champion {champion!r}:\n# {_shadow(name)}" for rule in names)
    return RuleProposal(shown=shown, beside=names, missing=tuple(lacks))


def rule_of_its_own(name: str, needs: Mapping[str, Any], series: ChannelSeries, modality_guess: str) -> RuleProposal:
    """Try pipeline ``name`` on the series that meet ``needs``; ``modality_guess``: why the modality is a guess."""
    lines = [table_header("rules", array=True), line_of("name", f"{name} in shadow"), _shadow(name)]
    lines += ["[rules.match]", *_match(needs, series, modality_guess)]
    missing = []
    if not needs.get("modalities"):
        missing.append("Modality: nothing says for which series it is; give --option modality=")
    for companion, conditions in series.companions.items():
        lines.append(table_header("rules", "companions", companion))
        if conditions:
            lines.append(line_of("match", conditions, f"guess: {_BY_NAME}"))
        else:
            lines.append("# match: the name does not say which series this is; fill in its conditions")
            why = "its name does not say which series it is"
            missing.append(f"companions.{companion}: {why}; paste the proposal and fill in its match")
    shown = "\n".join(lines) + "\n"
    return RuleProposal(shown=shown, beside=(), missing=tuple(missing))


def _shadow(name: str) -> str:
    return line_of("shadow", [name])


def _match(needs: Mapping[str, Any], series: ChannelSeries, modality_guess: str) -> list[str]:
    lines = []
    if modalities := needs.get("modalities"):
        value = modalities[0] if len(modalities) == 1 else list(modalities)
        lines.append(line_of("Modality", value, f"guess: {modality_guess}" if modality_guess else ""))
    if parts := needs.get("body_parts"):
        lines.append(line_of("BodyPartExamined", [*parts, ""]))
    if planes := needs.get("planes"):
        lines.append(line_of("plane", list(planes)))
    if spacing := needs.get("max_slice_spacing_mm"):
        lines.append(line_of("slice_spacing_mm", f"0-{spacing:g}"))
    if coverage := needs.get("min_coverage_mm"):
        lines.append(line_of("coverage_mm", f"{coverage:g}-"))
    lines += [line_of(name, wanted, f"guess: {_BY_NAME}") for name, wanted in series.match.items()]
    return [*lines, line_of("image_kind", _ORIGINAL, "guess: no reformatted, derived or phase images")]
