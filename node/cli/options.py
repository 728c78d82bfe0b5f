"""Options that many verbs share, and what they print."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from node.peer_text import escaped
from node.translation import gettext, in_language, language_of_environment

if TYPE_CHECKING:
    from node.config import Config
    from node.studies.folder import Progress

_LONGEST_LINE = 1 << 20
"""Characters; the longest lines are JSON."""


def _config(_ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    if value is not None:
        return value
    return next((p for p in (Path("config.toml"), Path("/etc/ainode/config.toml")) if p.exists()), Path("config.toml"))


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="AINODE_CONFIG",
    callback=_config,
    help="Configuration file. Default: $AINODE_CONFIG, ./config.toml or /etc/ainode/config.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


_Verb = TypeVar("_Verb", bound=Callable[..., None])


def in_language_of_user(verb: _Verb) -> _Verb:
    """Have a verb print in the language of the locale; JSON, which programs read, stays English."""

    @wraps(verb)
    def speaking(*arguments: Any, **options: Any) -> None:
        with in_language("en" if options.get("as_json") else language_of_environment(os.environ)):
            verb(*arguments, **options)

    return cast("_Verb", speaking)


def confirmed(question: str) -> bool:
    """Ask a question that is answered yes or no in the language of the user, or in English; the default is no."""
    yes, no = gettext("yes"), gettext("no")

    def parsed(typed: str) -> bool:
        for answer, words in ((True, (yes, "yes")), (False, (no, "no"))):
            if any(typed.strip().casefold() in (word, word[0]) for word in words):
                return answer
        raise click.BadParameter(gettext("answer {yes} or {no}", yes=yes, no=no))

    marks = f"{yes[0]}/{no[0].upper()}"
    return bool(click.prompt(f"{question} [{marks}]", default=no, show_default=False, value_proc=parsed))


def local_user() -> str:
    """Return the login name of whoever runs the command, for the audit trail; a number where there is no name."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def load(path: Path) -> Config:
    """Read ``config.toml``. Raises ``ConfigError``."""
    from node.config import load as read  # slow to import; `ainode --help` must not wait for it

    return read(path)


@contextmanager
def progress_bar(first: str, *, hidden: bool = False) -> Iterator[Progress]:
    """Show a bar while the ``with`` block runs, beginning with the words ``first``; yield what moves it on."""
    from rich.progress import Progress as Bar

    with Bar(transient=True, disable=hidden) as bar:
        task = bar.add_task(first, total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print lines to standard output or error; what could steer the terminal is escaped."""
    click.echo("\n".join(escaped(line, _LONGEST_LINE) for line in text.expandtabs().split("\n")), err=err, nl=nl)


def print_json(value: Any) -> None:
    """Print a value as JSON; types that JSON lacks become text."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))
