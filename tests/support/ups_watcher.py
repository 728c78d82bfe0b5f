"""A watcher of workitems: pynetdicom as SCU of UPS Watch and Pull, and as SCU of UPS Event on a port of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
    UPSFilteredGlobalSubscriptionInstance,
    UPSGlobalSubscriptionInstance,
)
from real_peers import free_port
from receivers import member
from workitem_scene import WorkitemScene, wanted

from node.config import Caller
from node.deliver.workitem_events import WorkitemEvents
from node.ledger.clock import clock_of
from node.receive.receiver import Receiver

WATCHER = "WATCHER"
UID = "1.2.826.0.1.3680043.8.498.6"
STATE, CANCEL_REQUESTED, PROGRESS, ASSIGNED = 1, 2, 3, 5
SUBSCRIBE, UNSUBSCRIBE, SUSPEND = 3, 4, 5
EVERY, MATCHING = UPSGlobalSubscriptionInstance, UPSFilteredGlobalSubscriptionInstance


@dataclass
class Watcher:
    """What it was told, and what it answers."""

    port: int = field(default_factory=free_port)
    events: list[tuple[str, int, Dataset]] = field(default_factory=list)
    """UID of the workitem, Event Type ID and information, in order."""
    refuses: set[str] = field(default_factory=set)
    """Workitems whose reports are answered with 0110."""
    unknown_types: set[int] = field(default_factory=set)
    """Event Type IDs whose reports are answered with 0113."""
    on_report: Callable[[], object] | None = None
    """Is called before a report is answered."""
    dies_after: int = -1
    """Reports that are answered; the next one is taken, and its association aborted. -1: all."""

    def taken(self, event: evt.Event) -> tuple[int, None]:
        uid = str(event.request.AffectedSOPInstanceUID)
        assert event.request.AffectedSOPClassUID == UnifiedProcedureStepPush
        if uid in self.refuses:
            return 0x0110, None
        if event.event_type in self.unknown_types:
            return 0x0113, None
        if self.on_report is not None:
            self.on_report()
        self.events.append((uid, int(event.event_type), event.event_information))
        if self.dies_after == 0:
            event.assoc.abort()
        self.dies_after -= 1
        return 0x0000, None

    @contextmanager
    def listening(self, *, with_role: bool = True) -> Iterator[None]:
        entity = AE(ae_title=WATCHER)
        roles = {"scu_role": False, "scp_role": True} if with_role else {}
        entity.add_supported_context(UnifiedProcedureStepEvent, **roles)
        entity.require_called_aet = True
        server = entity.start_server(("127.0.0.1", self.port), False, None, [(evt.EVT_N_EVENT_REPORT, self.taken)])
        try:
            yield
        finally:
            server.shutdown()

    def told(self, uid: str = "") -> list[str]:
        """Events in short, of one workitem or of all, and forget them."""
        words = [_word(kind, information) for of, kind, information in self.events if uid in ("", of)]
        self.events.clear()
        return words


def _word(kind: int, information: Dataset) -> str:
    match kind:
        case 1:
            return str(information.ProcedureStepState)
        case 2:
            return f"cancel requested by {information.RequestingAE}"
        case 3:
            return f"{information.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress:g} %"
        case 5:
            return f"assigned to {information.ScheduledStationNameCodeSequence[0].CodeValue}"
    return str(kind)


class Watched(WorkitemScene):
    """A node that knows the watcher, and others with and without an address."""

    def __init__(self, folder: Any, watcher: Watcher, rules: str = "", url: str = "") -> None:
        super().__init__(folder, rules, url)
        callers = (
            Caller(title="RIS"),
            Caller(title=WATCHER, host="127.0.0.1", port=watcher.port),
            Caller(title="GROUPED", host="127.0.0.1", port=watcher.port, group="ward"),
            Caller(title="OTHER", group="ward"),
            Caller(title="STORE", host="127.0.0.1", port=watcher.port, services=("store",)),
        )
        ae = self.config.ae.model_copy(update={"address": "127.0.0.1", "callers": callers})
        self.config = self.config.model_copy(update={"ae": ae})
        self.events = WorkitemEvents(self.config, self.node.engine)

    @contextmanager
    def peer(self, calling: str = WATCHER, *classes: str, syntax: str | None = None) -> Iterator[Association]:
        """An association with the node's receiver, for UPS Watch unless ``classes`` says otherwise."""
        engine, spool, port = self.node.engine, self.node.spool, free_port()
        ae = self.config.ae.model_copy(update={"port": port})
        receiver = Receiver(self.config.model_copy(update={"ae": ae}), engine, spool, member(engine, spool))
        receiver.start()
        try:
            contexts = [build_context(sop_class, syntax) for sop_class in classes or (UnifiedProcedureStepWatch,)]
            entity = AE(ae_title=calling)
            association = entity.associate("127.0.0.1", port, contexts, ae_title="AINODE")
            assert association.is_established
            assert {context.abstract_syntax for context in association.accepted_contexts} == {
                context.abstract_syntax for context in contexts
            }
            yield association
            association.release()
        finally:
            receiver.stop(2.0)


def act(peer: Association, kind: int, uid: str, title: str = WATCHER, lock: str = "FALSE", **keys: Any) -> int:
    """Status of a request about subscriptions, on a context of UPS Watch."""
    information = Dataset()
    information.ReceivingAE = title
    if kind == SUBSCRIBE:
        information.DeletionLock = lock
    for keyword, value in keys.items():
        setattr(information, keyword, value)
    answer, _ = peer.send_n_action(information, kind, UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepWatch)
    return int(answer.Status)


def change_state(peer: Association, uid: str, state: str, transaction: str = "1.2.3") -> int:
    """Status of a claim, or of another change of the state."""
    information = Dataset()
    information.ProcedureStepState, information.TransactionUID = state, transaction
    answer, _ = peer.send_n_action(information, 1, UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull)
    return int(answer.Status)


def look(scene: Watched, later: float = 0.0) -> int:
    """One look of a sender, that many seconds from now."""
    return scene.events.step(clock_of(scene.node.engine) + later)


def create(scene: Watched, series: str, *uids: str) -> None:
    """Request an analysis of a series under each of these UIDs, else under ``UID``."""
    with scene.peer("RIS", UnifiedProcedureStepPush) as peer:
        for uid in uids or (UID,):
            assert peer.send_n_create(wanted(scene.study, series), UnifiedProcedureStepPush, uid)[0].Status == 0x0000
