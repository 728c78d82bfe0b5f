"""A part of the fuzzing of rules and forms, always the same."""

from __future__ import annotations

import random

import pytest
from dashboards import Dashboard
from fuzz_parsers import Forms, mutate_rule, stored, try_rule
from fuzz_receive import mutate_bytes


@pytest.mark.parametrize("example", stored("rules"))
def test_every_stored_rule_is_decided_or_refused_in_words(example: bytes):
    try_rule(example)


def test_a_mutated_rule_is_decided_or_refused_in_words():
    rng, examples = random.Random(31), stored("rules")
    accepted = sum(try_rule(mutate_rule(rng, rng.choice(examples))) for _ in range(1000))
    assert 100 < accepted < 950


@pytest.mark.thorough
def test_a_mutated_form_is_obeyed_or_refused(dashboard: Dashboard):
    rng, examples, forms = random.Random(32), stored("forms"), Forms(dashboard)
    answers = {forms.try_form(rng, body) for body in examples}
    answers |= {forms.try_form(rng, mutate_bytes(rng, rng.choice(examples))) for _ in range(80)}
    assert answers <= {303, 400, 403, 404, 409, 413}
    assert {303, 403} <= answers
