"""The worker's side: does what the configuration of one pipeline names when the process of the pipeline asks for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from typing import Protocol

from node.config import ContainerImage, PipelineTable, ReturnedResults, ServedModel, outside_factory
from node.confined.output import ChildOutput
from node.errors import ConfigError, PipelineError, WeightsError
from node.outside.container_engine import ENGINES, ContainerEngine
from node.outside.container_run import FOLDERS, ContainerRun, run_container
from node.outside.exchange import Exchange
from node.outside.limits import ContainerLimits, Contract, limits_of
from node.outside.server_call import ServerCaller

_MANIFESTS = ("/etc/holoscan/app.json", "/etc/monai/app.json")
"""Application Manifest of a MONAI Application Package, of the standard since 1.0 and before."""


class Caller(Protocol):
    """Of one pipeline."""

    def check(self) -> None:
        """Raise a ``NodeError`` when something is missing for a call."""

    def call(self, exchange: Exchange, output: ChildOutput, look: Callable[[], None]) -> None:
        """Do it once, and leave the results in ``exchange``; ``look`` may raise and is called all the time."""


def caller_of(pipeline: str, table: PipelineTable, device: str, *, threads: int, seconds: float) -> Caller | None:
    """``None`` for a pipeline that needs nothing outside of its process. Raises ``ConfigError`` for wrong options."""
    outside = outside_factory(table.factory)
    if isinstance(outside, ContainerImage):
        return ContainerCaller(pipeline, outside, table, device, threads=threads, seconds=seconds)
    if isinstance(outside, ServedModel):
        return ServerCaller(pipeline, outside, table, seconds=seconds)
    return None


def goes_outside(tables: Collection[PipelineTable]) -> bool:
    """Whether one of these pipelines needs an exchange folder."""
    return any(outside_factory(table.factory) is not None for table in tables)


def can_go_outside(table: PipelineTable) -> bool:
    """Whether a worker of this machine can try to run it."""
    outside = outside_factory(table.factory)
    if isinstance(outside, ContainerImage):
        engine = table.options.get("run", {}).get("engine") if isinstance(table.options.get("run"), dict) else ""
        return any(shutil.which(name) for name in ([str(engine).split()[0]] if engine else ENGINES))
    return isinstance(outside, ServedModel | ReturnedResults)


class ContainerCaller:
    """Runs the container of one pipeline."""

    def __init__(
        self, pipeline: str, image: ContainerImage, table: PipelineTable, device: str, *, threads: int, seconds: float
    ) -> None:
        self._pipeline, self._image, self._device, self._threads = pipeline, image, device, threads
        self._limits = limits_of(ContainerLimits, pipeline, table.options)
        self._seconds = min(seconds, self._limits.seconds or seconds)
        self._contract = _contract(pipeline, table)

    def check(self) -> None:
        """See ``Caller.check``. Also removes the containers of workers that have died."""
        engine = ContainerEngine(self._pipeline, self._limits.engine)
        image_id = engine.image_id(self._image)
        engine.sweep()
        if self._contract == "map":
            self._check_package(engine, image_id)

    def call(self, exchange: Exchange, output: ChildOutput, look: Callable[[], None]) -> None:
        """See ``Caller.call``."""
        engine = ContainerEngine(self._pipeline, self._limits.engine)
        run = ContainerRun(
            pipeline=self._pipeline,
            image_id=engine.image_id(self._image),
            contract=self._contract,
            limits=self._limits,
            device=self._device,
            threads=self._threads,
            seconds=self._seconds,
            rootless=engine.rootless(),
        )
        run_container(engine, run, exchange, output, look)

    def _check_package(self, engine: ContainerEngine, image_id: str) -> None:
        for path in _MANIFESTS:
            text = engine.file_of(image_id, path)
            if text is None:
                continue
            try:
                manifest = json.loads(text)
                command = manifest["command"]
            except (ValueError, LookupError, TypeError):
                command = None
            if not command:
                raise WeightsError(f"pipeline {self._pipeline!r}: {path} of {self._image.reference} names no command")
            return
        raise WeightsError(
            f"pipeline {self._pipeline!r}: {self._image.reference} has no {_MANIFESTS[0]}, so it is no MONAI "
            'Application Package; correct the image, or contract = "map"'
        )


def _contract(pipeline: str, table: PipelineTable) -> Contract:
    contract: Contract = table.options.get("contract", "plain")
    if contract not in FOLDERS:
        raise ConfigError(f"[pipelines.{pipeline}.options] contract = {contract!r}; use one of {', '.join(FOLDERS)}")
    return contract


def not_allowed(pipeline: str) -> PipelineError:
    """Of a process that asks for a call although its pipeline has none."""
    return PipelineError(f"the process of pipeline {pipeline!r} asked for a container or server; its table names none")
