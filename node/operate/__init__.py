"""Operation: account, status, explanation, audit, metrics, alerts, retention."""
