"""Mutants that no test can notice, for ``mutations.py``: module, line, line in its place, and why it is the same."""

from __future__ import annotations

_SLICE_STEPS = "node/studies/slice_steps.py"
_COMPLETENESS = "node/routing/completeness.py"
_RULES = "node/routing/rules.py"
_URGENT = "return any(parse_condition(path, ({})).matches(values_of(header, path)) for path in paths)"
_NAMES = '"pipelines": [route.pipeline for route in routes_of(rule, urgent={})],'
_CAPTURE = 'if str(header.get("SOPClassUID", {})).startswith(_SECONDARY_CAPTURE):'
_RECEIVED = "received_at=datetime.fromtimestamp(first_at, {}).astimezone(),"
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
    (
        _COMPLETENESS,
        "totals[str(uid)] = max(stated, totals.get(str(uid), 0))",
        "totals[str(uid)] = max(stated, totals.get(str(uid), 1))",
    ): "a part that is here is the one",
    **{
        (_RULES, _URGENT.format('"STAT", "HIGH"'), _URGENT.format(values)): "conditions match without regard to case"
        for values in ('"stat", "HIGH"', '"STAT", "high"')
    },
    **{
        (_RULES, _NAMES.format("False"), _NAMES.format(urgent)): "urgency changes no name of a pipeline"
        for urgent in ("None", "True")
    },
    **{
        (_RULES, _CAPTURE.format('""'), _CAPTURE.format(absent)): "none of these begins like a SOP class"
        for absent in ("None", "", '"XXXX"')
    },
    **{
        (_RULES, _RECEIVED.format("UTC"), _RECEIVED.format(zone)): "local time comes out of local time as well"
        for zone in ("None", "")
    },
}
