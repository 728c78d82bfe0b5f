"""The verbs of ``ainode`` that read or change the ledger, and what all verbs share."""
