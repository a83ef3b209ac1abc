"""Recording: each call that a store has accepted becomes events, and its caller never notices."""
