"""Mutants that no test can notice, for ``mutations.py``: module, line, line in its place, and why it is the same."""

from __future__ import annotations

_SLICE_STEPS = "node/studies/slice_steps.py"
_COMPLETENESS = "node/routing/completeness.py"
EXPLAINED: dict[tuple[str, str, str], str] = {
    (
        _SLICE_STEPS,
        "usual = float(np.median(steps)) if len(steps) else 0.0",
        "usual = float(np.median(steps)) if len(steps) else 1.0",
    ): "without a step none is twice as wide, which ends the function as well",
    (
        _SLICE_STEPS,
        "if not 0 < missing <= images // IMAGES_PER_GAP or not ((counts == 1) | (counts == 2)).all():",
        "if not 0 < missing <= images / IMAGES_PER_GAP or not ((counts == 1) | (counts == 2)).all():",
    ): "a whole number is at most a fraction when it is at most the whole part of it",
    (
        _SLICE_STEPS,
        "multiples = np.abs(steps / usual - np.maximum(np.rint(steps / usual), 1)) <= STEP_TOLERANCE * 2",
        "multiples = np.abs(steps / usual - np.maximum(np.rint(steps / usual), 1)) < STEP_TOLERANCE * 2",
    ): "no difference of doubles of this size is exactly 0.1",
    (
        _COMPLETENESS,
        'stated = int(header.get("InConcatenationTotalNumber") or 0)',
        'stated = int(header.get("InConcatenationTotalNumber") or 1)',
    ): "a part that is here is the one",
}
