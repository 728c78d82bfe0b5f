"""``ainode adopt``: what a model says of itself, and what is proposed for it: tables, rule, codes, card."""
