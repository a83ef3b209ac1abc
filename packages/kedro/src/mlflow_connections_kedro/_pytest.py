"""Offers the specified import path to the tests of a plugin's author: pytest loads this early."""

from ._startup import install

install()
