"""``[[rules]]``: which pipelines analyse a series, and which destinations get the results."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from node.config.characteristics import BODY_REGION, CHARACTERISTICS
from node.config.escalation import parse_limit
from node.config.rule_condition import Hours, Option, parse_condition
from node.config.table import AeTitle, KeepDays, Name, Table, suggest

FORWARD = "(originals)"
"""Name in place of a pipeline for decisions and jobs that forward images; no pipeline can have it."""
Wanted = Option | tuple[Option, ...]
Preference = str | dict[str, Wanted]
PREFERENCES = ("axial", "coronal", "sagittal", "thinnest", "most images")
"""Criteria of ``prefer`` other than conditions."""


class Selection(Table):
    """Conditions for series, and preferences among several matching ones."""

    match: dict[str, Wanted] = Field(default_factory=dict)
    """Conditions that must all be met; ``node.config.rule_condition`` defines the values."""
    unless: dict[str, Wanted] = Field(default_factory=dict)
    """Conditions of which none may be met."""
    prefer: tuple[Preference, ...] = ()
    """Criteria by which only the best of several matching series of a study is taken, the most important first."""

    @property
    def asks_for_characteristics(self) -> bool:
        """Whether a condition is on what the whole series shows, and not on one attribute."""
        tables = (self.match, self.unless, *(preference for preference in self.prefer if isinstance(preference, dict)))
        return any(path in CHARACTERISTICS for table in tables for path in table)

    @property
    def prefers_body_region(self) -> bool:
        """Whether ``prefer`` compares regions, which only pixels show."""
        return any(BODY_REGION in preference for preference in self.prefer if isinstance(preference, dict))

    @field_validator("match", "unless")
    @classmethod
    def _conditions(cls, table: dict[str, Wanted]) -> dict[str, Wanted]:
        for path, wanted in table.items():
            parse_condition(path, wanted)
        return table

    @field_validator("prefer")
    @classmethod
    def _preferences(cls, prefer: tuple[Preference, ...]) -> tuple[Preference, ...]:
        for preference in prefer:
            if isinstance(preference, dict):
                cls._conditions(preference)
            elif preference not in PREFERENCES:
                hint = suggest(preference, PREFERENCES)
                raise ValueError(f"{preference!r}{hint}: use a table of conditions, or one of {', '.join(PREFERENCES)}")
        return prefer


class Companion(Selection):
    """Another series of the same study that the pipeline may use."""

    required: bool = True
    """Whether the outcome is *not applicable* without it; otherwise the pipeline runs without it."""


class PriorTable(Table):
    """Source of the prior report with which a new analysis is compared."""

    source: Name
    """Name of a ``[destinations.NAME]`` that answers C-FIND and C-GET or C-MOVE."""
    days: Annotated[int, Field(ge=1)] = 730
    """Maximum age of a prior study."""
    move_title: AeTitle = ""
    """For a ``source`` without C-GET: destination AE title of C-MOVE, known there with ``move_port``."""
    move_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port that is open while objects are retrieved by C-MOVE."""

    @model_validator(mode="after")
    def _moves_somewhere(self) -> PriorTable:
        if bool(self.move_title) != bool(self.move_port):
            raise ValueError("give both move_title and move_port (C-MOVE), or neither (C-GET)")
        return self


class Rule(Selection):
    """Pipelines for matching series, and destinations of their results."""

    name: str
    """Name in traces and reports."""
    senders: tuple[str, ...] = ()
    """AE titles (with wildcards), addresses or networks of the sender; empty: any."""
    hours: Hours = ""
    """Local time at which the first image was received, such as ``22:00-06:00``; empty: any."""
    companions: dict[Name, Companion] = Field(default_factory=dict)
    """Other series of the study to wait for."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """Longest wait for companions after the series is complete."""
    prior: PriorTable | None = None
    """Compare with this node's report on a prior study of the patient."""
    pipelines: tuple[Name, ...] = ()
    """Names of ``[pipelines.NAME]``."""
    shadow: tuple[Name, ...] = ()
    """Names of ``[pipelines.NAME]`` that are tried on the same series; no destination receives their results."""
    destinations: tuple[Name, ...] = ()
    """Names of ``[destinations.NAME]`` that receive the results."""
    send: tuple[Name, ...] = ()
    """Names of ``[destinations.NAME]`` to which the images are forwarded unchanged."""
    priority: Literal["low", "medium", "high"] | None = None
    """Order in the queues; a STAT request (0074,1200 HIGH or 0040,1003 STAT) counts as high. Absent: medium, or high
    where an order of the RIS is STAT or HIGH."""
    escalate: tuple[str, ...] = ()
    """Limits of measurements, such as ``Volume > 30 ml``, beyond which a result is urgent."""
    quiet_seconds: Annotated[float, Field(gt=0)] | None = None
    """``[series] quiet_seconds`` for series that match this rule; the longest of several rules applies."""
    prefer_seconds: Annotated[float, Field(ge=0)] | None = None
    """Wait of ``prefer`` after the study's last image when no other series is expected; absent: the quiet period."""
    keep_days: KeepDays = "default"
    """Delete the images of a matching series this many days after the last event of its study; the longest of several
    rules applies."""

    @property
    def asks_for_characteristics(self) -> bool:
        """Also of its companions."""
        companions = any(companion.asks_for_characteristics for companion in self.companions.values())
        return companions or super().asks_for_characteristics

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if not self.pipelines and not self.shadow and not self.send:
            raise ValueError(f"rule {self.name!r} does nothing: give it pipelines, or send for the images themselves")
        if self.send and (self.prefer or self.companions):
            raise ValueError(f"rule {self.name!r}: send takes every series that matches; give prefer its own rule")
        return self

    @field_validator("escalate")
    @classmethod
    def _limits(cls, limits: tuple[str, ...]) -> tuple[str, ...]:
        for limit in limits:
            parse_limit(limit)
        return limits

    @field_validator("senders")
    @classmethod
    def _senders(cls, senders: tuple[str, ...]) -> tuple[str, ...]:
        for sender in senders:
            if "/" in sender:
                ip_network(sender)
            elif not 0 < len(sender.strip()) <= 16:
                raise ValueError(f"{sender!r}: give an AE title (1 to 16 characters), an address or a network")
        return senders
