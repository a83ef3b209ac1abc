"""The sandbox's page: each stand-in, its variables, and its received requests."""

from ._page import Page

__all__ = ["Page"]
