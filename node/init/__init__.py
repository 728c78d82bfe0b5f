"""``ainode init``: configuration, systemd units and certificates of a new node."""
