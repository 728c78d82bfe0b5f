"""How long the stop rule takes, by simulation: to false stops, and to notice that a pipeline has become worse.

.venv/bin/python tests/support/stop_rule_runs.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np

from node.config import StopRule
from node.feedback.stop_rule import stop_reason
from node.ledger.verdict_counts import JudgedAnalysis
from node.reasons import ReasonCode, reason

TOO_MANY_REJECTED = reason(
    ReasonCode.QUALITY_FELL,
    analyses=12,
    confirmed=1,
    lesions=24,
    expected_ppv=0.8,
    stop_ppv=0.5,
    analyses_between_false_stops=20000,
)
"""Why a pipeline was stopped."""

Draw = Callable[[np.random.Generator, float], JudgedAnalysis]


def one_lesion(random: np.random.Generator, ppv: float) -> JudgedAnalysis:
    confirmed = int(random.random() < ppv)
    return JudgedAnalysis(confirmed=confirmed, rejected=1 - confirmed)


def several(random: np.random.Generator, ppv: float) -> JudgedAnalysis:
    """1 to 6 lesions, 2.5 on average, independent of one another."""
    lesions = 1 + int(random.binomial(5, 0.3))
    confirmed = int(random.binomial(lesions, ppv))
    return JudgedAnalysis(confirmed=confirmed, rejected=lesions - confirmed)


def alike(random: np.random.Generator, ppv: float) -> JudgedAnalysis:
    """The same number of lesions, which readers judge alike: all confirmed, or all rejected."""
    lesions = 1 + int(random.binomial(5, 0.3))
    confirmed = lesions if random.random() < ppv else 0
    return JudgedAnalysis(confirmed=confirmed, rejected=lesions - confirmed)


DRAWS: dict[str, Draw] = {"1 lesion": one_lesion, "1 to 6, independent": several, "1 to 6, all alike": alike}


def false_stops(rule: StopRule, draw: Draw, analyses: int, seed: int) -> int:
    """Stops among this many analyses of a pipeline that works as it should; each stop is followed by a resumption."""
    random, stops = np.random.default_rng(seed), 0
    stream = iter([draw(random, rule.expected_ppv) for _ in range(analyses)])
    while stop_reason(rule, stream) is not None:
        stops += 1
    return stops


def delays(rule: StopRule, draw: Draw, ppv: float, runs: int, seed: int) -> list[tuple[int, int]]:
    """Analyses and lesions judged after a fall to ``ppv`` until the stop, of runs that had 200 good ones before."""
    random, taken = np.random.default_rng(seed), []
    for _ in range(runs):
        after: list[JudgedAnalysis] = []

        def stream(after: list[JudgedAnalysis] = after) -> Iterator[JudgedAnalysis]:
            for _ in range(200):
                yield draw(random, rule.expected_ppv)
            while True:
                after.append(draw(random, ppv))
                yield after[-1]

        stop_reason(rule, stream())
        taken.append((len(after), sum(analysis.confirmed + analysis.rejected for analysis in after)))
    return taken


def main() -> None:
    """Print the tables of docs/verdicts.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=1000)
    parser.add_argument("--analyses", type=int, default=1000, help="judged in a year")
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    rule = StopRule(expected_ppv=0.8, stop_ppv=0.5)
    for name, draw in DRAWS.items():
        stops = false_stops(rule, draw, given.years * given.analyses, seed=1)
        print(f"{name}: {stops} false stops in {given.years} years of {given.analyses} judged analyses")
        for ppv in (0.7, 0.65, 0.6, 0.5, 0.4, 0.3, 0.0):
            taken = delays(rule, draw, ppv, given.runs, seed=2)
            analyses, lesions = (sorted(column) for column in zip(*taken, strict=True))
            late = analyses[int(0.95 * len(analyses))]
            print(f"  to {ppv:.2f}: median {median(analyses):g} analyses ({median(lesions):g} lesions), 95 % {late}")


if __name__ == "__main__":
    main()
