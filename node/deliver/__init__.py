"""Delivery to Storage SCPs, DICOMweb services and folders, with proof; destinations that are down are watched."""

from node.deliver.deliverer import Deliverer
from node.deliver.echo import Echo, echo
from node.deliver.reports import Reports
from node.deliver.watch import Watch

__all__ = ["Deliverer", "Echo", "Reports", "Watch", "echo"]
