"""Built-in pipelines. Like third-party ones they import ``node.pipeline`` and nothing else of the node."""
