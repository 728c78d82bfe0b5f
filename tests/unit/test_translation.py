"""Every text of the dashboard exists in every language, and each user gets the own one."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser

import catalogs
import pytest
from dashboards import Dashboard, token
from jinja2 import Environment

from node.translation import current_language, decimal, gettext, in_language, ngettext
from node.web.languages import language_of
from node.web.server import _PAGES

PLACES = re.compile(r"\{[^}]*\}|%\(\w+\)s|%%|</?[a-z][^>]*>")
"""What a translation must keep: values, and tags."""
TEMPLATES = sorted((catalogs.ROOT / "node/web/templates").glob("*.html"))
SHOWN_ATTRIBUTES = ("alt", "aria-label", "data-alt", "data-confirm", "data-name", "placeholder", "title")
AS_THEY_ARE = ("GiB", "Dice", "ainode", "journalctl")
"""Words that are the same in every language: units, names, commands."""


@cache
def extracted() -> set[str | tuple[str, str]]:
    """Every text, and of a plural both forms."""
    return {message.id for message in catalogs.extracted() if message.id}


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_every_text_has_a_translation_that_keeps_its_values_and_tags(language: str):
    catalog = {message.id: catalogs.strings_of(message) for message in catalogs.read_catalog(language) if message.id}
    assert catalog.keys() == extracted(), "run tests/support/catalogs.py, and translate what it adds"
    for text, translations in catalog.items():
        for translation in translations:
            assert translation, text
            expected = text if isinstance(text, str) else text[-1]
            lost = set(PLACES.findall(expected)) ^ set(PLACES.findall(translation))
            assert not lost - {"%(number)s", "{number}"} if isinstance(text, tuple) else not lost, (text, translation)
            assert '"' not in PLACES.sub("", translation), f"{translation}: would end an attribute"


class _Texts(HTMLParser):
    """Collects texts and shown attributes; programs and keys are the same in every language."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within += [tag] if tag in ("code", "kbd") else []
        self.texts += [value or "" for name, value in attrs if name in SHOWN_ATTRIBUTES]

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        self.texts += [] if self._within else [data]


def unmarked(template: str) -> list[str]:
    """Return the words of a template that no catalog can have."""
    parts, strings, marked, translated = [], [], False, 0
    tokens = list(Environment(extensions=["jinja2.ext.i18n"]).lex(template))  # noqa: S701 - nothing is rendered
    for number, (_, kind, value) in enumerate(tokens):
        before = [token[2] for token in tokens[max(number - 4, 0) : number] if token[1] != "whitespace"]
        if kind == "name" and value in ("trans", "endtrans") and before[-1:] and before[-1].startswith("{%"):
            translated += 1 if value == "trans" else -1
        elif kind == "data" and not translated:
            parts.append(value)
        elif kind in ("variable_begin", "block_begin"):
            parts.append(" ")
        elif kind == "string":
            marked = "".join(before).endswith(("_(", "ngettext(")) or (marked and before[-1:] == [","])
            strings += [] if marked else [value[1:-1]]
    parser = _Texts()
    parser.feed("".join(parts))
    vocabulary = set(catalogs.vocabulary())
    sentences = [text for text in strings if re.search(r"[a-z] [a-z]|^[A-Z][a-z]", text) and text not in vocabulary]
    words = [word for text in parser.texts for word in re.findall(r"[^\W\d_]{2,}", text)]
    return [*sentences, *(word for word in words if word not in AS_THEY_ARE)]


def test_no_text_stands_within_an_f_string_where_it_is_not_extracted():
    within = re.compile(r"(?:gettext|marked)\('([^']+)'")
    for path in (catalogs.ROOT / "node").rglob("*.py"):
        assert [text for text in within.findall(path.read_text(encoding="utf-8")) if text not in extracted()] == [], (
            path
        )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_has_a_text_that_is_not_marked(path):
    assert unmarked(path.read_text(encoding="utf-8")) == []


def test_an_unmarked_text_of_a_template_is_found():
    assert unmarked('<p>{{ _("All is well.") }} {% trans %}{{ n }} images{% endtrans %}</p>') == []
    assert unmarked("<p>{{ n }} images</p>") == ["images"]
    assert unmarked('<input aria-label="Search">') == ["Search"]
    assert unmarked('{{ button("Stop it now") }}') == ["Stop it now"]


def test_a_number_that_a_text_formats_has_the_decimal_symbol_of_the_language():
    text, values = "{files} files, {gib:.2f} GiB read; {recorded} in the ledger{others}", {"files": 2, "others": ""}
    assert gettext(text, gib=1.5, recorded="1.0.0", **values) == "2 files, 1.50 GiB read; 1.0.0 in the ledger"
    with in_language("de"):
        shown = gettext(text, gib=1.5, recorded="1.0.0", **values)
        assert shown == "2 Dateien, 1,50 GiB gelesen; 1.0.0 in der Datenbank"


def test_a_text_without_a_translation_is_shown_in_english():
    with in_language("de"):
        assert gettext("a sentence of nobody") == "a sentence of nobody"
        assert gettext("Studies") == "Studien"
        assert ngettext("{number} image received", "{number} images received", 1) == "1 Bild empfangen"
        assert ngettext("{number} image received", "{number} images received", 3) == "3 Bilder empfangen"
        assert decimal("1.5 GiB") == "1,5 GiB"
        assert gettext("") == ""
    with in_language("zh"):
        assert ngettext("{number} image received", "{number} images received", 3) == "收到 3 幅图像"
    assert current_language() == "en"
    assert gettext("Studies") == "Studies"


@pytest.mark.parametrize(
    ("chosen", "configured", "accepted", "language"),
    [
        ("", "", "", "en"),
        ("", "", "de-CH,de;q=0.9,en;q=0.8", "de"),
        ("", "", "en;q=0.5, zh-Hans-CN;q=0.7", "zh"),
        ("", "", "fr-FR, de;q=0.3", "de"),
        ("", "", "fr", "en"),
        ("", "", "de;q=0, ;;q=x, *", "en"),
        ("", "zh", "de", "zh"),
        ("en", "zh", "de", "en"),
        ("tlh", "", "zh", "zh"),
    ],
)
def test_choice_comes_before_configuration_and_configuration_before_the_browser(chosen, configured, accepted, language):
    assert language_of(chosen, configured, accepted) == language


def test_a_user_chooses_a_language_and_comes_back_to_the_page(dashboard: Dashboard):
    browser = dashboard.browser("vera")
    page = browser.get("/pipelines")
    assert '<html lang="en">' in page.text
    form = {"csrf": token(browser), "language": "de", "back": "/pipelines"}
    answer = browser.post("/language", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/pipelines")
    german = browser.get("/pipelines").text
    assert '<html lang="de">' in german
    assert "Durchlaufzeit" in browser.get("/pipelines/nodule").text
    assert 'lang="de" aria-current="true">Deutsch<' in german
    assert browser.post("/language", data=form | {"back": "//evil.example"}).headers["location"] == "/"
    assert browser.post("/language", data=form | {"language": "tlh"}).status_code == 400
    assert browser.post("/language", data=form | {"csrf": "0"}).status_code == 403


def test_every_page_and_every_error_speaks_the_language_of_the_browser(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    browser.headers["accept-language"] = "zh-CN,zh;q=0.9"
    for path, _, method in _PAGES:
        if method == "GET" and "{" not in path and not path.endswith((".zip", ".jpg")):
            text = browser.get(path).text
            assert '<html lang="zh-Hans">' in text, path
            assert "仅供研究使用" in text, path
    study = browser.get(f"/study/{dashboard.uid}").text
    assert "时间线" in study
    assert "周转" not in study
    assert "规则" in study, "a reason"
    assert "未找到" in browser.get("/nowhere").text


def test_findings_of_a_study_have_german_columns_and_a_rule_without_priority_a_word(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    browser.headers["accept-language"] = "de"
    study = browser.get(f"/study/{dashboard.uid}").text
    assert "Längsdurchmesser" in study
    assert "Long axis" not in study
    assert "(Bild " in study
    assert "(image " in dashboard.browser("otto").get(f"/study/{dashboard.uid}").text
    assert 'data-name="Priorität">mittel<' in browser.get("/rules").text
