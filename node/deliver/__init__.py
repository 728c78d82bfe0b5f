"""Delivery to Storage SCPs, DICOMweb services and folders, with proof of storage and probes of failed destinations."""

from node.deliver.deliverer import Deliverer
from node.deliver.destination_watch import Watch
from node.deliver.echo import Echo, echo, echo_peer
from node.deliver.reports import Reports

__all__ = ["Deliverer", "Echo", "Reports", "Watch", "echo", "echo_peer"]
