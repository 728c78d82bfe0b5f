"""Compares a destination with the ledger: series that the node never received, results that it no longer has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

from pydicom import Dataset
from pynetdicom.association import Association
from sqlalchemy import Engine

from node.config import Config, Destination, Rule, parse_condition
from node.deidentify.profile_of_destination import Profile
from node.deliver.association import Peer, Timeouts
from node.deliver.deidentified import profile_of
from node.deliver.find import find_association, query
from node.deliver.inventory import inventory
from node.deliver.query_audit import OnQuery, query_recorder
from node.errors import DeliveryError, NotFoundError
from node.ledger.pending_deliveries import Stored, stored_since
from node.ledger.results import result_series
from node.ledger.series import instance_counts
from node.translation import gettext


@dataclass(frozen=True, kw_only=True)
class ArchivedSeries:
    """A series at a destination, and how much of it the node has."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    there: int
    """Images at the destination; 0: it does not report the number."""
    here: int
    """Images on the node."""

    @property
    def is_complete(self) -> bool:
        """Whether the node has all images."""
        return self.here >= max(self.there, 1)


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """The result of ``ainode reconcile``."""

    destination: str
    since: date
    """First study date and first day of delivery that are compared."""
    series: int
    """Series of these days at the destination whose modality matches a rule, without results of this node."""
    never_received: tuple[ArchivedSeries, ...]
    """Those of which the node does not have all images."""
    delivered: int
    """Objects that were stored there in these days."""
    lost: tuple[Stored, ...]
    """Those of them that the destination no longer has."""


def reconcile(
    config: Config, engine: Engine, name: str, *, days: int, at: datetime, timeouts: Timeouts | None = None
) -> Reconciliation:
    """Query ``[destinations.name]`` about the last ``days`` days before ``at``, which has a time zone.

    Only a Storage SCP can be queried for studies. Raises ``NotFoundError`` for an unknown destination,
    ``DeliveryError`` when it does not answer.
    """
    destination = configured_destination(config, name)
    if destination.takes_reports_only:
        kind = "HL7 messages" if destination.hl7 else "FHIR resources"
        raise DeliveryError(f"{name} takes {kind}, which are not compared; ask its administrator what it holds")
    limits, since = timeouts or Timeouts(), at - timedelta(days=days)
    with engine.connect() as connection:
        here, ours = instance_counts(connection), result_series(connection)
        delivered = stored_since(connection, name, since.timestamp())
    on_query = query_recorder(engine, destination)
    candidates: list[ArchivedSeries] = []
    if destination.host and not destination.deidentify:  # whose series have no counterpart here by their UIDs
        there = _series_there(Peer.of(name, destination), config, since.date(), here, limits, on_query=on_query)
        candidates = [candidate for candidate in there if candidate.series_instance_uid not in ours]
    return Reconciliation(
        destination=name,
        since=since.date(),
        series=len(candidates),
        never_received=tuple(c for c in candidates if not c.is_complete),
        delivered=len(delivered),
        lost=tuple(
            _lost_objects(
                name,
                destination,
                config,
                delivered,
                limits,
                on_query=on_query,
                profile=profile_of(config, engine, name, destination),
            )
        ),
    )


def configured_destination(config: Config, name: str) -> Destination:
    """Return ``[destinations.name]``. Raises ``NotFoundError``."""
    destination = config.destinations.get(name)
    if destination is None:
        raise NotFoundError(f"destination {name!r} is not configured; there are: {', '.join(config.destinations)}")
    return destination


def is_wanted(modality: str, rules: Sequence[Rule]) -> bool:
    """Return whether a rule matches series of a modality."""
    wanted = (rule.match.get("Modality", "*") for rule in rules)
    return any(parse_condition("Modality", condition).matches([modality]) for condition in wanted)


def _series_there(
    peer: Peer, config: Config, since: date, here: Mapping[str, int], limits: Timeouts, *, on_query: OnQuery
) -> Iterator[ArchivedSeries]:
    """Yield the peer's series of a wanted modality, using one association."""
    dates = f"{since:%Y%m%d}-"
    with find_association(peer, config.ae.title, limits, on_query) as association:
        studies = list(query(association, peer, "STUDY", StudyDate=dates, StudyInstanceUID="", ModalitiesInStudy=""))
        for study in studies:
            of_study = _values(study, "ModalitiesInStudy")
            if of_study and not any(is_wanted(modality, config.rules) for modality in of_study):
                continue
            uid = str(study.StudyInstanceUID)
            listed = series_of_study(association, peer, uid, lambda series: here.get(series, 0))
            yield from (series for series in listed if is_wanted(series.modality, config.rules))


def series_of_study(
    association: Association, peer: Peer, study: str, count: Callable[[str], int]
) -> Iterator[ArchivedSeries]:
    """Yield the peer's series of a study; ``count``: images on the node of a series."""
    keys = {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}
    for match in query(association, peer, "SERIES", StudyInstanceUID=study, **keys):
        uid = str(match.SeriesInstanceUID)
        yield ArchivedSeries(
            study_instance_uid=study,
            series_instance_uid=uid,
            modality="".join(_values(match, "Modality")),
            there=int(match.get("NumberOfSeriesRelatedInstances") or 0),
            here=count(uid),
        )


def _lost_objects(
    name: str,
    destination: Destination,
    config: Config,
    delivered: Sequence[Stored],
    limits: Timeouts,
    *,
    on_query: OnQuery,
    profile: Profile | None,
) -> Iterator[Stored]:
    if not delivered:
        return
    with inventory(name, destination, config.ae.title, limits, on_query, profile=profile) as held:
        for (study, uid), of_series in groupby(sorted(delivered, key=_series_of), _series_of):
            there = held(study, uid)
            yield from (stored for stored in of_series if stored.sop_instance_uid not in there)


def _series_of(stored: Stored) -> tuple[str, str]:
    return stored.study_instance_uid, stored.series_instance_uid


def _values(match: Dataset, keyword: str) -> list[str]:
    """Return the values of an attribute of a response."""
    value = match.get(keyword) or ()
    return [value] if isinstance(value, str) else [str(item) for item in value]


def describe(reconciliation: Reconciliation) -> str:
    """Return the reconciliation as text."""
    lines = [
        gettext("{destination} since {day}", destination=reconciliation.destination, day=reconciliation.since),
        gettext(
            "{series} series there match a rule; {incomplete} of them are not complete on the node",
            series=reconciliation.series,
            incomplete=len(reconciliation.never_received),
        ),
    ]
    lines += [
        gettext(
            "  NEVER RECEIVED: {modality} series {series} of study {study}: {there} images there, {here} here",
            modality=series.modality,
            series=series.series_instance_uid,
            study=series.study_instance_uid,
            there=series.there or gettext("some"),
            here=series.here,
        )
        for series in reconciliation.never_received
    ]
    lines.append(
        gettext(
            "{delivered} objects were delivered; {lost} of them are no longer there",
            delivered=reconciliation.delivered,
            lost=len(reconciliation.lost),
        )
    )
    lines += [
        gettext(
            "  LOST: {uid} of study {study}, job {job}",
            uid=lost.sop_instance_uid,
            study=lost.study_instance_uid,
            job=lost.job_id,
        )
        for lost in reconciliation.lost
    ]
    return "\n".join(lines)
