"""Tables of the ledger. Times (``*_at``) are seconds since 1970 UTC; paths are relative to ``[storage] folder``.

The words of states are in ``node.ledger.states``. Nobody outside the ledger sees a table.
"""

from node.ledger.tables.columns import metadata
from node.ledger.tables.deliveries import circuit, delivery, delivery_instance, delivery_kind
from node.ledger.tables.embeddings import embedding_space, lesion_embedding
from node.ledger.tables.feedback import acceptance, promotion, quality_stop, reader_object, reader_query, verdict
from node.ledger.tables.fetches import fetch_item, fetch_list, fetched_study
from node.ledger.tables.jobs import candidate, decision, job, job_fact, original, replaced, result
from node.ledger.tables.operation import (
    alarm,
    drained,
    event,
    holding,
    login_attempt,
    member,
    missing_copy,
    notice,
    pipeline_failure,
    published_rules,
    secret,
    session,
    stopped,
    taken_rules,
)
from node.ledger.tables.orders import imaging_order, order_message, patient_change, series_request, worklist_query
from node.ledger.tables.packs import pack, packed, store_outage
from node.ledger.tables.received import (
    association,
    commitment,
    commitment_instance,
    conflict,
    excluded,
    instance,
    procedure_step,
    procedure_step_instance,
    refusal,
    rejection,
    series,
)
from node.ledger.tables.records import decision_record
from node.ledger.tables.series_decision import LATEST_DECISION
from node.ledger.tables.workitems import claimed_workitem, workitem, workitem_subscriber, workitem_watch

__all__ = [
    "LATEST_DECISION",
    "acceptance",
    "alarm",
    "association",
    "candidate",
    "circuit",
    "claimed_workitem",
    "commitment",
    "commitment_instance",
    "conflict",
    "decision",
    "decision_record",
    "delivery",
    "delivery_instance",
    "delivery_kind",
    "drained",
    "embedding_space",
    "event",
    "excluded",
    "fetch_item",
    "fetch_list",
    "fetched_study",
    "holding",
    "imaging_order",
    "instance",
    "job",
    "job_fact",
    "lesion_embedding",
    "login_attempt",
    "member",
    "metadata",
    "missing_copy",
    "notice",
    "order_message",
    "original",
    "pack",
    "packed",
    "patient_change",
    "pipeline_failure",
    "procedure_step",
    "procedure_step_instance",
    "promotion",
    "published_rules",
    "quality_stop",
    "reader_object",
    "reader_query",
    "refusal",
    "rejection",
    "replaced",
    "result",
    "secret",
    "series",
    "series_request",
    "session",
    "stopped",
    "store_outage",
    "taken_rules",
    "verdict",
    "workitem",
    "workitem_subscriber",
    "workitem_watch",
    "worklist_query",
]
