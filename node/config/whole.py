"""The whole of ``config.toml`` as one frozen value."""

from __future__ import annotations

from pydantic import Field, model_validator

from node.config.network import Ae
from node.config.routing import Destination, Rule
from node.config.storage import Retention, Storage
from node.config.table import Name, Table, suggest
from node.config.work import Devices, JobsTable, PipelineTable, SeriesTable


class Config(Table):
    """The whole file."""

    ae: Ae = Ae()
    storage: Storage = Storage()
    retention: Retention = Retention()
    series: SeriesTable = SeriesTable()
    jobs: JobsTable = JobsTable()
    devices: Devices = Devices()
    pipelines: dict[Name, PipelineTable] = Field(default_factory=dict)
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names_resolve(self) -> Config:
        for rule in self.rules:
            for kind, wanted, known in (
                ("pipelines", rule.pipelines, self.pipelines),
                ("destinations", rule.destinations, self.destinations),
            ):
                for name in wanted:
                    if name not in known:
                        raise ValueError(
                            f"rule {rule.name!r}: {kind} names {name!r}, which is not defined{suggest(name, known)}; "
                            f"add [{kind}.{name}]"
                        )
        return self

    def is_owed(self, destination: str, outcome: str) -> bool:
        """Whether a destination gets the objects of an outcome.

        One that is no longer configured stays owed: its delivery then says so.
        """
        table = self.destinations.get(destination)
        return table is None or outcome in table.outcomes
