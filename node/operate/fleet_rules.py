"""Rules and destinations of a fleet: one machine publishes them in the ledger, each takes them over into its file.

A machine takes each publication once, and writes its number into a file that makes its supervisors read the
configuration again. What somebody edits in the file of one machine stays until the next publication.
"""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa

from node.config.rules_text import rules_text
from node.errors import NodeError
from node.ledger.engine import begin_immediate
from node.ledger.published_rules import newest_rules, publish_rules
from node.operate.rules_file import FOLDER, RulesFile, mark_taken, taken_number

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks for what another machine has published."""


class FleetRules:
    """The configuration file of one machine that shares its ledger with others. For any thread."""

    def __init__(self, engine: sa.Engine, path: Path, storage: Path) -> None:
        """``path``: of ``config.toml``; ``storage``: the storage folder."""
        self._engine = engine
        self._storage = storage
        self._published = 0
        self._refused = 0
        """Number of what this machine could not take over."""
        self.file = RulesFile(path=path, folder=storage / FOLDER, publish=self._publish, reload=self._reload)
        """Whoever applies rules to it publishes them."""

    def look(self) -> None:
        """Take over what was published last, unless this machine has."""
        with self._engine.connect() as connection:
            newest = newest_rules(connection)
        if newest is None or newest.number <= max(taken_number(self._storage), self._refused):
            return
        who = newest.who or "somebody"
        try:
            self.file.take_over(newest.text, who=newest.who, why=newest.why)
        except NodeError as error:
            self._refused = newest.number
            logger.error("rules that %s published for all machines are not taken over: %s", who, error)  # noqa: TRY400
            return
        mark_taken(self._storage, newest.number)
        logger.info("rules and destinations that %s published for all machines are in %s", who, self.file.path)

    def publish_file(self, *, who: str, why: str) -> int:
        """Publish the rules and destinations of the file as they are, and return their number.

        Raises ``ConfigError`` when they cannot be taken out of the file, or another machine publishes meanwhile.
        """
        text = rules_text(self.file.whole())
        with begin_immediate(self._engine) as connection:
            newest = newest_rules(connection)
            seen = max(taken_number(self._storage), newest.number if newest else 0)
            number = publish_rules(connection, text, who=who, why=why, seen=seen)
        mark_taken(self._storage, number)
        return number

    def _publish(self, text: str, who: str, why: str) -> None:
        with begin_immediate(self._engine) as connection:
            self._published = publish_rules(connection, text, who=who, why=why, seen=taken_number(self._storage))

    def _reload(self) -> None:
        mark_taken(self._storage, self._published)
