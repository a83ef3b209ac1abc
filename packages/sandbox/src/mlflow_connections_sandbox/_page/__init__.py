"""The page that the sandbox opens with: each stand-in, how to reach it, and what it received."""

from ._page import Page

__all__ = ["Page"]
