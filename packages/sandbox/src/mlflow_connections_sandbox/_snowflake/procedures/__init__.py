"""Python procedures, each call in a process of its own."""
