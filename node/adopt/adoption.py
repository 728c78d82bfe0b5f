"""A model taken over: copied, loaded once, its proposal made, and written where the node tries it in shadow."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.adopt.metadata import ModelMetadata
from node.adopt.model_metadata import metadata_of
from node.adopt.proposal import Proposal, proposal_for
from node.adopt.rule_proposal import RuleProposal, beside_champion, rule_of_its_own
from node.adopt.tables_text import tables_text
from node.config import Config
from node.config.loader import parse
from node.config.rules_text import rules_text
from node.errors import ConfigError
from node.inference.model_store import Model, add, stored
from node.inference.model_trial import ModelTrial, model_trial
from node.operate.rules_file import FOLDER as VERSIONS
from node.operate.rules_file import RulesFile
from node.wording import NOTICE

FOLDER = "adopted"
"""Under ``[storage] folder``: proposal and card of each model."""
_PROPOSAL = "proposal.toml"
_HEAD = f"""\
# Proposal of `ainode adopt`. What is marked as a guess is not stated by the model: check it.
# In shadow nothing of it leaves this node. {NOTICE}
"""


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """A model in the store, what it says of itself, and what is proposed."""

    metadata: ModelMetadata
    trial: ModelTrial
    proposal: Proposal
    rule: RuleProposal

    @property
    def name(self) -> str:
        """Of the pipeline."""
        return self.proposal.model.name

    @property
    def missing(self) -> tuple[str, ...]:
        """What must be given before it can run, a sentence each."""
        return self.proposal.missing + self.rule.missing

    @property
    def text(self) -> str:
        """Tables and rule."""
        return f"{_HEAD}\n{tables_text(self.proposal)}\n{self.rule.shown.rstrip()}\n"


def adopt_model(
    source: str, config: Config, *, sha256: str | None, name: str | None, given: Mapping[str, Any], champion: str | None
) -> Adoption:
    """Add a model to the store, or take it from there, load it once in a confined process, and propose its tables.

    ``given``: options of the user; ``champion``: the pipeline beside which it is tried. Raises what
    ``node.inference.model_store.add`` raises, ``ConfigError`` when the pipeline is configured already, and
    ``NotFoundError`` when no rule sends the champion.
    """
    examined: list[tuple[ModelMetadata, ModelTrial]] = []

    def examine(model: Model) -> None:
        metadata = metadata_of(model.path, model.factory)
        options = proposal_for(model, metadata, given).values
        examined.append((metadata, model_trial(model, config, options)))

    model = stored(source, config.storage.folder, name)
    if model is None:
        model = add(source, config.storage.folder, sha256=sha256, name=name, examine=examine)
    else:
        examine(model)
    ((metadata, trial),) = examined
    proposal = proposal_for(model, metadata, given)
    return Adoption(
        metadata=metadata, trial=trial, proposal=proposal, rule=_rule(config, proposal, metadata, trial, champion)
    )


def check_name(config: Config, name: str) -> None:
    """Raise ``ConfigError`` when a pipeline of this name is configured already."""
    if name in config.pipelines:
        raise ConfigError(f"[pipelines.{name}] exists already; give another --name, or remove the table first")


def _rule(
    config: Config, proposal: Proposal, metadata: ModelMetadata, trial: ModelTrial, champion: str | None
) -> RuleProposal:
    name = proposal.model.name
    if champion is not None:
        return beside_champion(config, champion, name, proposal.series)
    given = proposal.options.get("modality")
    modality = given.value if given is not None else metadata.modality
    needs = trial.description.needs if trial.description is not None else {"modalities": [modality] if modality else []}
    return rule_of_its_own(name, needs, proposal.series, given.guess if given is not None else "")


def write_proposal(adoption: Adoption, storage: Path) -> Path:
    """Write the proposal to the folder of the model, and return its path."""
    folder = storage / FOLDER / adoption.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _PROPOSAL
    path.write_text(adoption.text, encoding="utf-8")
    return path


def with_pipeline(text: str, adoption: Adoption, origin: str) -> Config:
    """Return the configuration with the tables of the model and without its rule. Raises ``ConfigError``."""
    return parse(f"{text.rstrip()}\n\n{tables_text(adoption.proposal)}", origin)


def write_config(path: Path, storage: Path, adoption: Adoption, *, who: str) -> int:
    """Write tables and rule as one version of the rules, and return its number.

    Raises ``ConfigError`` for every fault that `ainode check` finds in a file, ``PlatformError`` when it cannot be
    written.
    """
    file = RulesFile(path=path, folder=storage / VERSIONS, reload=lambda: None)
    text = file.whole()
    part = adoption.rule.part(text, adoption.name)
    why = f"adopted model {adoption.name} in shadow"
    tables = tables_text(adoption.proposal)
    return file.apply(part, instead_of=rules_text(text), who=who, why=why, tables=tables).number


def given_options(options: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` with a value as TOML. Raises ``ConfigError``."""
    given: dict[str, Any] = {}
    for option in options:
        try:
            given |= tomllib.loads(option)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                f"--option {option}: {error}; write a key and a value as in config.toml, such as 'modality=\"CT\"'"
            ) from None
    if "sha256" in given:
        raise ConfigError("--option sha256: the digest is that of the model; give --sha256 to compare it")
    return given
