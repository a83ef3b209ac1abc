"""The outbox of a Databand."""

import os

from mlflow_connections_outbox import Destination, Outbox, shared_outbox

from ._uri import CompositeUri

TOKEN_VARIABLES = ("DBND__CORE__DATABAND_ACCESS_TOKEN", "DATABAND_ACCESS_TOKEN")
"""The variables that may hold a token: dbnd's own, then the short one."""
USER_VARIABLE = "DBND__CORE__DBND_USER"
PASSWORD_VARIABLE = "DBND__CORE__DBND_PASSWORD"  # noqa: S105 - the name, not a password
SINK = "mlflow_connections_databand.sink:open_sink"

_SECRETS = (*TOKEN_VARIABLES, USER_VARIABLE, PASSWORD_VARIABLE)


def outbox_for(uri: CompositeUri) -> Outbox:
    """Return the outbox of a Databand. Its address goes to the disk, its credentials do not."""
    secrets = {name: value for name in _SECRETS if (value := os.environ.get(name))}
    if uri.username is not None:
        secrets = {USER_VARIABLE: uri.username, PASSWORD_VARIABLE: uri.password or ""}
    return shared_outbox(Destination("databand", uri.databand_url, SINK), secrets)
