"""The Storage, Verification, Storage Commitment and MPPS SCP: from the socket to a durable file with its row."""

from node.receive.receiver import Receiver

__all__ = ["Receiver"]
