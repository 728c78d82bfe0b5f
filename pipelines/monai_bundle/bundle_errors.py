"""What stops a bundle from being built or from running, in one sentence."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from node.errors import NodeError, PlatformError, WeightsError, is_lack_of_memory
from pipelines.options import library

_EXTRAS = {"torchvision": "'ainode[detection]'"}
"""Module -> what brings the version that goes with the rest of the node."""
_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "ignite": "pytorch-ignite",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Module -> name of the package that brings it, where they differ."""
_MISSED_LATE = {
    "KeepLargestConnectedComponent": "skimage",
    "RemoveSmallObjects": "skimage",
    "SwinTransformer": "einops",
}
"""Beginning of the class of a transform or layer -> module of whose lack MONAI complains only when it runs."""
_NAMES_MODULE = (
    re.compile(r"No module named '([\w.]+)'"),
    re.compile(r"required package `([\w.]+)`"),
    re.compile(r"^(?:from|import) ([\w.]+)"),
)
"""How MONAI and Python name a module that cannot be imported."""
_NO_CLASS = re.compile(r"Cannot locate class or function path: '([^']+)'")
_COMPONENT = re.compile(r"Failed to instantiate component '([^']+)'")
_LONGEST = 200
"""Letters of a library's own text."""


@contextmanager
def explained(bundle: str, key: str, made_with: str) -> Iterator[None]:
    """Raise a ``NodeError`` for whatever fails while ``key`` is built, or ``ValueError`` where an option would help.

    ``made_with``: version of MONAI that the metadata state. Lack of memory is raised as it is.
    """
    try:
        yield
    except NodeError:
        raise
    except Exception as error:  # the code of a bundle may raise anything
        causes = list(_causes(error))
        if lack := next((cause for cause in causes if is_lack_of_memory(cause)), None):
            raise lack from error
        if (missing := missing_package(bundle, error)) is not None:
            raise missing from error
        if any(isinstance(cause, pickle.UnpicklingError) for cause in causes):
            raise ValueError(
                f"option unpickle = false: {key} of bundle {bundle} reads a file that is more than tensors and runs "
                "code when it is read; set unpickle = true only if you trust its author as you trust a program"
            ) from error
        raise WeightsError(f"bundle {bundle}: {_fault(causes, key, made_with)}") from error


def missing_package(bundle: str, error: BaseException) -> PlatformError | None:
    """Return the error that names the package for whose lack ``error`` was raised; ``None``: for another reason."""
    for cause in _causes(error):
        if not isinstance(cause, ImportError):
            continue
        named = next((match[1] for form in _NAMES_MODULE if (match := form.search(str(cause)))), "")
        module = cause.name or named
        package = module.partition(".")[0]
        if package in ("", "scripts", "monai", "torch"):
            continue
        return _missing(bundle, package)
    return None


def check_packages(bundle: str, parts: Iterable[object]) -> None:
    """Raise ``PlatformError`` when one of ``parts``, transforms and layers, lacks a package that it needs to run."""
    for name in {type(part).__name__ for part in parts}:
        for beginning, module in _MISSED_LATE.items():
            if name.startswith(beginning) and find_spec(module) is None:
                raise _missing(bundle, module)


def _missing(bundle: str, package: str) -> PlatformError:
    install = _EXTRAS.get(package) or _DISTRIBUTIONS.get(package, package)
    return PlatformError(
        f"bundle {bundle} needs the package {package}, which is not installed or does not fit; install it beside the "
        f"node with: pip install {install}"
    )


def short(error: BaseException) -> str:
    """Return the text of a library's error in one line."""
    return " ".join(str(error).split())[:_LONGEST].rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and what it was raised from, the original one last."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        within = getattr(cause, "value", None)  # pydoc.ErrorDuringImport
        context = None if cause.__suppress_context__ else cause.__context__
        cause = cause.__cause__ or (within if isinstance(within, BaseException) else context)


def _fault(causes: list[BaseException], key: str, made_with: str) -> str:
    """Say what cannot be built, why, and what to do about it."""
    origin = causes[-1]
    texts = [str(cause) for cause in causes]
    versions = f"this node has {library('monai')}" + (f", the bundle was made with {made_with}" if made_with else "")
    if isinstance(origin, FileNotFoundError):
        return f"{origin.filename} does not exist; fetch the bundle's large files as its README says"
    if absent := next((match[1] for text in texts if (match := _NO_CLASS.search(text))), ""):
        return f"{key} needs {absent}, which is not available ({versions}); ask its author for an update"
    component = next((match[1] for text in reversed(texts) if (match := _COMPONENT.search(text))), "")
    part = f"{key} ({component})" if component else key
    return (
        f"{part} cannot be built: {type(origin).__name__}: {short(origin)}; {versions}: correct it with the option "
        "overrides, or ask its author for an update"
    )
