"""Pages of the pipelines, and the switch that stops one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.inference.plugins import card_of, installed
from node.inference.task import HISTOGRAM_HU
from node.inference.tested_version import options_digest
from node.ledger.acceptances import accepted_with, unaccepted_versions
from node.ledger.analysis_statistics import latest_run_seconds, latest_statistics
from node.ledger.clock import clock_of, ledger_clock
from node.ledger.counts import JobCount, job_counts
from node.ledger.engine import begin_immediate
from node.ledger.jobs import has_jobs
from node.ledger.operator_switches import start_pipeline, stop_pipeline, stopped_pipelines
from node.ledger.progress import Progress
from node.ledger.promotions import active_promotions
from node.ledger.shadow import pipelines_in_shadow
from node.ledger.turnaround import DeliveredAnalysis, arrived_since, stages_by_pipeline
from node.operate.alerts import drift_of
from node.operate.drift import MEASURED
from node.operate.pipeline_obstacles import obstacle
from node.operate.stop_rules import resume_pipeline
from node.operate.turnaround import DAY_SECONDS, Turnaround, by_hour, median_stages, turnarounds
from node.translation import gettext, marked
from node.web import charts
from node.web import formatting as words
from node.web.app_context import AppContext, configured
from node.web.auth import UserRequest

_DRAWN = {"run_seconds": (marked("Run time"), "s"), **MEASURED, "host_mib": (marked("Peak memory"), "MiB")}
"""Columns of ``job_fact`` that are drawn over time, with name and unit."""
_LATEST = 1000


def pipelines(context: AppContext, user_request: UserRequest) -> Response:
    """Show all pipelines."""
    with context.engine.connect() as connection:
        halted, shadow = stopped_pipelines(connection), pipelines_in_shadow(connection)
        obstacles = {name: obstacle(connection, name) for name in context.config.pipelines}
        promoted = active_promotions(connection)
        accepted = {
            name: accepted_with(connection, options_digest(name, table))
            for name, table in context.config.pipelines.items()
            if table.require_acceptance
        }
        at = ledger_clock(connection)
        unaccepted = unaccepted_versions(connection, at - DAY_SECONDS)
        counts = job_counts(connection, recent_after=at - DAY_SECONDS)
        seconds = latest_run_seconds(connection, _LATEST)
        arrived = arrived_since(connection, at - DAY_SECONDS)
        staged = stages_by_pipeline(connection, arrived)
    entries = []
    for name in sorted({*context.config.pipelines, *(count.pipeline for count in counts)}):
        own = [count for count in counts if count.pipeline == name]
        outcomes, progress = _outcomes(own), _progress(own)
        entries.append(
            {
                "name": name,
                "configured": name in context.config.pipelines,
                "stopped": halted.get(name),
                "shadow": shadow.get(name),
                "promoted": next(
                    (promotion for promotion in promoted if name in (promotion.champion, promotion.candidate)), None
                ),
                "accepted": accepted.get(name),
                "unaccepted": [version for version in unaccepted if version.pipeline == name],
                "obstacle": obstacles.get(name) if name not in halted and progress[Progress.QUEUED] else None,
                "license": context.config.pipelines[name].license if name in context.config.pipelines else "",
                "jobs": sum(count.jobs for count in own),
                "day": sum(count.recent for count in own),
                "waiting": progress[Progress.QUEUED],
                "running": progress[Progress.RUNNING] + progress[Progress.ENCODING],
                "delivering": progress[Progress.DELIVERING],
                "outcomes": dict(outcomes.most_common()),
                "mix": charts.mix(dict(outcomes.most_common()), gettext("Outcomes of {name}", name=name)),
                "seconds": _median(seconds.get(name, ())),
                "turnaround": _by_scanner([analysis for analysis in arrived if analysis.pipeline == name]),
                "stages": median_stages(staged.get(name, ())),
            }
        )
    return context.page("pipelines.html", user_request, pipelines=entries)


def _outcomes(counts: Sequence[JobCount]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        if count.outcome:
            total[count.outcome] += count.jobs
    return total


def _progress(counts: Sequence[JobCount]) -> Counter[Progress]:
    total: Counter[Progress] = Counter()
    for count in counts:
        total[count.progress()] += count.jobs
    return total


def pipeline(context: AppContext, user_request: UserRequest) -> Response:
    """Show one pipeline: its model card, and how its input and output change over time."""
    name, latest = user_request.request.path_params["name"], context.config.notify.drift_analyses
    with context.engine.connect() as connection:
        facts = latest_statistics(connection, name, _LATEST)[::-1]
        changed = drift_of(connection, name, latest)
        known = name in context.config.pipelines or has_jobs(connection, name)
        halted, shadow = stopped_pipelines(connection).get(name), pipelines_in_shadow(connection).get(name)
        at = ledger_clock(connection)
        arrived = [
            analysis for analysis in arrived_since(connection, at - 7 * DAY_SECONDS) if analysis.pipeline == name
        ]
        staged = stages_by_pipeline(connection, arrived)
    if not known:
        raise HTTPException(404, gettext("There is no pipeline {name!r}.", name=name))
    ends = (words.time(facts[0]["at"]), words.time(facts[-1]["at"])) if facts else ("", "")
    drawn = []
    for column, (title, unit) in _DRAWN.items():
        points = [(fact["at"], fact[column]) for fact in facts if fact[column] is not None]
        words_of = (gettext(title), gettext(unit))
        drawn.append((*words_of, charts.over_time(points, words_of[1], words_of[0], ends)))
    times = [(analysis.arrived_at, analysis.seconds) for analysis in arrived[-_LATEST:]]
    spans = (words.time(times[0][0]), words.time(times[-1][0])) if times else ("", "")
    drawn.append((gettext("Turnaround"), "s", charts.over_time(times, "s", gettext("Turnaround"), spans)))
    scores = [float(score) for fact in facts for score in fact["scores"]]
    outcomes = Counter(fact["outcome"] for fact in facts).most_common()
    levels = [fact["histogram"] for fact in facts if len(fact["histogram"]) == len(range(*HISTOGRAM_HU))]
    return context.page(
        "pipeline.html",
        user_request,
        name=name,
        stopped=halted,
        shadow=shadow,
        configured=name in context.config.pipelines,
        analyses=len(facts),
        turnaround=_by_scanner(arrived),
        stages=median_stages(staged.get(name, ())),
        hours=[(words.time(hour), turnaround) for hour, turnaround in by_hour(arrived) if hour > at - DAY_SECONDS],
        drift=changed,
        charts=drawn,
        scores=charts.histogram(scores, "", gettext("Scores of findings")),
        levels=charts.profiles(levels[:-latest] if latest else (), levels[-latest:], HISTOGRAM_HU[:2], "HU"),
        scanners=Counter(fact["scanner"] or gettext("unnamed") for fact in facts).most_common(8),
        outcomes=charts.mix(dict(outcomes), gettext("Outcomes")),
        mixed=outcomes,
        card=_card(context, name),
    )


def switch_pipeline(context: AppContext, user_request: UserRequest) -> Response:
    """Stop or start one."""
    name = configured(user_request.request.path_params["name"], context.config.pipelines)
    with begin_immediate(context.engine) as connection:
        if user_request.form.get("to") == "stop":
            stop_pipeline(connection, name, user_request.user.name)
        else:
            start_pipeline(connection, name)
    if user_request.form.get("to") != "stop":
        context.jobs.reconcile(clock_of(context.engine))
    return RedirectResponse("/pipelines", 303)


def resume(context: AppContext, user_request: UserRequest) -> Response:
    """Send the results of a pipeline again that its stop rule has stopped."""
    name, request = user_request.request.path_params["name"], user_request.request
    resume_pipeline(
        context.engine,
        name,
        reason=user_request.form.get("reason", ""),
        who=user_request.user.name,
        address=request.client.host if request.client else "",
    )
    return RedirectResponse("/pipelines", 303)


def _card(context: AppContext, name: str) -> Markup:
    """Return the model card of the pipeline's package; empty when there is none. HTML in it is shown as text."""
    table = context.config.pipelines.get(name)
    module = (table.factory or installed().get(name, "")).partition(":")[0] if table else ""
    path = card_of(module)
    if path is None:
        return Markup()
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    rendered = reader.render(path.read_text(encoding="utf-8")).replace("<th></th>", "<td></td>")  # no header at all
    rendered = rendered.replace("<pre>", '<pre tabindex="0">')  # the keyboard scrolls it where it is too wide
    return Markup(rendered)  # noqa: S704 - rendered with HTML switched off


def _by_scanner(arrived: Sequence[DeliveredAnalysis]) -> list[tuple[str, Turnaround]]:
    return [(turnaround.scanner or gettext("not named"), turnaround) for turnaround in turnarounds(arrived)]


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
