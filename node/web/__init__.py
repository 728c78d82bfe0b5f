"""The dashboard: pages that show ledger and files, and the actions that an operator may take."""

from node.web.server import serving

__all__ = ["serving"]
