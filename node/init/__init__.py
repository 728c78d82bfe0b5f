"""``ainode init``: the configuration, units and certificates of a new node, and what its neighbours must know."""
