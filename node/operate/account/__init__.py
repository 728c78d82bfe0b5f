"""The account: every image received is explained, every object owed to a destination is delivered or pending."""
