"""What a process of the node needs of the operating system: signals, children, memory, service manager, loopback."""
