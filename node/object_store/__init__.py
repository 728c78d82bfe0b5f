"""Packs of complete series in an object store: writing, verifying, reading and deleting them.

Nothing here is imported where ``[storage.object_store] url`` is empty, and receivers never import obstore.
"""
