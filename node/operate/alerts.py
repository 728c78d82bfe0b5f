"""Alerts: current problems under stable names. They contain job UIDs, never patient data."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from node.config import Config
from node.ledger.acceptances import unaccepted_versions
from node.ledger.alerts import discontinued_series, failed_jobs, has_active_jobs, jobs_without_progress
from node.ledger.analysis_statistics import latest_statistics
from node.ledger.claimed_workitems import stuck_claims
from node.ledger.counts import DeliveryCount, delivery_counts, first_and_last_image
from node.ledger.destination_circuits import circuits
from node.ledger.held_series import held
from node.ledger.missing_copies import count_missing_copies
from node.ledger.order_messages import rejected_messages
from node.ledger.patient_changes import ChangeKind, changed_studies
from node.ledger.pipeline_failures import failing_pipelines
from node.ledger.published_rules import file_states
from node.ledger.shadow import pipelines_in_shadow
from node.ledger.states import ACTIVE
from node.ledger.undecided import undecided_series
from node.ledger.worklist_queries import unanswered_queries
from node.operate.account.description import describe_held
from node.operate.account.rows import COPY_SECONDS, ROWLESS_SECONDS
from node.operate.drift import BEFORE, drift
from node.operate.explain import clock
from node.operate.fleet import differing_tables
from node.operate.fleet_machines import clock_alerts, low_space_text
from node.operate.object_store_alerts import object_store_alerts
from node.operate.pipeline_obstacles import offered_pipelines, without_worker
from node.operate.returned_alerts import returned_alerts
from node.operate.status import by_role, lost_receivers
from node.process.port_lock import bind_error, is_own_port
from node.reasons import reason_text
from node.spool import Spool
from node.translation import gettext, ngettext

_DAY_SECONDS = 86400.0
_WORKLIST_SECONDS = 600.0
"""After which a worklist that does not answer is reported."""


def current_alerts(config: Config, connection: sa.Connection, spool: Spool, at: float) -> dict[str, str]:
    """Return all alerts that this machine can see: name -> sentence. ``at``: now, in seconds since 1970 UTC."""
    return ledger_alerts(config, connection, at) | machine_alerts(config, spool)


def machine_alerts(config: Config, spool: Spool) -> dict[str, str]:
    """Return what only a machine with this storage folder can see."""
    alerts, space, least = {}, spool.space(), config.storage.min_free_gib
    if space.is_below(least * config.notify.disk_factor):
        alerts["disk"] = low_space_text(space, least)
    if rowless := spool.drafts.without_row(ROWLESS_SECONDS):
        alerts["rows"] = gettext(
            "{images} received images have no row in the ledger and are not analysed; the receiver's log says why",
            images=rowless,
        )
    return alerts | _web_port(config, spool)


def ledger_alerts(config: Config, connection: sa.Connection, at: float) -> dict[str, str]:
    """Return what every machine sees in the ledger."""
    wanted, alerts = config.notify, {}
    for stage in jobs_without_progress(connection, at - wanted.queue_minutes * 60):
        alerts[f"queue {stage.name}"] = gettext(
            "{jobs} jobs wait in stage {stage}; the oldest has not moved since {time}",
            jobs=stage.number,
            stage=gettext(stage.name),
            time=clock(stage.oldest),
        )
    alerts |= _undecided(connection, at - wanted.queue_minutes * 60)
    for failed in failed_jobs(connection, at - wanted.failed_hours * 3600) if wanted.failed_hours else ():
        alerts[f"failed {failed.name}"] = ngettext(
            "{number} job of pipeline {pipeline} failed since {time}",
            "{number} jobs of pipeline {pipeline} failed since {time}",
            failed.number,
            pipeline=failed.name,
            time=clock(failed.oldest),
        )
    alerts |= _pipelines(connection) | _in_shadow(connection) | _unaccepted(connection, at - _DAY_SECONDS)
    alerts |= _discontinued(connection, at - wanted.failed_hours * 3600) | returned_alerts(config, connection, at)
    down = [circuit for circuit in circuits(connection) if circuit.opened_at is not None and not circuit.paused]
    deliveries = delivery_counts(connection) if down else ()
    for circuit in down:
        alerts[f"destination {circuit.destination}"] = gettext(
            "destination {destination} is down since {time}, {deliveries} deliveries wait: {error}",
            destination=circuit.destination,
            time=clock(circuit.opened_at),
            deliveries=_waiting(deliveries, circuit.destination),
            error=circuit.error,
        )
    alerts |= {
        f"identity {held_series.job_id or held_series.series_instance_uid}": describe_held(held_series)
        for held_series in held(connection)
    }
    drifted = {name: drift_of(connection, name, wanted.drift_analyses) for name in config.pipelines}
    alerts |= {
        f"drift {name}": gettext(
            "what pipeline {pipeline} gets or finds has changed. {changes}", pipeline=name, changes="; ".join(changed)
        )
        for name, changed in drifted.items()
        if changed
    }
    alerts |= object_store_alerts(config, connection, at)
    alerts |= _lost(connection) | _copies(connection, at) | _orders(connection, at) | _configuration(connection)
    alerts |= clock_alerts(connection)
    _, last = first_and_last_image(connection)
    if wanted.silence_hours and last is not None and last < at - wanted.silence_hours * 3600:
        alerts["silence"] = gettext("no image came since {time}", time=clock(last))
    roles = by_role(connection)
    for role in ("worker", "sender"):
        if not roles.get(role) and has_active_jobs(connection):
            alerts[f"no {role}"] = gettext("no {role} is alive, and jobs wait", role=gettext(role))
    return alerts


def drift_of(connection: sa.Connection, pipeline: str, latest: int) -> list[str]:
    """How the ``latest`` analyses of a pipeline differ from those before; nothing for 0."""
    return drift(latest_statistics(connection, pipeline, latest * (BEFORE + 1)), latest) if latest else []


def _undecided(connection: sa.Connection, before: float) -> dict[str, str]:
    waiting = undecided_series(connection, before)
    if not waiting:
        return {}
    since = clock(waiting[0].last_at)
    sentence = gettext(
        "{series} series have no decision, the oldest since {time}; the router's log says why",
        series=len(waiting),
        time=since,
    )
    return {"router": sentence}


def _pipelines(connection: sa.Connection) -> dict[str, str]:
    failing = {
        f"failing {failures.pipeline}": gettext(
            "pipeline {pipeline} has failed on {failures} jobs in a row since {time}; its others wait and are tried "
            "one by one, after pauses. `ainode explain {job}` shows the last failure",
            pipeline=failures.pipeline,
            failures=failures.failures,
            time=clock(failures.since),
            job=failures.job_id,
        )
        for failures in failing_pipelines(connection).values()
    }
    lacking = {
        f"no worker for {queue.name}": gettext(
            "{jobs} jobs wait for pipeline {pipeline} since {time}, and no live worker has it; install it on a worker, "
            "or cancel the jobs",
            jobs=queue.number,
            pipeline=queue.name,
            time=clock(queue.oldest),
        )
        for queue in (without_worker(connection) if offered_pipelines(connection) else ())  # else none is alive at all
    }
    return failing | lacking


def _in_shadow(connection: sa.Connection) -> dict[str, str]:
    return {
        f"stop rule {stop.pipeline}": gettext(
            "results of pipeline {pipeline} are sent to no destination since {time}: {why}. "
            "`ainode resume {pipeline} --reason ...` sends them again",
            pipeline=stop.pipeline,
            time=clock(stop.stopped_at),
            why=reason_text(stop.why),
        )
        for stop in pipelines_in_shadow(connection).values()
    }


def _unaccepted(connection: sa.Connection, since: float) -> dict[str, str]:
    return {
        f"not accepted {version.pipeline} {version.version}": gettext(
            "results of {analyses} analyses of pipeline {pipeline} since {time} are kept in shadow: no approved "
            "acceptance report allows version {version}. `ainode accept {pipeline} ...` tests it",
            analyses=version.analyses,
            pipeline=version.pipeline,
            time=clock(version.since),
            version=version.version,
        )
        for version in unaccepted_versions(connection, since)
    }


def _discontinued(connection: sa.Connection, since: float) -> dict[str, str]:
    series = discontinued_series(connection, since)
    if series is None:
        return {}
    sentence = gettext(
        "{series} series were ignored, or their analysis stopped, since {time} because their procedure step was "
        "discontinued (MPPS); `ainode account` names their studies",
        series=series.number,
        time=clock(series.oldest),
    )
    return {"discontinued": sentence}


def _configuration(connection: sa.Connection) -> dict[str, str]:
    alerts = {
        f"configuration {state.file}": gettext(
            "{file} cannot take over the published configuration: {reason}", file=state.file, reason=state.fault
        )
        for state in file_states(connection)
        if state.fault
    }
    if tables := differing_tables(connection):
        alerts["configuration"] = gettext(
            "processes have read different configurations: {tables}. Run `ainode config publish` on the machine that "
            "has the right one; reload machines whose files are alike already",
            tables="; ".join(f"{name} ({' / '.join(map(', '.join, hosts))})" for name, hosts in tables.items()),
        )
    return alerts


def _lost(connection: sa.Connection) -> dict[str, str]:
    """By machine, of which several receivers may have died."""
    return {
        f"machine {receiver['machine'][:8]}": gettext(
            "a receiver on {host} died, its last heartbeat was at {time}; images that it acknowledged may wait on its "
            "disk without a row in the ledger; start a receiver there",
            host=receiver["host"],
            time=clock(receiver["last_beat_at"]),
        )
        for receiver in lost_receivers(connection)
    }


def _copies(connection: sa.Connection, at: float) -> dict[str, str]:
    missing = count_missing_copies(connection)
    if not missing.files or at - missing.since < COPY_SECONDS:
        return {}
    return {
        "copies": gettext(
            "{files} files have one copy only since {time}; the second one is made when another machine runs and has "
            "room (`ainode verify --fleet`)",
            files=missing.files,
            time=clock(missing.since),
        )
    }


def _orders(connection: sa.Connection, at: float) -> dict[str, str]:
    alerts, rejected = {}, rejected_messages(connection, at - _DAY_SECONDS)
    if rejected.number:
        alerts["rejected messages"] = gettext(
            "{messages} messages of the information system were rejected since {time}; "
            "`ainode orders --rejected` says why",
            messages=rejected.number,
            time=clock(rejected.oldest),
        )
    silent = unanswered_queries(connection)
    if silent is not None and silent.since < at - _WORKLIST_SECONDS:
        alerts["worklist"] = gettext(
            "{studies} studies since {time} have no order: {reason}",
            studies=silent.studies,
            time=clock(silent.since),
            reason=reason_text(silent.reason),
        )
    if stuck := stuck_claims(connection, at - _WORKLIST_SECONDS):
        alerts["workitems"] = ngettext(
            "{number} workitem of another system does not move on: no images, or no answer; the log says why",
            "{number} workitems of another system do not move on: no images, or no answer; the log says why",
            stuck,
        )
    if merged := [study for study in changed_studies(connection) if study.kind == ChangeKind.MERGE]:
        alerts["merged patients"] = gettext(
            "{studies} studies are of patients who were merged with others since {time}; their results have the ID of "
            "before until the archive sends the images again (`ainode orders`)",
            studies=len(merged),
            time=clock(min(study.at for study in merged)),
        )
    return alerts


def _web_port(config: Config, spool: Spool) -> dict[str, str]:
    web = config.web
    if not web.enabled or is_own_port(spool.folder, web.port):
        return {}
    error = bind_error(web.address, web.port)
    if error is None:
        return {}
    sentence = gettext(
        "the dashboard cannot start, {address}:{port}: {error}; stop what uses the port, or change [web] port",
        address=web.address,
        port=web.port,
        error=error.strerror,
    )
    return {"web port": sentence}


def _waiting(counts: Iterable[DeliveryCount], destination: str) -> int:
    return sum(count.deliveries for count in counts if count.destination == destination and count.state in ACTIVE)
