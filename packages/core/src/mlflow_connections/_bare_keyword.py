"""The code that each import of MLflow runs on a machine with core, in many a child process the only code of these packages.

It warns of a keyword in place of MLflow's own URI, which MLflow takes for the name of a folder.

`MLFLOW_TRACKING_URI=durable` names the folder `./durable`: old versions of MLflow write runs there
without a word, and newer ones refuse their file store without naming the cause. Only a connection
turns a keyword into a URI.

In a process that has inherited a connection, it also spares MLflow the search for Spark; see `spark`.

MLflow imports this module during its own import: it must not import anything slow.
"""

import os

from . import _mlflow

_VARIABLE = "MLFLOW_TRACKING_URI"
_OF_CONNECTIONS = ("MLFLOW_CONNECTIONS_INHERITED", "MLFLOW_CONNECTIONS_AUTHENTICATOR")
"""Variables that a process inherits from one with a connection: `run`'s, and those of an authenticator."""
_seen: set[str] = set()


class KeywordCheck:
    """Checks the tracking URI when MLflow is imported and when a run starts; as a run context it adds nothing."""

    def __init__(self) -> None:
        check()
        if any(name in os.environ for name in _OF_CONNECTIONS):
            from .spark import is_inherited, remember_absence

            if is_inherited():
                remember_absence()

    def in_context(self) -> bool:
        """Check the URI, and return false: there are no tags to add."""
        check()
        return False

    def tags(self) -> dict[str, str]:
        """Return no tags."""
        return {}


def check() -> None:
    """Log a warning, once, if MLflow's tracking URI is the keyword of a connection."""
    # Nothing else of MLflow's state: MLflow 3.5 calls this while it holds the lock of its tracer.
    set_by_code = _mlflow.tracking_uri()
    uri = set_by_code or os.environ.get(_VARIABLE)
    if not isinstance(uri, str) or uri in _seen or not uri.isidentifier():
        return
    _seen.add(uri)
    from .discovery import KNOWN_DISTRIBUTIONS, MLFLOW_WORDS, installed_connections

    if uri in MLFLOW_WORDS:
        return
    if uri in {found.keyword for found in installed_connections()} | KNOWN_DISTRIBUTIONS.keys():
        from .secrets import get_logger

        get_logger("mlflow_connections").warning(
            "%s is %r: MLflow takes this for the folder ./%s, and sends nothing to a server. Run the program by "
            "`mlflow-connections run %s -- python …`, or call mlflow_connections.use(%r) in it. Write ./%s if "
            "you mean the folder.",
            *("MLflow's tracking URI" if set_by_code else _VARIABLE, uri, uri, uri, uri, uri),
        )
