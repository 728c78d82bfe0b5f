"""Pipelines by name: ``module:factory`` from the configuration, or an installed entry point."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points

from node.config import PipelineTable, suggest
from node.errors import ConfigError, NotFoundError, PlatformError
from node.pipeline import Factory, Pipeline

GROUP = "ainode.pipelines"
"""Entry point group in which packages announce their factories."""


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
    module_name, _, attribute = factory.partition(":")
    if not module_name or not attribute:
        raise NotFoundError(f"[pipelines.{name}] factory = {factory!r} names no factory; write it as module:factory")
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):  # the package above it is missing, or the name is no module name
        spec = None
    if spec is None:
        raise NotFoundError(
            f"[pipelines.{name}] factory = {factory!r}: no module {module_name!r}{_origin(module_name)}; "
            "install its package"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise PlatformError(f"pipeline {name!r}: {module_name} cannot be imported ({error}); install it") from error
    if not hasattr(module, attribute):
        raise NotFoundError(
            f"[pipelines.{name}] factory = {factory!r}: {module_name} has no {attribute!r}{_origin(module_name)}"
            f"{suggest(attribute, dir(module))}; correct the name"
        )
    loaded: Factory = getattr(module, attribute)
    return loaded


def _origin(module_name: str) -> str:
    """Where the package of a module is imported from: it may be another package of the same name."""
    package, _, inner = module_name.partition(".")
    try:
        spec = importlib.util.find_spec(package) if package and inner else None
    except ValueError:  # __main__ has no specification
        spec = None
    places = spec.submodule_search_locations if spec else None
    return f" ({package!r} is imported from {', '.join(places)})" if places else ""


def load_pipeline(name: str, table: PipelineTable, device: str) -> Pipeline:
    """Load pipeline ``name`` on ``device``.

    Raises what ``factory_of`` raises, ``WeightsError``, and ``ConfigError`` for options that the factory refuses and
    for metadata of the model that it cannot use.
    """
    factory = factory_of(name, table.factory)
    try:
        return factory(weights=table.weights, device=device, options=table.options)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"[pipelines.{name}] cannot be loaded: {error}") from error


def table_of(name: str, tables: dict[str, PipelineTable]) -> PipelineTable:
    """``[pipelines.NAME]``. Raises ``NotFoundError`` when the configuration no longer has it."""
    if name not in tables:
        raise NotFoundError(f"[pipelines.{name}] does not exist{suggest(name, list(tables))}; add it to config.toml")
    return tables[name]
