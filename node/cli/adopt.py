"""``ainode adopt``: a model of somebody else, from its folder to shadow mode."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import config_option, confirmed, echo, json_option, load, local_user, print_json, progress_bar
from node.errors import ConfigError, GateError, InputError, NodeError, PipelineError
from node.wording import NOTICE

if TYPE_CHECKING:
    from node.adopt.adoption import Adoption
    from node.config import Config
    from node.inference.try_pipeline import SeriesTrial, Trial

_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@dataclass(frozen=True, kw_only=True)
class _Images:
    """On what the model is tried."""

    series: Path | None
    truth: Path | None
    companions: tuple[str, ...]
    """``NAME=FOLDER``."""
    device: str


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What was measured here."""

    trial: Trial | None = None
    report: str = ""
    """Id of the acceptance report."""
    acceptance: str = ""
    lines: list[str] = field(default_factory=list)
    """One for each series that was tried."""


@click.command()
@config_option
@json_option
@click.option("--name", help="Name of the pipeline. Default: the name of the folder or file.")
@click.option("--sha256", help="Expected SHA-256 of the content; required for a download.")
@click.option("--series", type=_folder, help="Run the model on the series of this folder; states time and memory.")
@click.option("--truth", type=_folder, help="Segmentations or structure sets of these series: run the acceptance test.")
@click.option("--champion", metavar="PIPELINE", help="Try it on the series of this pipeline; without it: a new rule.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the model, as TOML; repeatable."
)
@click.option(
    "--companion",
    "companions",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A companion as a rule would give it; may be given several times.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or a CUDA device such as cuda:0.")
@click.option("--yes", is_flag=True, help="Write the proposal to the configuration without a question.")
@click.argument("source")
def adopt(
    *,
    config_path: Path,
    as_json: bool,
    name: str | None,
    sha256: str | None,
    series: Path | None,
    truth: Path | None,
    champion: str | None,
    options: tuple[str, ...],
    companions: tuple[str, ...],
    device: str,
    yes: bool,
    source: str,
) -> None:
    """Take over a model: propose its tables, try it, write it.

    SOURCE is a results folder of nnU-Net v2, a MONAI Bundle, or an ONNX, TorchScript or ExportedProgram file. It is
    copied and loaded once, confined. Proposes pipeline, rule and codes of its structures, marks what is a guess, and
    writes the frame of a model card. The configuration is changed only with --yes or after a question; the model then
    runs in shadow: no destination gets its results.
    """
    from node.adopt.adoption import adopt_model, check_name, given_options, write_proposal
    from node.adopt.rule_proposal import champion_rules
    from node.inference.model_store import model_name

    config = load(config_path)
    given = given_options(options)
    check_name(config, model_name(source, name))
    if champion is not None:
        champion_rules(config, champion)
    adoption = adopt_model(source, config, sha256=sha256, name=name, given=given, champion=champion)
    if not as_json:
        _show(adoption)
    images = _Images(series=series, truth=truth, companions=companions, device=device)
    measured = _measured(config_path, config, adoption, images, hidden=as_json)
    proposal = write_proposal(adoption, config.storage.folder)
    card = _write_card(config, adoption, measured)
    if not as_json:
        for line in measured.lines:
            echo(line)
        if measured.acceptance:
            echo(f"\nacceptance report {measured.report}\n{measured.acceptance}")
        echo(f"\nproposal: {proposal}\nmodel card, to be completed: {card}")
    fault = _fault(adoption, measured)
    written = 0
    if fault is None and (yes or (not as_json and _confirmed(config_path))):
        written = _write(config_path, config, adoption)
    if as_json:
        print_json(_document(adoption, measured, proposal, card, written))
    else:
        _show_end(config_path, adoption, written, champion, fault)
    if fault is not None and (yes or measured.trial is not None):
        raise fault


def _show_end(
    config_path: Path, adoption: Adoption, written: int, champion: str | None, fault: NodeError | None
) -> None:
    """Say what became of the configuration, and what comes next."""
    if written:
        echo(f"{config_path}: written, version {written} of the rules, which the dashboard can take back.")
        echo("Have the node read it: systemctl reload 'ainode*'. It then runs the model in shadow: no destination gets")
        echo(f"its results; {_next(champion, adoption.name)}.")
    elif fault is None:
        echo(f"{config_path} was not changed; paste the proposal and run `ainode check`, or repeat this with --yes.")
    else:
        echo(f"{config_path} was not changed: {fault}")


def _show(adoption: Adoption) -> None:
    from node.inference.pipeline_description import needs_text

    echo(f"{NOTICE}\n\n{adoption.proposal.model.path}\n")
    if adoption.metadata.fault:
        echo(f"It states nothing of itself: {adoption.metadata.fault}.\n")
    if (of := adoption.trial.description) is not None:
        echo(f"It loads: {of.algorithm} {of.version}, for series with {needs_text(of.needs)}.\n")
    else:
        echo(f"It does not load yet: {adoption.trial.fault}.\n")
    echo(adoption.text)
    for sentence in adoption.missing:
        echo(f"missing: {sentence}")


def _measured(config_path: Path, config: Config, adoption: Adoption, images: _Images, *, hidden: bool) -> _Measured:
    """Run the model where images are given and it loads."""
    from node.adopt.adoption import with_pipeline
    from node.cli.acceptance import read_truth, record_report, run_test
    from node.cli.try_pipeline import companion_folders
    from node.config.loader import read
    from node.feedback.acceptance_report import as_document, as_text
    from node.inference.try_pipeline import run_trial
    from node.service import open_storage

    series, truth, device = images.series, images.truth, images.device
    if adoption.trial.description is None or (series is None and truth is None):
        return _Measured()
    candidate = with_pipeline(read(config_path), adoption, str(config_path))
    trial, text, report = None, "", ""
    with progress_bar("reading headers", hidden=hidden) as show:
        if series is not None:
            table = candidate.pipelines[adoption.name]
            others = companion_folders(images.companions)
            trial = run_trial(adoption.name, table, series, None, device=device, progress=show, companions=others)
        if truth is not None:
            of = read_truth(config, truth, None, show, images=series)
            acceptance, _ = run_test(candidate, adoption.name, device, of, show)
            engine, _ = open_storage(config)
            report, text = record_report(engine, acceptance, as_document(acceptance)).id, as_text(acceptance)
    lines = [_run_line(run, trial.device) for run in trial.series] if trial is not None else []
    return _Measured(trial=trial, report=report, acceptance=text, lines=lines)


def _run_line(run: SeriesTrial, device: str) -> str:
    from node.cli.try_pipeline import cost_text
    from node.outcome import ANALYSED

    line = f"{run.modality}, {run.images} images: {run.outcome}"
    if run.outcome not in ANALYSED:
        return f"{line}: {run.reason}"
    gate = f"DID NOT PASS THE GATE: {run.fault}" if run.fault else "passed the gate"
    return f"{line}; {cost_text(run, device)}; {gate}"


def _write_card(config: Config, adoption: Adoption, measured: _Measured) -> Path:
    from node.adopt.adoption import FOLDER
    from node.adopt.model_card import CardFigures, card_text, write_card
    from node.inference.pipeline_description import needs_text

    of = adoption.trial.description
    figures = CardFigures(
        algorithm=f"{of.algorithm} {of.version}" if of is not None else "",
        needs=needs_text(of.needs) if of is not None else "",
        fault=adoption.trial.fault,
        runs=[f"- {line}" for line in measured.lines],
        acceptance=measured.acceptance,
    )
    text = card_text(adoption.proposal, adoption.metadata, figures, adoption.proposal.model.path)
    return write_card(config.storage.folder / FOLDER / adoption.name, text)


def _fault(adoption: Adoption, measured: _Measured) -> NodeError | None:
    """Why the model must not be configured as it is; ``None``: nothing speaks against it."""
    from node.outcome import ANALYSED, Outcome

    if adoption.missing:
        return ConfigError(f"{adoption.name} was not configured: {'; '.join(adoption.missing)}")
    if adoption.trial.fault:
        return PipelineError(f"{adoption.name} was not configured, because it does not load: {adoption.trial.fault}")
    series = measured.trial.series if measured.trial is not None else ()
    for run in series:
        if run.fault:
            return GateError(f"series {run.series_instance_uid}: its result is not valid and would not be sent")
        if run.outcome == Outcome.FAILED:
            return PipelineError(f"series {run.series_instance_uid}: {run.reason}")
    if series and not any(run.outcome in ANALYSED for run in series):
        return InputError(
            f"{adoption.name} was not configured: it analysed none of the {len(series)} series ({series[0].reason}); "
            "give --series with one that it is for"
        )
    return None


def _confirmed(config_path: Path) -> bool:
    """Ask; no answer is no."""
    try:
        return confirmed(f"\nWrite it to {config_path}, in shadow")
    except click.Abort:
        echo("")
        return False


def _write(config_path: Path, config: Config, adoption: Adoption) -> int:
    from node.adopt.adoption import write_config
    from node.ledger.audit_events import give_notice
    from node.ledger.states import NoticeKind
    from node.service import open_storage

    engine, _ = open_storage(config)
    version = write_config(config_path, config.storage.folder, adoption, who=local_user())
    model = adoption.proposal.model
    detail = f"adopted model {model.name} {model.sha256} in shadow, version {version} of the rules"
    give_notice(engine, NoticeKind.ACT, who=local_user(), detail=detail)
    return version


def _next(champion: str | None, name: str) -> str:
    return f"`ainode trial report {champion} {name}` compares both" if champion else "the dashboard shows them"


def _document(adoption: Adoption, measured: _Measured, proposal: Path, card: Path, written: int) -> dict[str, Any]:
    return {
        "model": asdict(adoption.proposal.model),
        "metadata": asdict(adoption.metadata),
        **asdict(adoption.trial),
        "proposal": adoption.text,
        "missing": list(adoption.missing),
        "trial": asdict(measured.trial) if measured.trial is not None else None,
        "acceptance_report": measured.report or None,
        "proposal_path": proposal,
        "card_path": card,
        "version": written or None,
    }


VERBS = (adopt,)
