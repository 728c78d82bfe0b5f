"""``ainode rules``: test rules on files, or replay them on received series; ``ainode reroute``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import (
    config_option,
    echo,
    in_language_of_user,
    json_option,
    load,
    print_json,
    progress_bar,
)
from node.translation import gettext, ngettext
from node.translation.cells import cells, padded

if TYPE_CHECKING:
    from node.config import Config, Rule
    from node.routing.replay import Change, Replay
    from node.routing.replay_decisions import SeriesFiles
    from node.routing.replay_regions import Readers

_UNITS = {"h": 3600.0, "d": 86400.0}


class _Span(click.ParamType[float]):
    """Converts ``30d`` or ``12h`` to seconds."""

    name = "SPAN"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+)([hd])", str(value))
        if match is None:
            self.fail(f"{value!r}: give hours or days, such as 12h or 30d", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.group()
def rules() -> None:
    """Test rules on files or on received series."""


@rules.command()
@config_option
@json_option
@click.option("--sender", metavar="TITLE@ADDRESS", help="Assumed sender of the files, for rules with senders.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@in_language_of_user
def test(*, config_path: Path, as_json: bool, sender: str | None, files: tuple[Path, ...]) -> None:
    """Show which rules match series in files and folders, and why.

    Needs neither network nor ledger.

    Each study is assumed to be complete and just received.
    """
    from node.ledger.engine import now
    from node.operate.characteristics import characteristic_lines
    from node.operate.explain_text import describe_trace
    from node.routing.replay_decisions import SeriesFiles
    from node.routing.replay_regions import Readers, pixel_reader
    from node.routing.rules import Origin
    from node.studies.attributes import attributes
    from node.studies.folder import file_reader, series_below

    config = load(config_path)
    with progress_bar("reading headers", hidden=as_json) as show:
        groups, skipped = series_below(files, show)
    title, _, address = (sender or "").partition("@")
    origin = Origin.of([(title, address)] if sender else [], now(), config.destinations)
    studies: dict[str, list[SeriesFiles]] = {}
    for (study_uid, series_uid), paths in groups.items():
        series = SeriesFiles(series_instance_uid=series_uid, paths=tuple(paths), origin=origin)
        studies.setdefault(study_uid, []).append(series)
    paths_of_all = [path for paths in groups.values() for path in paths]
    with closing(file_reader(paths_of_all)) as reader, closing(pixel_reader(paths_of_all)) as pixels:
        headers = {
            key: reader.call(f"series {key[1]}", attributes, paths[0], ("Modality", "SeriesDescription"))
            for key, paths in groups.items()
        }
        of_ct = {uid for (_, uid), header in headers.items() if header["Modality"] == "CT"}
        readers = Readers(headers=reader, pixels=pixels)
        answers = [
            answer for uid, study in studies.items() for answer in _answers(uid, study, config.rules, of_ct, readers)
        ]
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        header = headers[answer["study_instance_uid"], answer["series_instance_uid"]]
        of = {"series": answer["series_instance_uid"], "images": answer["images"]}
        echo(gettext("series {series}, {images} images", **of))
        echo(f"  {header['Modality']} {header['SeriesDescription']!r}")
        for line in characteristic_lines(answer["characteristics"]):
            echo(f"  {line}")
        echo(f"  {gettext(answer['outcome'])}: {answer['reason']}")
        for route in answer["routes"]:
            echo(f"  -> {_route(route)}")
        for line in describe_trace(answer["trace"]):
            echo(line)
    if skipped:
        echo(ngettext("{number} file is not DICOM", "{number} files are not DICOM", skipped))


def _answers(
    study_uid: str, study: Sequence[SeriesFiles], rules: Sequence[Rule], of_ct: Collection[str], readers: Readers
) -> Iterator[dict[str, Any]]:
    """Yield the decision on each series of a study, with its characteristics."""
    from node.reasons import reason_text, trace_in_words
    from node.routing.replay_decisions import characteristics_of_files
    from node.routing.replay_regions import decide_with_pixels

    decisions, seen = decide_with_pixels(study_uid, study, rules, of_ct, readers)
    paths = {series.series_instance_uid: series.paths for series in study}
    for uid, decision in decisions.items():
        characteristics = readers.headers.call(f"series {uid}", characteristics_of_files, paths[uid])
        yield {
            "study_instance_uid": study_uid,
            "series_instance_uid": uid,
            "images": len(paths[uid]),
            **asdict(decision),
            "reason": reason_text(decision.reason),
            "trace": trace_in_words(decision.trace),
            "characteristics": {
                name: asdict(characteristic) for name, characteristic in {**characteristics, **seen[uid]}.items()
            },
        }


def _route(route: Mapping[str, Any]) -> str:
    """Return what goes where, in words."""
    from node.config import FORWARD
    from node.ledger.states import priority_word

    pipeline = {"pipeline": route["pipeline"]}
    if route["shadow"]:
        return gettext("{pipeline}, tried in shadow; results are sent to no destination", **pipeline)
    to = {"destinations": _names(route["destinations"]), "priority": gettext(priority_word(route["priority"]))}
    if route["pipeline"] == FORWARD:
        return gettext("images to {destinations} ({priority} priority)", **to)
    return gettext("{pipeline}, results to {destinations} ({priority} priority)", **pipeline, **to)


@rules.command()
@config_option
@json_option
@click.option("--since", type=_Span(), default="30d", show_default=True, help="Time to look back: 12h, 30d.")
@click.argument("new_config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@in_language_of_user
def replay(*, config_path: Path, as_json: bool, since: float, new_config: Path) -> None:
    """List series that NEW_CONFIG would route differently.

    Reads received series; nothing is run.

    Studies that retention has deleted are not included.
    """
    replayed = _replayed(load(config_path), load(new_config), since)
    if as_json:
        print_json(asdict(replayed))
        return
    for change in replayed.changes:
        _echo_change(change)
    of = {"series": replayed.series, "changes": len(replayed.changes)}
    echo(gettext("{series} series checked, {changes} would be routed differently", **of))
    if replayed.unreadable:
        echo(
            ngettext(
                "{number} series no longer has a readable file",
                "{number} series no longer have a readable file",
                len(replayed.unreadable),
            )
        )


@click.command()
@config_option
@click.option("--since", type=_Span(), default="30d", show_default=True, help="Time to look back: 12h, 30d.")
@click.option("--rule", metavar="NAME", help="Only series that this rule matches.")
@click.option("--apply", is_flag=True, help="Route the series; without it they are only listed.")
@in_language_of_user
def reroute(*, config_path: Path, since: float, rule: str | None, apply: bool) -> None:
    """Apply the present rules to series that were ignored.

    Series that were routed before are left as they are; so are series whose files retention has deleted. Reload the
    node first: its router decides by the rules that it has loaded.
    """
    from node.errors import NotFoundError
    from node.ledger.clock import clock_of
    from node.routing.reroute import newly_routed
    from node.routing.reroute import reroute as reopen
    from node.service import open_storage

    config = load(config_path)
    if rule is not None and rule not in {configured.name for configured in config.rules}:
        raise NotFoundError(f"--rule {rule!r}: {config_path} has no rule of this name")
    changes = newly_routed(_replayed(config, config, since).changes, rule)
    for change in changes:
        _echo_change(change)
    if apply:
        engine, _ = open_storage(config)
        again = reopen(engine, changes, clock_of(engine))
        echo(
            ngettext(
                "{number} series is decided on again; `ainode explain` shows how",
                "{number} series are decided on again; `ainode explain` shows how",
                again,
            )
        )
    else:
        echo(
            ngettext(
                "{number} series would be routed; nothing was changed, --apply routes it",
                "{number} series would be routed; nothing was changed, --apply routes them",
                len(changes),
            )
        )


def _replayed(config: Config, rules: Config, since: float) -> Replay:
    """The rules of one configuration on the series of another one, with a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    from node.ledger.clock import clock_of
    from node.routing.replay import replay as look_back
    from node.service import open_storage

    engine, spool = open_storage(config)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("studies", total=None)
        return look_back(
            engine,
            spool,
            rules,
            clock_of(engine) - since,
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )


def _echo_change(change: Change) -> None:
    from node.operate.explain_text import describe_trace

    echo(gettext("study {study}", study=change.study_instance_uid))
    of = {"series": change.series_instance_uid, "modality": change.modality, "images": change.images}
    echo(gettext("  series {series}: {modality}, {images} images", **of))
    names = gettext("was"), gettext("would be")
    width = max(map(cells, names))
    for name, routes, why in zip(
        names, (change.before, change.after), (change.before_reason, change.after_reason), strict=True
    ):
        echo(f"  {padded(name, width)} {_routes(routes)}: {why}")
    for line in describe_trace(change.trace):
        echo(line)


def _routes(routes: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{pipeline} -> {_names(to)}" for pipeline, to in routes.items()) or gettext("ignored")


def _names(destinations: Sequence[str]) -> str:
    return ", ".join(destinations) or gettext("no destination")


VERBS = (rules, reroute)
