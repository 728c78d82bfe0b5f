"""DICOMweb: STOW-RS, QIDO-RS and WADO-RS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.dicomweb.server import serving
from node.roles.context import RoleContext


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Answer requests until the shutdown."""
    with serving(context.config, context.engine, context.spool):
        yield
