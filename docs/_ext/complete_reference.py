"""Warn of every public name that the reference lacks. A warning is an error of the build.

The public names of a module are in its `__all__`. autodoc silently omits names without a docstring.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from workspace import distributions

logger = logging.getLogger(__name__)

PACKAGES = tuple(each.module for each in distributions().values())


def public_modules(name: str) -> Iterator[ModuleType]:
    """Return a package and its public modules."""
    package = importlib.import_module(name)
    yield package
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_"):
            yield from (
                public_modules(f"{name}.{info.name}")
                if info.ispkg
                else [importlib.import_module(f"{name}.{info.name}")]
            )


def public_names(module: ModuleType) -> list[str]:
    """Return the names that a module exports."""
    return list(getattr(module, "__all__", ()))


def check(_app: Sphinx, env: BuildEnvironment) -> None:
    """Compare the public names with those that the reference describes."""
    described = env.get_domain("py").data["objects"]
    for package in PACKAGES:
        for module in public_modules(package):
            for name in public_names(module):
                if f"{module.__name__}.{name}" not in described:
                    logger.warning("the reference lacks %s.%s", module.__name__, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Check when all pages have been read."""
    app.connect("env-check-consistency", check)
    return {"version": "1", "parallel_read_safe": True}
