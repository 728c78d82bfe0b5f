"""Durable work: stages on DBOS, the worker with its child process, and the stages themselves."""
