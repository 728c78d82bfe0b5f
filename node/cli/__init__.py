"""The verbs of ``ainode``, one module per topic, and the options that they share."""
