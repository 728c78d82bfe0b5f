"""Reading a MONAI Bundle: its own configuration, edited so that it works on volumes in memory, never on files."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from monai.inferers import SimpleInferer
from monai.transforms import Compose, MapTransform
from torch import nn

from node.errors import WeightsError
from pipelines.monai_bundle.bundle_errors import check_packages, explained, missing_package, short
from pipelines.monai_bundle.configuration import READERS, WRITERS, read_configuration, target
from pipelines.monai_bundle.metadata import Metadata
from pipelines.monai_bundle.prompts import asked_classes, prompts
from pipelines.monai_bundle.supported import check_supported
from pipelines.pinned import pinned_folder
from pipelines.tensor_files import numpy_content

_OWN_CODE = "scripts"
"""The package in which every bundle brings code; two bundles in one process must not see each other's."""
_POINTER = b"version https://git-lfs"
"""Beginning of what Git LFS leaves in place of a file that it has not fetched."""
_UNPICKLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""Variable that lets ``torch.load`` in a bundle's own expressions read more than tensors."""


class Bundle:
    """A loaded bundle: ``pre`` and ``post`` transforms, ``network``, ``inferer`` and what its metadata says."""

    def __init__(
        self,
        path: Path | None,
        *,
        sha256: str,
        device: str,
        config: str,
        overrides: Mapping[str, Any],
        modality: str,
        classes: Sequence[str],
        unpickle: bool,
    ) -> None:
        """Read, check against the digest, load.

        Raises ``WeightsError`` when the bundle is missing, altered, incomplete or of a kind that cannot be run,
        ``PlatformError`` when it needs a package that is not installed, ``ValueError`` for overrides it does not know.
        """
        self.root = pinned_folder(path, sha256, "configs/metadata.json", self)
        self.device = torch.device(device)
        self._code: dict[str, ModuleType] = {}
        self.metadata = Metadata.read(self.root / "configs" / "metadata.json")
        self._parser = read_configuration(self.root, config, overrides, str(self.device))
        by_slice = target(self._parser.get("inferer")) == "SliceInferer"
        check_supported(self.metadata, self.root.name, by_slice=by_slice, modality=modality)
        self.key = str(self.setting("image_key") or next(iter(self.metadata.keys), "image"))
        """Key of the image in the records that the transforms pass on."""
        with self.own_code(), numpy_content(), _unpickled(allowed=unpickle):
            self._load(unpickle=unpickle)
        self._check_inputs()
        every = self.setting("everything_labels") or ()
        self.asked = asked_classes(self.inferer, self.metadata.classes, classes, every, self.root.name)
        """Numbers of the classes for which a promptable model is asked; empty: it gives all of its classes."""

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """Within it, ``scripts`` is this bundle's package."""
        others = _take_own_code()
        sys.modules.update(self._code)
        sys.path.insert(0, str(self.root))
        bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a written file would change the digest
        try:
            yield
        except Exception as error:  # a transform may import only when it runs
            if (missing := missing_package(self.root.name, error)) is not None:
                raise missing from error
            raise
        finally:
            sys.path.remove(str(self.root))
            sys.dont_write_bytecode = bytecode
            self._code = _take_own_code()
            sys.modules.update(others)

    @property
    def batches(self) -> tuple[int, ...]:
        """Windows at once as the bundle says, then half as many, down to one."""
        most = int(getattr(self.inferer, "sw_batch_size", 1))
        return tuple(most >> halvings for halvings in range(most.bit_length()))

    def move(self, device: str, batch: int) -> None:
        """From now on compute on ``device``, with ``batch`` windows at once where there are windows."""
        self.network.to(device)
        if self.detector is not None:
            self.detector.to(device)
        if hasattr(self.inferer, "sw_batch_size"):
            self.inferer.sw_batch_size = batch

    def infer(self, images: torch.Tensor) -> Any:
        """Answer of the network about ``images``, ``[batch, channel, column, row, slice]``."""
        return self.inferer(images, self.network, **(prompts(self.asked, images.device) if self.asked else {}))

    def part(self, key: str) -> Any:
        """The object that the configuration describes under ``key``; ``None`` when it has none."""
        if self._parser.get(key) is None:
            return None
        with explained(self.root.name, key, self.metadata.monai_version):
            return self._parser.get_parsed_content(key, instantiate=True)

    def setting(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, evaluated."""
        if self._parser.get(key) is None:
            return default
        with explained(self.root.name, key, self.metadata.monai_version):
            return self._parser.get_parsed_content(key)

    def _load(self, *, unpickle: bool) -> None:
        self.pre = _without(self.part("preprocessing"), READERS)
        self.post = _without(self.part("postprocessing"), WRITERS)
        self.network = self._network(unpickle=unpickle).to(self.device).eval()
        check_packages(self.root.name, (*self.pre.transforms, *self.post.transforms, *self.network.modules()))
        self.part("detector_ops")  # a detection bundle sets its box selection here
        self.inferer = self.part("inferer") or SimpleInferer()
        self.detector = getattr(self.inferer, "detector", None)
        if self.detector is not None:
            self.detector.to(self.device).eval()

    def _load_path(self) -> Any:
        """Where the bundle loads its weights from: the path of its checkpoint loader, alone or among handlers."""
        if path := self.setting("checkpointloader#load_path"):
            return path
        for key in ("handlers", "evaluator#val_handlers"):
            handlers = self._parser.get(key)
            for number, handler in enumerate(handlers if isinstance(handlers, list) else ()):
                if target(handler) == "CheckpointLoader":
                    return self.setting(f"{key}#{number}#load_path")
        return None

    def _network(self, *, unpickle: bool) -> nn.Module:
        file = Path(str(self._load_path() or self.root / "models" / "model.pt"))
        scripted = self.root / "models" / "model.ts"
        if not file.is_file() and scripted.is_file():
            with explained(self.root.name, "models/model.ts", self.metadata.monai_version):
                loaded: nn.Module = torch.jit.load(str(scripted), map_location=self.device)
                return loaded
        state = self._state(file, unpickle=unpickle)
        key = "network" if self._parser.get("network") is not None else "network_def"
        network = self.part(key)
        if not isinstance(network, nn.Module):
            raise WeightsError(
                f"bundle {self.root.name}: its configuration has neither network nor network_def; set the option "
                "config to the one of its configurations that has one, or ask its author for an update"
            )
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError) as error:
            raise WeightsError(
                f"weights: {file} does not fit the bundle's {key} ({short(error)}); give the file that belongs to this "
                "version of the bundle"
            ) from error
        return network

    def _state(self, file: Path, *, unpickle: bool) -> Any:
        """Parameters of the network, as ``file`` holds them."""
        if fault := _absence(file):
            raise WeightsError(
                f"weights: {file} {fault}; fetch the bundle's large files first, as its README says or with: "
                f"python -m monai.bundle download_large_files --bundle_path {self.root}"
            )
        try:
            state = torch.load(file, map_location="cpu", weights_only=not unpickle)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"option unpickle = false: {file} is more than tensors and runs code when it is read; "
                "set unpickle = true only if you trust its author as you trust a program"
            ) from error
        except (RuntimeError, EOFError, ValueError) as error:
            raise WeightsError(f"weights: {file} cannot be read ({short(error)}); fetch it again") from error
        for key in ("model", "state_dict"):
            if isinstance(state, dict) and isinstance(state.get(key), dict):
                state = state[key]
        return state

    def _check_inputs(self) -> None:
        """Raise ``WeightsError`` when the bundle waits for other inputs than one image."""
        first = next((step for step in self.pre.transforms if isinstance(step, MapTransform)), None)
        if first is not None and self.key not in first.keys and not first.allow_missing_keys:
            names = ", ".join(map(str, first.keys))
            raise WeightsError(
                f"bundle {self.root.name}: its preprocessing begins with the keys {names} and not with the image "
                f"{self.key!r}, which has all channels; ask its author for a configuration that does, and name it with "
                "the option config"
            )


def _absence(file: Path) -> str:
    """Say how a file of weights is absent; empty: it is there."""
    if not file.is_file():
        return "does not exist"
    with file.open("rb") as opened:
        return "is a pointer of Git LFS, not the weights" if opened.read(len(_POINTER)) == _POINTER else ""


@contextmanager
def _unpickled(*, allowed: bool) -> Iterator[None]:
    """Within it, when ``allowed``, expressions of a bundle read files that are more than tensors."""
    before = os.environ.get(_UNPICKLE)
    if allowed:
        os.environ[_UNPICKLE] = "1"
    try:
        yield
    finally:
        if allowed and before is None:
            del os.environ[_UNPICKLE]


def _without(chain: Any, unwanted: tuple[str, ...]) -> Compose:
    """``chain`` itself, without steps of these names: a configuration may give them as an expression or a list."""
    chain = chain if isinstance(chain, Compose) else Compose(chain or [])
    chain.transforms = tuple(step for step in chain.transforms if not type(step).__name__.startswith(unwanted))
    return chain


def _take_own_code() -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == _OWN_CODE}
