"""Recording: each call that a store has accepted becomes events, without affecting its caller."""
