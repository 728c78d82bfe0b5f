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
from node.translation import gettext, marked
from node.translation.cells import padded


def describe(account: Account) -> str:
    """The account in plain words."""
    lines = [gettext("Everything in the ledger")]
    if account.day:
        lines = [
            gettext("Series received first on {day}", day=account.day),
            gettext("Rows without a series or job are looked for in the studies of this day only."),
        ]
    lines += [
        "",
        describe_equation(marked("images"), marked("sent"), account.sent, "instances"),
        *describe_balance(account.balance),
    ]
    for name, unit, instances, of in (
        (marked("received"), marked("series"), marked("images"), account.received),
        (marked("jobs"), marked("jobs"), marked("objects"), account.jobs),
        (marked("deliveries"), marked("deliveries"), marked("objects"), account.deliveries),
    ):
        rows = [(gettext(name), of.total), *((f"  {gettext(part)}", count) for part, count in of.parts.items())]
        lines.append("")
        lines += [
            f"{padded(what, 40)} {c.studies:7} {gettext('studies')} {c.entries:7} {padded(gettext(unit), 10)} "
            f"{c.instances:9} {gettext(instances)}"
            for what, c in rows
        ]
    lines.append("")
    alike = Counter((c.study_instance_uid, c.series_instance_uid, c.changed or "content") for c in account.conflicts)
    lines += [
        gettext(
            "conflict: {count} images that came as series {series} of study {study} were here with other {changed}; "
            "both files of each are kept",
            count=count,
            series=series,
            study=study,
            changed=gettext(changed),
        )
        for (study, series, changed), count in alike.items()
    ]
    lines += [describe_excluded(image) for image in account.excluded]
    waiting = attention(account)
    lines += waiting
    lines += [gettext("DIFFERENCE: {difference}", difference=text) for text in account.differences]
    lines.append(
        gettext(
            "{conflicts} conflicts, {quarantined} quarantined results",
            conflicts=len(account.conflicts),
            quarantined=len(account.quarantined),
        )
    )
    summary = (
        gettext("{differences} differences.", differences=len(account.differences))
        if account.differences
        else gettext("Everything is accounted for.")
    )
    needing = gettext("{lines} of the lines above need an operator.", lines=len(waiting)) if waiting else ""
    lines.append(f"{summary} {needing}".rstrip())
    return "\n".join(lines)


def describe_balance(of: Balance) -> Iterator[str]:
    """Two equations for each sum: by study, by image."""
    for name, unit in (("studies", marked("studies")), ("instances", marked("images"))):
        for what, counted in (
            (marked("received"), of.received),
            (marked("routed"), of.analysed),
            (marked("to deliver"), of.delivered),
        ):
            yield describe_equation(unit, what, counted, name)


def describe_equation(unit: str, what: str, of: Sum, name: str) -> str:
    """A total and its parts; ``name``: the attribute of ``Count`` that is shown."""
    parts = " + ".join(f"{getattr(count, name)} {gettext(part)}" for part, count in of.parts.items())
    return f"{padded(gettext(unit), 8)} {getattr(of.total, name)} {gettext(what)} = {parts or '0'}"


def attention(account: Account) -> list[str]:
    """Return what needs the operator's attention: one sentence each, with the remedy."""
    return [
        *(
            gettext(
                "IDENTITY CHANGED: study {study} was received again with different {changed}; {destination} has "
                "results of job {job} under the old one; where that was a correction, withdraw them: "
                "ainode retract {job} --reason worklist",
                study=o.study_instance_uid,
                changed=o.changed,
                destination=o.destination,
                job=o.job_id,
            )
            for o in account.outdated
        ),
        *(describe_half_corrected(half_corrected) for half_corrected in account.half_corrected),
        *(
            gettext(
                "NOT TAKEN: images of {whose}: {refusals}; {missing} are missing; send them again",
                whose=_whose(refused),
                refusals=describe_refusals(refused),
                missing=refused.missing,
            )
            for refused in account.refused
            if refused.missing
        ),
        *(describe_held(held) for held in account.held),
        *(
            gettext(
                "DISCONTINUED: {images} images of series {series}, study {study}, were not analysed, or not to the "
                "end, because their procedure step was discontinued; `ainode explain` the study",
                images=s.recorded,
                series=s.series_instance_uid,
                study=s.study_instance_uid,
            )
            for s in account.discontinued
        ),
        *(
            gettext(
                "OVERDUE: delivery of job {job} to {destination}, {stored} of {instances} objects stored: {error}",
                job=d.job_id,
                destination=d.destination,
                stored=d.stored,
                instances=d.instances,
                error=d.error or gettext("not tried yet"),
            )
            for d in account.overdue
        ),
        *(
            gettext(
                "quarantined: {description} of job {job}, study {study}: {reason}",
                description=q.description,
                job=q.job_id,
                study=q.study_instance_uid,
                reason=q.reason,
            )
            for q in account.quarantined
        ),
    ]


def _whose(refused: Refusals) -> str:
    if not refused.series_instance_uid:
        return gettext("an unknown series")
    return gettext(
        "series {series} of study {study}", series=refused.series_instance_uid, study=refused.study_instance_uid
    )


def describe_half_corrected(half_corrected: HalfCorrected) -> str:
    """In plain words, with what to do."""
    return gettext(
        "NEEDS AN OPERATOR: {again} of {images} images of series {series}, study {study}, were received again with "
        "different {changed}; send the others as well, or take the first identity: ainode retry {job}",
        again=half_corrected.again,
        images=half_corrected.images,
        series=half_corrected.series_instance_uid,
        study=half_corrected.study_instance_uid,
        changed=half_corrected.changed,
        job=half_corrected.job_id,
    )


def describe_held(held: Held) -> str:
    """In plain words, with what to do; attributes, never values."""
    return gettext(
        "CONTRADICTING IDENTITY: series {series} of study {study}{of}: {reason}; correct it at the sender and send the "
        "images again under one identity, or take single images out of the series: ainode exclude SOP_UID --reason "
        "TEXT",
        series=held.series_instance_uid,
        study=held.study_instance_uid,
        of=gettext(", job {job}", job=held.job_id) if held.job_id else "",
        reason=reason_text(held.reason),
    )


def describe_excluded(image: ExcludedImage) -> str:
    """In plain words, with how to undo it."""
    return gettext(
        "excluded: image {image} of series {series}, study {study}, by {who}: {why}; it is kept, and ainode exclude "
        "--undo {image} puts it back",
        image=image.sop_instance_uid,
        series=image.series_instance_uid,
        study=image.study_instance_uid,
        who=image.who,
        why=image.why,
    )
