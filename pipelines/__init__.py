"""Built-in pipelines. They use the same door as third parties: ``node.pipeline`` and nothing else of the node."""
