"""The dashboard: what ledger and files say, as pages for a browser; and the few things that an operator may change."""

from node.web.server import serving

__all__ = ["serving"]
