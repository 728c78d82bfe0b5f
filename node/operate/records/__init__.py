"""Decision records: what was decided on each study, kept for years after the study itself."""
