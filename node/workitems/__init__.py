"""Analyses as workitems of a Unified Procedure Step (PS3.4 CC): their UIDs, states, attributes, and requests."""
