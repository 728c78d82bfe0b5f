"""Delivery: results to their destinations by C-STORE, with Storage Commitment as proof."""

from node.deliver.deliverer import Deliverer
from node.deliver.echo import Echo, echo
from node.deliver.reports import Reports

__all__ = ["Deliverer", "Echo", "Reports", "echo"]
