"""Which series the parts of a SEG or of a report are about."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from node.result_parts import GROUP, LIBRARY, ResultReferences, keep_parts, references_of

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
T1, FLAIR, OTHER = "1.1", "1.2", "1.9"


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def content(kind: str, code: str, *below: Dataset, images: Sequence[str] = (), uid: str = "") -> Dataset:
    dataset = item(ValueType=kind, ConceptNameCodeSequence=[item(CodeValue=code)], ContentSequence=list(below))
    if images:
        dataset.ReferencedSOPSequence = [item(ReferencedSOPInstanceUID=image) for image in images]
    if uid:
        dataset.UID = uid
    return dataset


def report(*items: Dataset, series: Sequence[str] = (T1, FLAIR)) -> Dataset:
    named = [
        item(SeriesInstanceUID=uid, ReferencedSOPSequence=[item(ReferencedSOPInstanceUID=f"{uid}.5")]) for uid in series
    ]
    return item(
        Modality="SR",
        CurrentRequestedProcedureEvidenceSequence=[item(ReferencedSeriesSequence=named)],
        ContentSequence=list(items),
    )


def test_a_part_is_about_the_series_of_the_images_below_it() -> None:
    deep = content(
        "CONTAINER", GROUP, content("NUM", "1", content("SCOORD", "2", content("IMAGE", "3", images=["1.2.5"])))
    )
    of = references_of(report(content("CONTAINER", "x", deep), content("NUM", "9", uid=T1)))
    assert of == ResultReferences(series=(T1, FLAIR), parts=((FLAIR,), (T1,)))


def test_measurements_of_an_image_library_are_no_part() -> None:
    library = content("CONTAINER", LIBRARY, content("NUM", "pixel spacing", images=["1.2.5"]))
    assert references_of(report(library)).parts == ((),)


def test_parts_about_other_series_are_removed_wherever_they_are() -> None:
    first, second, neither = (
        content("CONTAINER", GROUP, *below)
        for below in ([content("IMAGE", "3", images=["1.1.5"])], [content("IMAGE", "3", images=["1.2.5"])], [])
    )
    text = content("TEXT", "t")
    whole = report(text, content("CONTAINER", "x", first, second), neither)
    keep_parts(whole, lambda part: part == (FLAIR,))
    kept, container = whole.ContentSequence
    assert kept is text
    assert list(container.ContentSequence) == [second]


def test_a_part_that_names_no_sent_series_is_about_the_first_that_the_object_names() -> None:
    of = ResultReferences(series=(OTHER, FLAIR, T1), parts=((),))
    assert of.series_of((), {T1: "", FLAIR: ""}) == FLAIR
    assert of.series_of((OTHER, T1), {T1: "", FLAIR: ""}) == T1
    assert of.series_of((OTHER,), {"1.7": ""}) == ""


def test_a_segmentation_of_several_series_is_about_the_first_in_its_frame_of_reference() -> None:
    of = ResultReferences(series=(T1, FLAIR, OTHER), parts=((T1, FLAIR),), frame_of_reference="f")
    assert of.series_of((T1, FLAIR), {T1: "g", FLAIR: "f", OTHER: "f"}) == FLAIR
    assert of.series_of((T1, FLAIR), {T1: "f", FLAIR: "f"}) == T1
    assert of.series_of((T1, FLAIR), {T1: "g", FLAIR: "g", OTHER: "f"}) == "", "it derives from the others only"
    assert of.series_of((T1,), {T1: "g", FLAIR: "f"}) == T1, "whoever names one may have a frame of its own"


def test_a_segmentation_derives_from_what_its_frames_name() -> None:
    frame = item(DerivationImageSequence=[item(SourceImageSequence=[item(ReferencedSOPInstanceUID="1.2.5")])])
    named = [
        item(SeriesInstanceUID=uid, ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID=f"{uid}.5")])
        for uid in (T1, FLAIR)
    ]
    seg = item(SOPClassUID=SEG, FrameOfReferenceUID="1.3", ReferencedSeriesSequence=named)
    assert references_of(seg) == ResultReferences(series=(T1, FLAIR), parts=((),), frame_of_reference="1.3")
    seg.PerFrameFunctionalGroupsSequence = [frame]
    assert references_of(seg).parts == ((FLAIR,),)
