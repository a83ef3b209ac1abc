"""Tasks: their clauses, their graphs and their runs."""
