"""Does a destination agree with the ledger? What it holds and the node never got, and what it was given and lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

from pydicom import Dataset
from sqlalchemy import Engine

from node.config import Config, Destination, Rule, parse_condition
from node.deliver.association import Peer, Timeouts
from node.deliver.find import finding, query
from node.deliver.inventory import inventory
from node.deliver.query_audit import QueryRecorder, query_recorder
from node.errors import NotFoundError
from node.ledger.pending_deliveries import Stored, stored_since
from node.ledger.results import result_series
from node.ledger.series import instance_counts


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A series of which the destination holds more images than the node."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    there: int
    """Images that the destination says it holds; 0: it does not say."""
    here: int
    """Images that the node has."""


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """The answer of ``ainode reconcile``."""

    destination: str
    since: date
    """First study date, and first day of delivery, that was looked at."""
    series: int
    """Series of these days, and of modalities that a rule wants, that it holds; results of this node left out."""
    never_received: tuple[Absent, ...]
    """Those of which the node has not all images."""
    delivered: int
    """Objects that it was given in these days and took."""
    lost: tuple[Stored, ...]
    """Of these, what it does not hold."""


def reconcile(
    config: Config, engine: Engine, name: str, *, days: int, at: datetime, timeouts: Timeouts | None = None
) -> Reconciliation:
    """Ask ``[destinations.name]`` about the last ``days`` days before ``at``, which has a time zone.

    Only a Storage SCP can be asked for studies. Raises ``NotFoundError`` when there is no such destination,
    ``DeliveryError`` when it does not answer.
    """
    destination = config.destinations.get(name)
    if destination is None:
        raise NotFoundError(f"destination {name!r} is not configured; there are: {', '.join(config.destinations)}")
    limits, since = timeouts or Timeouts(), at - timedelta(days=days)
    with engine.connect() as connection:
        here, ours = instance_counts(connection), result_series(connection)
        given = stored_since(connection, name, since.timestamp())
    record_query = query_recorder(engine, destination)
    found: list[Absent] = []
    if destination.host:
        there = _held(Peer.of(name, destination), config, since.date(), here, limits, record_query=record_query)
        found = [one for one in there if one.series_instance_uid not in ours]
    return Reconciliation(
        destination=name,
        since=since.date(),
        series=len(found),
        never_received=tuple(one for one in found if one.here < max(one.there, 1)),
        delivered=len(given),
        lost=tuple(_lost(name, destination, config, given, limits, record_query=record_query)),
    )


def is_wanted(modality: str, rules: Sequence[Rule]) -> bool:
    """Whether a rule takes series of a modality."""
    wanted = (rule.match.get("Modality", "*") for rule in rules)
    return any(parse_condition("Modality", one).matches([modality]) for one in wanted)


def _held(
    peer: Peer, config: Config, since: date, here: Mapping[str, int], limits: Timeouts, *, record_query: QueryRecorder
) -> Iterator[Absent]:
    """Every series of a wanted modality that the peer holds, by study; all of it on one association."""
    dates = f"{since:%Y%m%d}-"
    with finding(peer, config.ae.title, limits, record_query) as association:
        studies = list(query(association, peer, "STUDY", StudyDate=dates, StudyInstanceUID="", ModalitiesInStudy=""))
        for study in studies:
            of_study = _texts(study, "ModalitiesInStudy")
            if of_study and not any(is_wanted(modality, config.rules) for modality in of_study):
                continue
            uid = str(study.StudyInstanceUID)
            keys = {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}
            for one in query(association, peer, "SERIES", StudyInstanceUID=uid, **keys):
                modality = "".join(_texts(one, "Modality"))
                if is_wanted(modality, config.rules):
                    yield Absent(
                        study_instance_uid=uid,
                        series_instance_uid=str(one.SeriesInstanceUID),
                        modality=modality,
                        there=int(one.get("NumberOfSeriesRelatedInstances") or 0),
                        here=here.get(str(one.SeriesInstanceUID), 0),
                    )


def _lost(
    name: str,
    destination: Destination,
    config: Config,
    given: Sequence[Stored],
    limits: Timeouts,
    *,
    record_query: QueryRecorder,
) -> Iterator[Stored]:
    if not given:
        return
    with inventory(name, destination, config.ae.title, limits, record_query) as held:
        for (study, uid), of_series in groupby(sorted(given, key=_series_of), _series_of):
            there = held(study, uid)
            yield from (one for one in of_series if one.sop_instance_uid not in there)


def _series_of(one: Stored) -> tuple[str, str]:
    return one.study_instance_uid, one.series_instance_uid


def _texts(match: Dataset, keyword: str) -> list[str]:
    """The values of an attribute of a response, none when it is empty."""
    value = match.get(keyword) or ()
    return [value] if isinstance(value, str) else [str(one) for one in value]


def format_reconciliation(found: Reconciliation) -> str:
    """The reconciliation in plain words."""
    lines = [
        f"{found.destination} since {found.since}",
        f"holds {found.series} series that rules want; of {len(found.never_received)} the node has not every image",
    ]
    lines += [
        f"  NEVER RECEIVED: {one.modality} series {one.series_instance_uid} of study {one.study_instance_uid}: "
        f"{one.there or 'some'} images there, {one.here} here"
        for one in found.never_received
    ]
    lines.append(f"took {found.delivered} objects from the node, of which it does not hold {len(found.lost)}")
    lines += [
        f"  LOST: {one.sop_instance_uid} of study {one.study_instance_uid}, job {one.job_id}" for one in found.lost
    ]
    return "\n".join(lines)
