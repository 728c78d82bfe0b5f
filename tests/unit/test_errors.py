"""The error tree: each class crosses the boundary between processes by a code of its own."""

from __future__ import annotations

import pytest

from node import errors
from node.errors import InternalError, NodeError, PipelineError, error_code, error_of

TREE = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NodeError)]


def test_every_class_has_a_code_of_its_own():
    assert len(TREE) > 10
    assert len({kind.code for kind in TREE}) == len(TREE)
    assert all(kind.__name__ in str(errors.__doc__) for kind in TREE)


@pytest.mark.parametrize("kind", TREE)
def test_an_error_is_the_same_behind_the_boundary(kind: type[NodeError]):
    there = error_of(error_code(kind("the reason")), "the reason")
    assert (type(there), str(there)) == (kind, "the reason")


@pytest.mark.parametrize("code", ["", "ConfigError", "__doc__", "newer"])
def test_an_unknown_code_is_an_internal_error(code: str):
    assert type(error_of(code, "?")) is InternalError


def test_an_error_that_is_none_of_ours_is_internal_and_one_of_a_plug_in_is_of_its_base():
    class PlugInError(PipelineError):
        pass

    assert error_code(KeyError("x")) == InternalError.code
    assert error_code(PlugInError("x")) == PipelineError.code
