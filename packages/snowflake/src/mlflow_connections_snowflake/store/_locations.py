"""MLflow's URI of an artifact and the path on the stage, one from the other."""

import re
from urllib.parse import unquote, urlsplit

from ._bridge import Bridge


def on_stage(bridge: Bridge, uri: str) -> str:
    """Give the URI of an artifact on the stage, for MLflow's own URI of it.

    Where the two do not go together the result has no path, and using it is refused: a procedure
    that only logs metrics never needs to know.

    Args:
        bridge: The bridge; its `location` says where the stage lies.
        uri: MLflow's URI: `mlflow-artifacts:/…` where the server keeps artifacts itself, or that of
            the cloud.
    """
    if not uri or urlsplit(uri).scheme == "snowflake":
        return uri
    for root in _roots(bridge, uri):
        if uri.startswith(root):
            path = uri[len(root) :].strip("/")
            # MLflow quotes the paths of its own scheme, and of no other.
            plain = unquote(path) if root.startswith("mlflow-artifacts:") else path
            return bridge.changed(root=root).uri(plain)
    return bridge.changed(root=uri).uri()


def original(bridge: Bridge, path: str) -> str:
    """Give MLflow's own URI of a path on the stage, as `on_stage` found it."""
    return bridge.root + path


def _roots(bridge: Bridge, uri: str) -> list[str]:
    """Give what MLflow's URIs begin with if they lie on the stage."""
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        # With or without the server's name: mlflow-artifacts:/…, mlflow-artifacts://host:5000/….
        match = re.match(r"mlflow-artifacts:(//[^/]*)?/+", uri)
        return [match[0]] if match else []
    if not bridge.location:
        # An internal stage is nowhere that MLflow knows: the path alone must be the same each time.
        match = re.match(r"[\w+.-]+:(//[^/]*)?/+|/+", uri)
        return [match[0]] if match else []
    scheme, _, rest = bridge.location.partition("://")
    if scheme == "azure":
        account, _, path = rest.partition("/")
        container, _, below = path.partition("/")
        lake = account.replace(".blob.", ".dfs.")
        return [f"wasbs://{container}@{account}/{below}", f"abfss://{container}@{lake}/{below}"]
    return [{"gcs": "gs", "s3gov": "s3"}.get(scheme, scheme) + "://" + rest]
