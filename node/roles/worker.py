"""The analyses: inference and encoding of its results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from node.deliver.prior_studies import PriorStudies
from node.inference.encode_stage import Encode
from node.inference.infer_stage import Infer
from node.inference.prior_files import PriorFinder
from node.process.idle_time import IdleTime
from node.roles.context import RoleContext
from node.roles.stages import serving


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Analyse what the router has queued until the shutdown."""
    config, engine, spool = context.config, context.engine, context.spool
    priors = PriorFinder(studies=PriorStudies(config, engine), engine=engine, spool=spool)
    idle_time = IdleTime()
    encode = Encode(config, engine, spool, idle_time)
    infer = Infer(config, engine, spool, priors, idle_time, prepare_encoding=encode.prepare)
    context.membership.offer(infer.pipelines, infer.devices)
    with serving(context, "worker", [infer.stage(), encode.stage()]):
        yield
