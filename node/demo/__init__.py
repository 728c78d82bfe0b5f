"""The demonstration: synthetic studies through a real node into a real PACS, with pictures of what came back."""
