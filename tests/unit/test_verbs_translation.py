"""What verbs print besides help, in the language of the locale."""

from __future__ import annotations

import json
import re
from pathlib import Path

import catalogs
import pytest
from click.testing import CliRunner

from node.__main__ import main

ENGLISH_ALONE = {
    "acceptance", "adopt", "bench", "codes", "conformance", "demo", "export", "join", "models", "phantom", "plan",
    "pseudonyms", "quality", "recipes", "trial", "try_pipeline", "help", "options",
}  # fmt: skip
"""Modules of verbs for developers of pipelines and for studies of their quality, as docs/operate.md says."""
PLAIN = re.compile(r"echo\(\s*f?[\"'](?:[^\"'{]|\{[^}]*\})*?[a-z]{2,} [a-z]{2,}")
"""A sentence that no catalog has."""
MODULES = sorted(path for path in (catalogs.ROOT / "node/cli").glob("*.py") if path.stem not in ENGLISH_ALONE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_sentence_of_a_verb_is_english_alone(path: Path):
    sentences = PLAIN.findall(path.read_text(encoding="utf-8"))
    assert [text for text in sentences if "ainode " not in text] == []


def test_the_first_evening_is_german(tmp_path: Path):
    config = tmp_path / "config.toml"

    def said(*arguments: str, locale: str = "de_DE.UTF-8", typed: str | None = None) -> str:
        of = ["--config", str(config)]
        done = CliRunner().invoke(main, [*arguments, *of], env={"LC_ALL": locale}, input=typed)
        assert done.exit_code == 0, done.output
        return done.output

    new = ("init", "--yes", "--pacs-title", "PACS", "--pacs-host", "127.0.0.1", "--storage", str(tmp_path / "data"))
    written = said(*new, "--commitment", "--pipelines", "tumor")
    assert f"{config} geschrieben" in written
    assert "Im PACS eintragen (PACS, 127.0.0.1:104):" in written
    assert "Am Gerät oder als Weiterleitungsregel im PACS eintragen:" in written
    config.write_text(f'[storage]\nfolder = "{tmp_path / "data"}"\nmin_free_gib = 0.0\n', encoding="utf-8")
    (tmp_path / "data").mkdir()
    typed = "lang genug, so geht es\n"
    added = said("web", "password", "anna", "--role", "view", typed=typed + typed)
    assert "Benutzer anna mit der Rolle view in" in added
    assert "bis 2030-01-31" in said("web", "expire", "anna", "2030-01-31") + said("web", "users")
    assert said("fleet") == "es läuft kein Prozess\n"
    assert said("orders", locale="zh_CN.UTF-8") == "没有医嘱\n"
    assert "0 Serien würden weitergeleitet" in said("reroute")
    kept = said("backup", str(tmp_path / "backup"))
    assert re.search(r"backup geschrieben: \d+ Datenbankzeilen, keine Bilder oder Ergebnisse", kept)
    assert "Nichts Unzugestelltes wird gelöscht." in said("retention")
    assert json.loads(said("web", "users", "--json"))[0]["role"] == "view"
