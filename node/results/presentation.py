"""Presentation states and key object selections, for viewers that show annotations on the source images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from highdicom import ModalityLUTTransformation, PresentationLUTTransformation, ReferencedImageSequence
from highdicom.color import CIELabColor
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from node.results.analysis import Analysis, Source
from node.results.equipment import MANUFACTURER, serial_number, software_versions
from node.results.graphics import Graphic
from node.results.headers import as_single, describe_body_part, rescale
from node.results.identity import noted, plain
from node.results.naming import series_description, series_number
from node.results.rendering import window_of
from node.results.sr import observer
from node.results.uids import derive_uid
from node.wording import NOTICE


def encode_presentation_states(
    analysis: Analysis, source: Source, headers: Sequence[Dataset], *, graphics: Sequence[Graphic], key: str
) -> Iterator[GrayscaleSoftcopyPresentationState]:
    """Build GSPS (PS3.3 A.33.1): each of ``graphics`` on its image, its name, a fitting window.

    A presentation state has one Modality LUT for all its images (C.11.1), and one Presentation LUT Shape: images that
    differ in rescale, as those of PET and some MR do, in MONOCHROME1, or in size, get one each. There is none of colour
    images.
    """
    groups: dict[tuple[tuple[float, float], bool, tuple[int, int]], list[int]] = {}
    for index in _places(graphics):
        image = source.datasets[index]
        stated = image.get("PhotometricInterpretation", "MONOCHROME2")
        if stated in ("MONOCHROME1", "MONOCHROME2"):
            alike = (rescale(image), stated == "MONOCHROME1", (int(image.Rows), int(image.Columns)))
            groups.setdefault(alike, []).append(index)
    for number, ((modality_lut, inverse, _), places) in enumerate(groups.items(), 1):
        here = [graphic for graphic in graphics if graphic.place in places]
        yield _state(
            analysis, source, headers, graphics=here, modality_lut=modality_lut, inverse=inverse, key=key, number=number
        )


def _state(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    *,
    graphics: Sequence[Graphic],
    modality_lut: tuple[float, float],
    inverse: bool,
    key: str,
    number: int,
) -> GrayscaleSoftcopyPresentationState:
    images = {index: _whole(headers, source, index) for index in _places(graphics)}
    layer = GraphicLayer("FINDINGS", order=1, description=NOTICE, display_color=CIELabColor.from_rgb(255, 221, 102))
    annotations, windows = [], []
    for index, image in images.items():
        here = [graphic for graphic in graphics if graphic.place == index]
        annotations.append(_annotation(image, layer, here))
        values = source.image(index)
        centre, width = window_of(values, here[0].inside(values.shape), source.datasets[index])
        function = "LINEAR" if width >= 1 else "LINEAR_EXACT"  # the only one that may be narrower (C.11.2.1.2)
        shown_on = ReferencedImageSequence([image])
        windows.append(SoftcopyVOILUTTransformation(centre, width, None, function, referenced_images=shown_on))
    slope, intercept = modality_lut
    description = series_description(analysis, source, "outlines")
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=list(images.values()),
        series_instance_uid=derive_uid(key, "presentation state", "series"),
        series_number=series_number(analysis, source, 92),
        sop_instance_uid=derive_uid(key, "presentation state", *([number] if number > 1 else [])),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=plain(analysis.algorithm.name),
        software_versions=software_versions(analysis)[0],
        device_serial_number=serial_number(analysis),
        content_label="FINDINGS",
        content_description=noted(f"AI {analysis.title}"),
        graphic_annotations=annotations,
        graphic_layers=[layer],
        content_creator_name=plain(analysis.algorithm.name.replace("^", " ").replace("=", " "), 60) + "^",
        modality_lut_transformation=ModalityLUTTransformation(
            rescale_intercept=intercept,
            rescale_slope=slope,
            rescale_type="HU" if source.modality == "CT" else "US",
        ),
        voi_lut_transformations=windows,
        presentation_lut_transformation=PresentationLUTTransformation("INVERSE" if inverse else "IDENTITY"),
        series_description=description,
    )
    describe_body_part(state, source)
    return state


def _annotation(image: Dataset, layer: GraphicLayer, graphics: Sequence[Graphic]) -> GraphicAnnotation:
    """Lines and names of ``graphics`` on one image."""
    return GraphicAnnotation(
        referenced_images=[image],
        graphic_layer=layer,
        graphic_objects=[
            GraphicObject(
                "POINT" if len(graphic.points) == 1 else "POLYLINE",
                graphic.points,
                units="PIXEL",
                tracking_id=graphic.tracking_id,
                tracking_uid=graphic.tracking_uid,
            )
            for graphic in graphics
        ],
        text_objects=[
            TextObject(
                f"{graphic.tracking_id} ({NOTICE})", units="PIXEL", anchor_point=tuple(graphic.points.max(axis=0))
            )
            for graphic in graphics
        ],
    )


def encode_key_objects(
    analysis: Analysis, source: Source, headers: Sequence[Dataset], *, graphics: Sequence[Graphic], key: str
) -> KeyObjectSelectionDocument:
    """Build a Key Object Selection (PS3.3 A.35.4), title Of Interest: the images with ``graphics`` on them."""
    images = [_whole(headers, source, index) for index in _places(graphics)]
    return KeyObjectSelectionDocument(
        evidence=images,
        content=KeyObjectSelection(
            document_title=codes.DCM.OfInterest,
            referenced_objects=images,
            observer_device_context=observer(analysis),
            description=noted(f"Slices with findings of AI {analysis.title}", 1024),
        ),
        series_instance_uid=derive_uid(key, "key object selection", "series"),
        series_number=series_number(analysis, source, 93),
        sop_instance_uid=derive_uid(key, "key object selection"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description=series_description(analysis, source, "key slices"),
    )


def _places(graphics: Iterable[Graphic]) -> list[int]:
    return sorted({graphic.place for graphic in graphics})


def _whole(headers: Sequence[Dataset], source: Source, index: int) -> Dataset:
    """The header of one image with what highdicom asks of each: the first one holds it."""
    whole = Dataset()
    whole.update(headers[0])
    whole.update(headers[index])
    for keyword in ("InstanceNumber", "SamplesPerPixel", "PhotometricInterpretation"):
        if keyword in source.datasets[index]:
            whole.add(source.datasets[index][keyword])
    return as_single(whole)
