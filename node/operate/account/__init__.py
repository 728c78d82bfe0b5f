"""The account: every received image is explained, every object for a destination is delivered or pending."""
