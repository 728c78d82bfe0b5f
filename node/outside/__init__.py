"""What runs outside of the process of a pipeline at its request: container engines and inference servers.

The process of a pipeline can start nothing and call nobody. It writes files into an exchange folder and says *now*; the
worker, which is this room's only user, then does the one thing that ``config.toml`` names, and nothing that a process
asks for in words: image, command, limits, address and certificates are from the configuration.
"""
