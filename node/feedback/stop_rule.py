"""The stop rule: a sequential test of the positive predictive value among readers' verdicts. Pure.

A CUSUM (Page, 1954) of the log-likelihood ratio of the two values that are configured. Each judged analysis is one
observation: the share of its judged lesions that readers confirmed. However much the lesions of an analysis depend on
one another, the expected ratio is at most 1 while the expected share is at least ``expected_ppv``, because the
exponential function is convex. The mean number of observations before a false stop is therefore at least the
exponential of the limit (Lorden, 1971), whatever the distribution of the shares is.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log

from node.config import StopRule
from node.ledger.verdict_counts import JudgedAnalysis
from node.reasons import Reason, ReasonCode, reason


def stop_reason(rule: StopRule, analyses: Iterable[JudgedAnalysis]) -> Reason | None:
    """Why the sending of a pipeline's results ends; ``None``: it does not.

    ``analyses``: in the order of their verdicts, since the sending began or was resumed.
    """
    limit = log(rule.analyses_between_false_stops)
    of_confirmed = log(rule.stop_ppv / rule.expected_ppv)
    of_rejected = log((1 - rule.stop_ppv) / (1 - rule.expected_ppv))
    total, number, confirmed, rejected = 0.0, 0, 0, 0
    for analysis in analyses:
        share = analysis.confirmed / (analysis.confirmed + analysis.rejected)
        total += share * of_confirmed + (1 - share) * of_rejected
        number, confirmed, rejected = number + 1, confirmed + analysis.confirmed, rejected + analysis.rejected
        if total <= 0:
            total, number, confirmed, rejected = 0.0, 0, 0, 0
        elif total >= limit:
            return reason(
                ReasonCode.QUALITY_FELL,
                analyses=number,
                confirmed=confirmed,
                lesions=confirmed + rejected,
                expected_ppv=rule.expected_ppv,
                stop_ppv=rule.stop_ppv,
                analyses_between_false_stops=rule.analyses_between_false_stops,
            )
    return None
