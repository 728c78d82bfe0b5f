"""The gate: what an object must pass before it may leave the node, checked by kind of object."""
