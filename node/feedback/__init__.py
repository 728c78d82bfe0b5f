"""Verdicts of readers on the results of this node, and what they say about its pipelines."""
