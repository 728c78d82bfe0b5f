"""The tables of version 1.0.0, by the modules of ``node.ledger.tables``. Alembic wrote them; they never change."""
