"""The account in plain words, and what in it needs an operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from node.ledger.corrections import HalfCorrected
from node.ledger.excluded_images import ExcludedImage
from node.ledger.held_series import Held
from node.operate.account.balance import Balance, Sum
from node.operate.account.refusals import Refusals, describe_refusals
from node.operate.account.report import Account
from node.reasons import reason_text


def describe(account: Account) -> str:
    """The account in plain words."""
    lines = [f"Series received first on {account.day}" if account.day else "Everything in the ledger", ""]
    lines += [describe_equation("images", "sent", account.sent, "instances"), *describe_balance(account.balance)]
    for name, unit, instances, of in (
        ("received", "series", "images", account.received),
        ("jobs", "jobs", "objects", account.jobs),
        ("deliveries", "deliveries", "objects", account.deliveries),
    ):
        rows = [(name, of.total), *((f"  {part}", count) for part, count in of.parts.items())]
        lines.append("")
        lines += [
            f"{what:40} {c.studies:7} studies {c.entries:7} {unit:10} {c.instances:9} {instances}" for what, c in rows
        ]
    lines.append("")
    alike = Counter((c.study_instance_uid, c.series_instance_uid, c.changed or "content") for c in account.conflicts)
    lines += [
        f"conflict: {count} images that came as series {series} of study {study} were here with other {changed}; "
        "both files of each are kept"
        for (study, series, changed), count in alike.items()
    ]
    lines += [describe_excluded(one) for one in account.excluded]
    waiting = attention(account)
    lines += waiting
    lines += [f"DIFFERENCE: {one}" for one in account.differences]
    lines.append(f"{len(account.conflicts)} conflicts, {len(account.quarantined)} quarantined results")
    summary = f"{len(account.differences)} differences." if account.differences else "Everything is accounted for."
    lines.append(f"{summary} {len(waiting)} of the lines above need an operator." if waiting else summary)
    return "\n".join(lines)


def describe_balance(of: Balance) -> Iterator[str]:
    """Two equations for each sum: by study, by image."""
    for name, unit in (("studies", "studies"), ("instances", "images")):
        for what, one in (("received", of.received), ("routed", of.analysed), ("to deliver", of.delivered)):
            yield describe_equation(unit, what, one, name)


def describe_equation(unit: str, what: str, of: Sum, name: str) -> str:
    """A total and its parts; ``name``: the attribute of ``Count`` that is shown."""
    parts = " + ".join(f"{getattr(count, name)} {part}" for part, count in of.parts.items())
    return f"{unit:8} {getattr(of.total, name)} {what} = {parts or '0'}"


def attention(account: Account) -> list[str]:
    """Return what needs the operator's attention: one sentence each, with the remedy."""
    return [
        *(
            f"IDENTITY CHANGED: study {o.study_instance_uid} was received again with different {o.changed}; "
            f"{o.destination} has results of job {o.job_id} under the old one; "
            "where that was a correction, withdraw them: "
            f"ainode retract {o.job_id} --reason worklist"
            for o in account.outdated
        ),
        *(describe_half_corrected(one) for one in account.half_corrected),
        *(
            f"NOT TAKEN: images of {_whose(one)}: {describe_refusals(one)}; {one.missing} are missing; send them again"
            for one in account.refused
            if one.missing
        ),
        *(describe_held(one) for one in account.held),
        *(
            f"DISCONTINUED: {s.recorded} images of series {s.series_instance_uid}, study {s.study_instance_uid}, were "
            "not analysed, or not to the end, because their procedure step was discontinued; `ainode explain` the study"
            for s in account.discontinued
        ),
        *(
            f"OVERDUE: delivery of job {d.job_id} to {d.destination}, {d.stored} of {d.instances} objects stored: "
            f"{d.error or 'not tried yet'}"
            for d in account.overdue
        ),
        *(
            f"quarantined: {q.description} of job {q.job_id}, study {q.study_instance_uid}: {q.reason}"
            for q in account.quarantined
        ),
    ]


def _whose(one: Refusals) -> str:
    if not one.series_instance_uid:
        return "an unknown series"
    return f"series {one.series_instance_uid} of study {one.study_instance_uid}"


def describe_half_corrected(one: HalfCorrected) -> str:
    """In plain words, with what to do."""
    return (
        f"NEEDS AN OPERATOR: {one.again} of {one.images} images of series {one.series_instance_uid}, study "
        f"{one.study_instance_uid}, were received again with different {one.changed}; send the others as well, "
        f"or take the first identity: ainode retry {one.job_id}"
    )


def describe_held(one: Held) -> str:
    """In plain words, with what to do; attributes, never values."""
    of = f", job {one.job_id}" if one.job_id else ""
    return (
        f"CONTRADICTING IDENTITY: series {one.series_instance_uid} of study {one.study_instance_uid}{of}: "
        f"{reason_text(one.reason)}; correct it at the sender and send the images again under one identity, or take "
        "single images out of the series: ainode exclude SOP_UID --reason TEXT"
    )


def describe_excluded(one: ExcludedImage) -> str:
    """In plain words, with how to undo it."""
    return (
        f"excluded: image {one.sop_instance_uid} of series {one.series_instance_uid}, study {one.study_instance_uid}, "
        f"by {one.who}: {one.why}; it is kept, and ainode exclude --undo {one.sop_instance_uid} puts it back"
    )
