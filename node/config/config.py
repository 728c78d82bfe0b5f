"""``config.toml`` as one frozen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from functools import cached_property
from typing import Any

from pydantic import Field, model_validator

from node.config.audit import Audit
from node.config.deidentify import Deidentify
from node.config.destination import DEFAULT_OBJECTS, Destination, Language
from node.config.devices import Devices
from node.config.dicomweb import Dicomweb
from node.config.feedback import Feedback
from node.config.fetch import Fetch
from node.config.fleet import Fleet
from node.config.jobs import JobsTable
from node.config.mask_references import mask_references, reference_fault
from node.config.network import Ae
from node.config.notify import Notify
from node.config.orders import Orders
from node.config.pipelines import PipelineTable
from node.config.procedures import Procedure, procedure_fault
from node.config.records import Records
from node.config.returned_results import returned_fault, returned_pipelines
from node.config.routing import Rule
from node.config.series import SeriesTable
from node.config.storage import Retention, Storage
from node.config.table import Name, Table, suggest
from node.config.trace import Trace
from node.config.web import Web


def _subtable(table: Any, key: str) -> dict[str, Any]:
    """Return a table within a table, or an empty one; wrong types are reported by the validation later."""
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, dict) else {}


class Config(Table):
    """All tables of the file."""

    ae: Ae = Ae()
    storage: Storage = Storage()
    fleet: Fleet = Fleet()
    retention: Retention = Retention()
    records: Records = Records()
    feedback: Feedback = Feedback()
    deidentify: Deidentify = Deidentify()
    orders: Orders = Orders()
    fetch: Fetch = Fetch()
    dicomweb: Dicomweb = Dicomweb()
    series: SeriesTable = SeriesTable()
    jobs: JobsTable = JobsTable()
    devices: Devices = Devices()
    web: Web = Web()
    audit: Audit = Audit()
    notify: Notify = Notify()
    trace: Trace = Trace()
    pipelines: dict[Name, PipelineTable] = Field(default_factory=dict)
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    procedures: dict[Name, Procedure] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _one_certificate(cls, table: Any) -> Any:
        """Use the files of ``[ae.tls]`` for destinations and the worklist that do not name their own."""
        ours = _subtable(_subtable(table, "ae"), "tls")
        shared = {key: ours[key] for key in ("certificate", "key", "ca", "crl") if key in ours}
        destinations = {
            name: {**to, "tls": {**shared, **_subtable(to, "tls")}} if _subtable(to, "tls") else to
            for name, to in _subtable(table, "destinations").items()
        }
        table = {**table, "destinations": destinations} if destinations else table
        orders = _subtable(table, "orders")
        worklist = _subtable(orders, "worklist")
        if tls := _subtable(worklist, "tls"):
            table = {**table, "orders": {**orders, "worklist": {**worklist, "tls": {**shared, **tls}}}}
        return table

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Config:
        for name, to in self.destinations.items():
            if to.tls.enabled and not to.tls.ca:
                raise ValueError(f"destinations.{name}.tls.ca is missing; give a PEM file, here or in [ae.tls]")
        if self.orders.worklist.tls.enabled and not self.orders.worklist.tls.ca:
            raise ValueError("orders.worklist.tls.ca is missing; give a PEM file, here or in [ae.tls]")
        return self

    @model_validator(mode="after")
    def _fleet_has_a_ledger(self) -> Config:
        if self.fleet.host and not self.storage.ledger_url:
            raise ValueError(
                "fleet.host needs storage.ledger_url: the machines of a fleet share a ledger in PostgreSQL"
            )
        if self.storage.copies > 1 and not self.fleet.host:
            raise ValueError(
                f"storage.copies = {self.storage.copies} needs fleet.host: the second copy is on another machine"
            )
        return self

    @model_validator(mode="after")
    def _rules_differ(self) -> Config:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rule {name!r} exists {names.count(name)} times; give each its own name")
        return self

    @model_validator(mode="after")
    def _names_resolve(self) -> Config:
        for rule in self.rules:
            for kind, wanted, known in (
                ("pipelines", rule.pipelines, self.pipelines),
                ("pipelines", rule.shadow, self.pipelines),
                ("destinations", rule.destinations + rule.send, self.destinations),
                ("destinations", () if rule.prior is None else (rule.prior.source,), self.destinations),
            ):
                for name in wanted:
                    if name not in known:
                        raise ValueError(
                            f"rule {rule.name!r}: {kind} names {name!r}, which is not defined{suggest(name, known)}; "
                            f"add [{kind}.{name}]"
                        )
            for name in rule.send:
                if self.destinations[name].takes_reports_only:
                    kind = "HL7 messages" if self.destinations[name].hl7 else "FHIR resources"
                    raise ValueError(f"rule {rule.name!r}: send names {name!r}, which takes {kind} and no images")
            if rule.escalate and not any(self.gets_report(name) for name in rule.destinations):
                raise ValueError(
                    f"rule {rule.name!r}: escalate reads the report, and no destination of the rule takes it; "
                    'add "sr" to objects of one'
                )
            if rule.prior is not None and not self.destinations[rule.prior.source].host:
                raise ValueError(
                    f"rule {rule.name!r}: prior.source names {rule.prior.source!r}, which has no host; "
                    "name a destination that can be queried"
                )
            if rule.prior is not None and self.destinations[rule.prior.source].deidentify:
                raise ValueError(
                    f"rule {rule.name!r}: prior.source names {rule.prior.source!r}, which knows patients by pseudonyms "
                    "(deidentify); name the PACS"
                )
        return self

    @model_validator(mode="after")
    def _feedback_can_be_queried(self) -> Config:
        source = self.feedback.source
        if source and source not in self.destinations:
            raise ValueError(
                f"[feedback] source names {source!r}, which is not defined{suggest(source, self.destinations)}; "
                f"add [destinations.{source}]"
            )
        if source and not (self.destinations[source].host or self.destinations[source].url):
            raise ValueError(
                f"[feedback] source names {source!r}, which has neither host nor url; C-FIND with C-MOVE and QIDO-RS "
                "with WADO-RS need one"
            )
        if source and self.destinations[source].deidentify:
            raise ValueError(f"[feedback] source names {source!r}, which knows patients by pseudonyms; name the PACS")
        return self

    @model_validator(mode="after")
    def _shadow_is_apart(self) -> Config:
        sent = {name: rule.name for rule in self.rules for name in rule.pipelines}
        for rule in self.rules:
            for name in rule.shadow:
                if name in sent:
                    raise ValueError(
                        f"rule {rule.name!r}: shadow names {name!r}, whose results rule {sent[name]!r} sends; give the "
                        "pipeline that is tried a name of its own"
                    )
                if self.pipelines[name].trust_group:
                    raise ValueError(f"rule {rule.name!r}: shadow names {name!r}; remove its trust_group")
        return self

    @model_validator(mode="after")
    def _procedures_resolve(self) -> Config:
        if fault := procedure_fault(self.procedures, self.pipelines, self.destinations, self.rules):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _worklist_can_be_performed(self) -> Config:
        ups, source = self.orders.ups, self.orders.ups.source
        if ups.enabled and not self.procedures:
            raise ValueError("orders.ups needs [procedures.NAME]: the codes of workitems that this node performs")
        if source and (
            source not in self.destinations or not (self.destinations[source].host or self.destinations[source].url)
        ):
            raise ValueError(
                f"orders.ups.source names {source!r}, which is no destination with a host or url"
                f"{suggest(source, self.destinations)}; C-FIND with C-MOVE and QIDO-RS with WADO-RS need one"
            )
        return self

    @model_validator(mode="after")
    def _prerequisites_resolve(self) -> Config:
        for name in self.pipelines:
            chain = [name]
            while after := self.after(chain[-1]):
                if after not in self.pipelines:
                    raise ValueError(
                        f"pipelines.{chain[-1]}.after names {after!r}, which is not defined"
                        f"{suggest(after, self.pipelines)}; add [pipelines.{after}]"
                    )
                chain.append(after)
                if after in chain[:-1]:
                    circle = " after ".join(map(repr, chain[chain.index(after) :]))
                    raise ValueError(f"pipelines.{chain[-2]}.after makes a circle ({circle}); remove one of them")
        return self

    @model_validator(mode="after")
    def _returned_results_resolve(self) -> Config:
        if fault := returned_fault(self.returned, self.destinations, self.rules, self.procedures):
            raise ValueError(fault)
        return self

    @cached_property
    def returned(self) -> dict[str, str]:
        """Pipelines that read what comes back from a destination, with its name."""
        return returned_pipelines(self.pipelines)

    @model_validator(mode="after")
    def _masks_come_from_before(self) -> Config:
        for name, table in self.pipelines.items():
            for reference in mask_references(table):
                if fault := reference_fault(name, reference, self.pipelines):
                    raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _prerequisites_are_sent_with_dependents(self) -> Config:
        for rule in self.rules:
            for name in rule.pipelines:
                for other in self.rules:
                    needed = set(self.before(name))
                    if tried := sorted(needed.intersection(other.shadow)):
                        raise ValueError(
                            f"rule {other.name!r}: shadow names {tried[0]!r}, whose result {name!r} of rule "
                            f"{rule.name!r} needs; give the pipeline that is tried a name of its own"
                        )
                    chosen = sorted(needed.intersection(other.pipelines)) if other.prefer or other.companions else []
                    if chosen and other.name != rule.name:
                        raise ValueError(
                            f"rule {other.name!r} looks at the whole study for {chosen[0]!r}, whose result {name!r} of "
                            f"rule {rule.name!r} needs; name both in one rule"
                        )
        return self

    def after(self, pipeline: str) -> str:
        """Return the pipeline whose result another one needs; empty: none."""
        table = self.pipelines.get(pipeline)
        return table.after if table is not None else ""

    def before(self, pipeline: str) -> tuple[str, ...]:
        """Return the pipelines that run before another one on the same series, in their order."""
        chain: list[str] = []
        while pipeline := self.after(pipeline):
            chain.insert(0, pipeline)
        return tuple(chain)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all values of the file, defaults included."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def title(self, pipeline: str) -> str:
        """Return the title of a pipeline in reports, also of one that is no longer configured."""
        return self.pipelines.get(pipeline, PipelineTable()).title_of(pipeline)

    def kinds(self, destination: str) -> frozenset[str]:
        """Return the kinds of objects for a destination; the default kinds if it is no longer configured."""
        table = self.destinations.get(destination)
        return frozenset(DEFAULT_OBJECTS) if table is None else table.kinds

    def gets_report(self, destination: str) -> bool:
        """Return whether a destination takes reports, also such as are made for it alone."""
        return any(kind.startswith("sr") for kind in self.kinds(destination))

    def languages(self, destinations: Collection[str]) -> tuple[Language, ...]:
        """Return the languages of destinations, each once; English when none is configured."""
        tables = (self.destinations.get(name) for name in destinations)
        return tuple(dict.fromkeys(table.language for table in tables if table is not None)) or ("en",)

    def is_recipient(self, destination: str, outcome: str, kinds: Collection[str]) -> bool:
        """Return whether a destination receives anything of an analysis with this outcome and these kinds.

        True for a destination that is no longer configured; its delivery then reports that.
        """
        table = self.destinations.get(destination)
        return table is None or (outcome in table.outcomes and not table.kinds.isdisjoint(kinds))
