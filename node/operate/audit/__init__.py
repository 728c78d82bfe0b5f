"""The audit trail: who did what with which study, as PS3.15 A.5 messages that nobody can change unnoticed."""
