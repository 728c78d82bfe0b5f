"""The impression of a report: sentences in several languages that a radiologist can take over."""
