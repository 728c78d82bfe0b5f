"""``config.toml`` as frozen values, read once. Unknown keys, wrong types and invalid values are errors."""

from node.config.config import Config
from node.config.destination import DEFAULT_OBJECTS, Destination, DestinationTls, FhirVersion, Language, ObjectKind
from node.config.devices import Devices
from node.config.fleet import Fleet
from node.config.hl7_message import Hl7Message
from node.config.jobs import JobsTable
from node.config.loader import load, parse, read
from node.config.mask_references import MaskReference, mask_references
from node.config.network import Ae, AeTls, Caller
from node.config.notify import Notify
from node.config.object_store import ObjectStoreTable
from node.config.orders import Orders
from node.config.outside import CONTAINER, ContainerImage, Outsider, ReturnedResults, ServedModel, outside_factory
from node.config.pipelines import PipelineTable, StopRule
from node.config.procedures import Procedure
from node.config.routing import (
    FORWARD,
    Companion,
    PriorTable,
    Rule,
    Selection,
)
from node.config.rule_condition import Condition, is_in_hours, parse_condition
from node.config.series import SeriesTable
from node.config.storage import Retention, Storage
from node.config.table import suggest
from node.config.web import Web
from node.config.worklist import Worklist

__all__ = [
    "CONTAINER",
    "DEFAULT_OBJECTS",
    "FORWARD",
    "Ae",
    "AeTls",
    "Caller",
    "Companion",
    "Condition",
    "Config",
    "ContainerImage",
    "Destination",
    "DestinationTls",
    "Devices",
    "FhirVersion",
    "Fleet",
    "Hl7Message",
    "JobsTable",
    "Language",
    "MaskReference",
    "Notify",
    "ObjectKind",
    "ObjectStoreTable",
    "Orders",
    "Outsider",
    "PipelineTable",
    "PriorTable",
    "Procedure",
    "Retention",
    "ReturnedResults",
    "Rule",
    "Selection",
    "SeriesTable",
    "ServedModel",
    "StopRule",
    "Storage",
    "Web",
    "Worklist",
    "is_in_hours",
    "load",
    "mask_references",
    "outside_factory",
    "parse",
    "parse_condition",
    "read",
    "suggest",
]
