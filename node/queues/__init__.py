"""Queues of attempts: in which of them each waits, and whose turn is next in this process."""
