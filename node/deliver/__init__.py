"""Delivery: results to their destinations by C-STORE, with Storage Commitment as proof."""

from node.deliver.deliverer import Deliverer
from node.deliver.echo import Echo, echo

__all__ = ["Deliverer", "Echo", "echo"]
