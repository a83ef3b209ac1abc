"""Python procedures, each call in a separate process."""
