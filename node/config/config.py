"""The whole of ``config.toml`` as one frozen value."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import Field, model_validator

from node.config.audit import Audit
from node.config.network import Ae
from node.config.notify import Notify
from node.config.processing import Devices, JobsTable, PipelineTable, SeriesTable
from node.config.routing import DEFAULT_OBJECTS, Destination, Rule
from node.config.storage import Retention, Storage
from node.config.table import Name, Table, suggest
from node.config.trace import Trace
from node.config.web import Web


def _table(table: Any, key: str) -> dict[str, Any]:
    """A table in a table, as far as both are; what is none is refused later."""
    found = table.get(key) if isinstance(table, dict) else None
    return found if isinstance(found, dict) else {}


class Config(Table):
    """The whole file."""

    ae: Ae = Ae()
    storage: Storage = Storage()
    retention: Retention = Retention()
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

    @model_validator(mode="before")
    @classmethod
    def _one_certificate(cls, table: Any) -> Any:
        """Files of ``[ae.tls]`` serve every destination that does not name its own."""
        ours = _table(_table(table, "ae"), "tls")
        shared = {key: ours[key] for key in ("certificate", "key", "ca", "crl") if key in ours}
        destinations = {
            name: {**to, "tls": {**shared, **_table(to, "tls")}} if _table(to, "tls") else to
            for name, to in _table(table, "destinations").items()
        }
        return {**table, "destinations": destinations} if destinations else table

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Config:
        for name, to in self.destinations.items():
            if to.tls.enabled and not to.tls.ca:
                raise ValueError(f"destinations.{name}.tls.ca is missing; give a PEM file, here or in [ae.tls]")
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
                ("destinations", rule.destinations + rule.send, self.destinations),
                ("destinations", () if rule.prior is None else (rule.prior.source,), self.destinations),
            ):
                for name in wanted:
                    if name not in known:
                        raise ValueError(
                            f"rule {rule.name!r}: {kind} names {name!r}, which is not defined{suggest(name, known)}; "
                            f"add [{kind}.{name}]"
                        )
            if rule.prior is not None and not self.destinations[rule.prior.source].host:
                raise ValueError(
                    f"rule {rule.name!r}: prior.source names {rule.prior.source!r}, which has no host; "
                    "name a destination that can be queried"
                )
        return self

    def title(self, pipeline: str) -> str:
        """What physicians read in place of a pipeline's name; also of one that is no longer configured."""
        return self.pipelines.get(pipeline, PipelineTable()).title_of(pipeline)

    def kinds(self, destination: str) -> frozenset[str]:
        """Kinds of result objects that a destination gets; of one that is no longer configured: the default."""
        table = self.destinations.get(destination)
        return frozenset(DEFAULT_OBJECTS) if table is None else table.kinds

    def is_recipient(self, destination: str, outcome: str, made: Collection[str]) -> bool:
        """Whether a destination gets anything of an analysis with this outcome, of which these kinds were made.

        One that is no longer configured stays owed: its delivery then says so.
        """
        table = self.destinations.get(destination)
        return table is None or (outcome in table.outcomes and not table.kinds.isdisjoint(made))
