"""Which picture a client gets, by what it says it accepts (PS3.18 8.7.5), and by its query (8.3.5)."""

from __future__ import annotations

import time

import pytest

from node.dicomweb.rendered_media import Form, chosen
from node.dicomweb.rendered_query import rendering_of, thumbnail_of, unsupported
from node.dicomweb.rendering import MEDIA_TYPES, Rendering, Viewport, Window
from node.errors import InputError


@pytest.mark.parametrize(
    ("accept", "pictures", "media_type", "form"),
    [
        ("", 1, "image/jpeg", "single"),
        ("*/*", 1, "image/jpeg", "single"),
        ("*/*", 2, "image/jpeg", "multipart"),
        ("image/png", 1, "image/png", "single"),
        ("image/png", 2, "image/png", "single"),
        ("image/jpeg;q=0.5, image/png", 1, "image/png", "single"),
        ("image/*;q=0.2, image/gif;q=0.9", 1, "image/gif", "single"),
        ("image/jpeg;q=0, image/*", 1, "image/png", "single"),
        ("text/html, */*;q=0.1", 1, "image/jpeg", "single"),
        ('multipart/related; type="image/png"', 1, "image/png", "multipart"),
        ('multipart/related; type="image/png";q=0.5, image/jpeg', 3, "image/jpeg", "single"),
        ("multipart/related", 3, "image/jpeg", "multipart"),
    ],
)
def test_a_client_gets_what_it_likes_most(accept: str, pictures: int, media_type: str, form: str) -> None:
    assert chosen(accept, MEDIA_TYPES, pictures=pictures) == Form(
        media_type=media_type, is_multipart=form == "multipart"
    )


@pytest.mark.parametrize("accept", ["text/html", "image/webp", "image/jpeg;q=0", 'multipart/related; type="video/mp4"'])
def test_what_is_not_offered_is_not_chosen(accept: str) -> None:
    assert chosen(accept, MEDIA_TYPES, pictures=1) is None


def test_one_of_several_frames_is_not_sent_in_place_of_all() -> None:
    assert chosen("image/jpeg", MEDIA_TYPES, pictures=2, must_be_all=True) is None


@pytest.mark.parametrize("accept", ["image", "image/jpeg;q=2", "image/jpeg;q=x", "a b/c"])
def test_a_field_of_another_form_is_refused(accept: str) -> None:
    with pytest.raises(InputError):
        chosen(accept, MEDIA_TYPES, pictures=1)


def test_a_long_field_takes_no_long_time() -> None:
    before = time.process_time()
    assert chosen("image/png;" + "a" * 30_000, MEDIA_TYPES, pictures=1) is not None
    assert time.process_time() - before < 0.5  # on the thread that serves everybody


def test_a_query_says_how_a_picture_is_made() -> None:
    query = {"quality": "70", "viewport": "100,50,,,-8,16.5", "window": "-500,1500,linear-exact"}
    assert rendering_of(query, "image/png") == Rendering(
        media_type="image/png",
        quality=70,
        viewport=Viewport(width=100, height=50, columns=-8.0, rows=16.5),
        window=Window(centre=-500.0, width=1500.0, function="LINEAR_EXACT"),
    )
    assert thumbnail_of({"viewport": "64,32,1,1,2,2"}, "image/jpeg").viewport == Viewport(width=64, height=32)
    assert thumbnail_of({}, "image/jpeg").viewport == Viewport(width=256, height=256)
    assert unsupported({"annotation": "patient,technique", "window": "x"}) == ("annotation",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quality", "0"),
        ("quality", "101"),
        ("quality", "high"),
        ("viewport", "100"),
        ("viewport", "0,100"),
        ("viewport", "9000,100"),
        ("viewport", "10,10,-1,0,5,5"),
        ("viewport", "10,10,0,0,0,5"),
        ("viewport", "nan,10"),
        ("window", "40,400"),
        ("window", "40,0.5,linear"),
        ("window", "40,0,sigmoid"),
        ("window", "40,inf,linear"),
        ("window", "40,400,gamma"),
    ],
)
def test_parameters_of_another_form_are_refused(name: str, value: str) -> None:
    with pytest.raises(InputError):
        rendering_of({name: value}, "image/jpeg")


def test_an_annotation_that_dicom_does_not_know_is_refused() -> None:
    with pytest.raises(InputError):
        unsupported({"annotation": "name"})
