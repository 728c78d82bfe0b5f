"""Factories that fail in any way, and what they may return: one sentence that names pipeline and fault."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.config import PipelineTable
from node.errors import ConfigError, NodeError, PlatformError
from node.inference.pipeline_description import PipelineDescription
from node.inference.plugins import load_pipeline
from node.inference.task import Reply
from node.pipeline import Algorithm, Findings, Needs

MODULE = "factories_of_this_test"


class Whole:
    algorithm = Algorithm(name="Whole", version="1")
    needs = Needs(modalities=frozenset({"CT"}))

    def run(self, series: Any) -> Findings:
        return Findings()


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Final(BaseException):
    """Not even an Exception."""


def load(create: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    (folder / f"{MODULE}.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    __import__(MODULE)
    monkeypatch.setattr(sys.modules[MODULE], "create", create, raising=False)
    return load_pipeline("x", PipelineTable(factory=f"{MODULE}:create"), "cpu")


def raising(error: BaseException) -> Callable[..., Any]:
    def create(**_: Any) -> Any:
        raise error

    return create


@pytest.mark.parametrize(
    "error",
    [
        KeyError("labels"),
        RuntimeError("no kernel image"),
        SystemExit("bye"),
        Final("over"),
        UnprintableError(),
        ExceptionGroup("several", [ValueError("inner")]),
        StopIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_factory_raises_becomes_one_error_of_the_node_that_names_it(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(NodeError, match=rf"^\[pipelines.x\] cannot be loaded: {type(error).__name__}"):
        load(raising(error), monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "text", ["import sys; sys.exit(3)", "raise RuntimeError('boom')", "def x(:", "import nothing_of_that_name"]
)
def test_a_module_that_cannot_be_imported_is_named(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_module_of_this_test.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PlatformError, match="pipeline 'x': broken_module_of_this_test cannot be imported"):
        load_pipeline("x", PipelineTable(factory="broken_module_of_this_test:create"), "cpu")


def changed(**values: Any) -> Callable[..., Any]:
    def create(**_: Any) -> Any:
        whole = Whole()
        for name, value in values.items():
            setattr(whole, name, value)
        return whole

    return create


@pytest.mark.parametrize(
    ("create", "fault"),
    [
        (lambda **_: None, "the factory returned a NoneType without algorithm, needs, run"),
        (changed(needs={"modalities": "CT"}), "needs is a dict; use node.pipeline.Needs"),
        (changed(algorithm="Whole"), "algorithm is a str; use node.pipeline.Algorithm"),
        (changed(run=3), "the factory returned a Whole without run"),
        (lambda **_: Needs(modalities="CT"), r"Needs.modalities is 'CT'; give a set, such as frozenset\({'CT'}\)"),
        (lambda **_: Algorithm(name="Whole", version=1.0), "Algorithm.version is 1.0; give a text"),
    ],
)
def test_what_is_no_pipeline_is_refused_with_the_remedy(
    create: Callable[..., Any], fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(create, monkeypatch, tmp_path)


def test_needs_may_be_given_as_any_set_and_as_numbers_of_numpy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs = Needs(modalities={"CT"}, min_slices=np.int64(3), levels={5: (np.float32(-1100), -300)})  # type: ignore[arg-type]
    pipeline = load(changed(needs=needs), monkeypatch, tmp_path)
    sent = Reply(description=vars(PipelineDescription.of(pipeline))).to_bytes()
    assert PipelineDescription.received(Reply.from_bytes(sent).description).needs["modalities"] == ["CT"]
