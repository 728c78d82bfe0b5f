"""Durable execution: attempts of stages on DBOS, heartbeats, and recovery."""
