"""A classifier of wines."""
