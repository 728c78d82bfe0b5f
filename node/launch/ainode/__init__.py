"""The command ``ainode``: check that `node` and `pipelines` are our own packages, then run the verbs.

Other distributions use these common names too. This package is installed next to both as ``ainode``
(pyproject.toml): it runs even when Python finds another `node` first. It needs only the standard library.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("node", "pipelines")
EXIT_STATUS = 9
"""That of ``node.errors.PlatformError``, which cannot be imported yet."""


def main() -> None:
    """Run ``ainode``, or name the package that hides one of ours and exit with status 9."""
    here = Path(__file__).resolve()
    home = next((folder for folder in here.parents if (folder / "node" / "__main__.py").exists()), here.parent)
    for name in PACKAGES:
        if (fault := _fault(name, home)) is not None:
            print(f"ainode: {fault}", file=sys.stderr)  # noqa: T201 - click is not imported yet
            sys.exit(EXIT_STATUS)
    from node.__main__ import main as verbs

    verbs()


def _fault(name: str, home: Path) -> str | None:
    """What is wrong with the package that Python would import as ``name``, and what to do."""
    ours = home / name
    if not (ours / "__init__.py").exists():
        return f"{ours} is missing or incomplete; install ainode again"
    place = _location(name)
    if place != ours:
        return (
            f"Python imports {name!r} from {place}{_owner(place)}, not from {ours}. Remove that package, or take its "
            "folder off PYTHONPATH; a virtual environment that holds only ainode prevents this"
        )
    if name == "node" and not hasattr(__import__(name), "IMPLEMENTATION_CLASS_UID"):
        return f"another distribution has overwritten {ours / '__init__.py'}; uninstall it and install ainode again"
    return None


def _location(name: str) -> Path | None:
    """Folder of the package, or file of the module, that an import would find; nothing is imported."""
    spec = find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin or name).resolve()


def _owner(place: Path | None) -> str:
    """The distribution that was installed there, if one was."""
    from importlib.metadata import distributions

    for distribution in distributions(path=[str(place.parent)] if place else []):
        if any(place == Path(str(file.locate())).resolve().parent for file in distribution.files or ()):
            return f" (distribution {distribution.name} {distribution.version})"
    return ""
