"""The audit trail: tamper-evident PS3.15 A.5 messages on who did what with which study."""
