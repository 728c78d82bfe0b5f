"""Pipelines by name: ``module:factory`` from the configuration, or an installed entry point."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from node.config import ContainerImage, Outsider, PipelineTable, ReturnedResults, ServedModel, outside_factory, suggest
from node.errors import (
    AdmissionError,
    ConfigError,
    NodeError,
    NotFoundError,
    PipelineError,
    PlatformError,
    is_lack_of_memory,
)
from node.outside.caller import can_go_outside

if TYPE_CHECKING:  # workers and dashboards import no encoder
    from node.pipeline import Factory, Pipeline
    from node.pipeline.outside import Outside

GROUP = "ainode.pipelines"
"""Entry point group in which packages announce their factories."""
_ADAPTERS: dict[type, str] = {
    ContainerImage: "pipelines.container:create",
    ServedModel: "pipelines.remote:create",
    ReturnedResults: "pipelines.returned:create",
}
"""Factories of what runs outside of the process of a pipeline."""
_REFUSALS = (TypeError, ValueError)
"""Of options: the same again the next time."""


def installed() -> dict[str, str]:
    """Installed pipelines: name -> ``module:factory``. Imports none of them."""
    return {point.name: point.value for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def factory_of(name: str, factory: str) -> Factory:
    """The factory of pipeline ``name``: ``module:factory``, or the entry point of that name when it is empty.

    Raises ``NotFoundError`` when there is no such entry point, module or attribute, ``PlatformError`` when the module
    cannot be imported.
    """
    if not factory:
        known = installed()
        if name not in known:
            raise NotFoundError(
                f"pipeline {name!r} is not installed{suggest(name, list(known))}; "
                f'set [pipelines.{name}] factory = "module:factory"'
            )
        factory = known[name]
    if (outside := outside_factory(factory)) is not None:
        factory = _ADAPTERS[type(outside)]
    module_name, _, attribute = factory.partition(":")
    if not module_name or not attribute:
        raise NotFoundError(f"[pipelines.{name}] factory = {factory!r} names no factory; write it as module:factory")
    if spec_of(module_name) is None:
        raise NotFoundError(
            f"[pipelines.{name}] factory = {factory!r}: no module {module_name!r}{_origin(module_name)}; "
            "install its package, or name its folder in PYTHONPATH"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise PlatformError(f"pipeline {name!r}: {module_name} cannot be imported ({error}); install it") from error
    except BaseException as error:
        raise PlatformError(
            f"pipeline {name!r}: {module_name} cannot be imported ({_described(error)}); correct the module"
        ) from error
    if not hasattr(module, attribute):
        raise NotFoundError(
            f"[pipelines.{name}] factory = {factory!r}: {module_name} has no {attribute!r}{_origin(module_name)}"
            f"{suggest(attribute, dir(module))}; correct the name"
        )
    loaded: Factory = getattr(module, attribute)
    return loaded


def offered(tables: Mapping[str, PipelineTable]) -> tuple[str, ...]:
    """Names of the pipelines whose module is on this machine, found without running anything of it."""
    known = installed()
    modules = {name: (table.factory or known.get(name, "")).partition(":")[0] for name, table in tables.items()}
    return tuple(
        name
        for name, module in modules.items()
        if can_go_outside(tables[name]) or (module and spec_of(module) is not None)
    )


def spec_of(module_name: str) -> ModuleSpec | None:
    """Find a module without importing it or the packages above it, which ``importlib.util.find_spec`` does."""
    spec: ModuleSpec | None = None
    path: Sequence[str] | None = None
    parts = module_name.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for finder in finders if (spec := finder.find_spec(name, path)) is not None), None)
        path = None if spec is None else spec.submodule_search_locations
        if path is None:
            return spec if depth == len(parts) else None
    return spec


def card_of(module_name: str) -> Path | None:
    """Return the ``MODEL_CARD.md`` next to a module; ``None`` when it has none."""
    spec = spec_of(module_name) if module_name else None
    page = Path(spec.origin).with_name("MODEL_CARD.md") if spec and spec.origin else None
    return page if page is not None and page.is_file() else None


def _origin(module_name: str) -> str:
    """Where the package of a module is imported from: it may be another package of the same name."""
    package, _, inner = module_name.partition(".")
    spec = spec_of(package) if inner else None
    places = spec.submodule_search_locations if spec else None
    return f" ({package!r} is imported from {', '.join(places)})" if places else ""


def load_pipeline(name: str, table: PipelineTable, device: str, outside: Outside | None = None) -> Pipeline:
    """Load pipeline ``name`` on ``device``. ``outside``: for those that ``node.config.outside_factory`` knows.

    Raises what ``factory_of`` raises, ``WeightsError``, ``AdmissionError`` when memory runs out, ``ConfigError`` for
    options that the factory refuses and for what is no pipeline, and ``PipelineError`` for anything else.
    """
    factory = factory_of(name, table.factory)
    try:
        if (source := outside_factory(table.factory)) is not None:
            factory = _adapter(factory, source=source, outside=outside)
        pipeline = factory(weights=table.weights, device=device, options=table.options)
    except NodeError:
        raise
    except BaseException as error:
        reason = _described(error)
        if is_lack_of_memory(error):
            raise AdmissionError(f"memory: pipeline {name} cannot be loaded on {device}: {reason}") from error
        refused = isinstance(error, _REFUSALS)
        kind = ConfigError if refused else PipelineError
        reason = str(error) if isinstance(error, ValueError) else reason
        raise kind(f"[pipelines.{name}] cannot be loaded: {reason}") from error
    if fault := _contract_fault(pipeline):
        raise ConfigError(f"[pipelines.{name}] cannot be loaded: {fault}")
    return pipeline


def _adapter(create: Callable[..., Pipeline], *, source: Outsider, outside: Outside | None) -> Factory:
    return partial(create, source=source, outside=outside)


def _contract_fault(pipeline: object) -> str:
    """What ``pipeline`` lacks of ``node.pipeline.Pipeline``; empty: nothing."""
    from node.pipeline import Algorithm, Needs

    kind = type(pipeline).__name__
    missing = [name for name in ("algorithm", "needs") if not hasattr(pipeline, name)]
    missing += [] if callable(getattr(pipeline, "run", None)) else ["run"]
    if missing:
        return f"the factory returned a {kind} without {', '.join(missing)}; see node.pipeline.Pipeline"
    for name, wanted in (("algorithm", Algorithm), ("needs", Needs)):
        value = getattr(pipeline, name)
        if not isinstance(value, wanted):
            return f"{kind}.{name} is a {type(value).__name__}; use node.pipeline.{wanted.__name__}"
    labels = getattr(pipeline, "segment_labels", None)
    if labels is not None and not (
        isinstance(labels, tuple | list) and all(isinstance(label, str) for label in labels)
    ):
        return f"{kind}.segment_labels is {labels!r}; give a tuple of the labels of its segments"
    return ""


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the exception of a stranger may not even have a text
        text = ""
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def table_of(name: str, tables: dict[str, PipelineTable]) -> PipelineTable:
    """``[pipelines.NAME]``. Raises ``NotFoundError`` when the configuration no longer has it."""
    if name not in tables:
        raise NotFoundError(f"[pipelines.{name}] does not exist{suggest(name, list(tables))}; add it to config.toml")
    return tables[name]
