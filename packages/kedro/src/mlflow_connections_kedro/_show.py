"""What `show` and `check` say of a project."""

from collections.abc import Iterator

from mlflow_connections.discovery import find_connection
from mlflow_connections.reports import option_rows, probe_endpoint, table
from mlflow_connections.secrets import mask_uri

from ._project import Project
from ._server import Value

_NOTHING_SAID = (
    "No tracking URI is said: write server.tracking_uri into conf/base/mlflow.yml, or set the "
    "environment variable MLFLOW_TRACKING_URI."
)


def lines(project: Project) -> Iterator[str]:
    """Give the settings of a project, line by line, then a table of each connection's options.

    Raises:
        ConnectionsError: The settings cannot be meant; the message names the file.
    """
    server = project.server
    yield f"project      {project.name} (environment {project.env or 'by default'})"
    yield f"tracking     {_said(server.tracking)}"
    yield f"registry     {_said(server.registry)}"
    if server.credentials is not None:
        yield f"credentials  {project.credentials_place()}"
        if exported := project.exported():
            yield f"exported     {', '.join(sorted(exported))}"
    if server.tracking is None:
        yield _NOTHING_SAID
    for keyword in dict.fromkeys(value.text for value in server.connections):
        yield ""
        yield from _options(project, keyword)


def _options(project: Project, keyword: str) -> Iterator[str]:
    places = {"options": project.options_place(), "credentials": project.credentials_place()}
    rows = option_rows(find_connection(keyword), project.entry(), project.server.options)
    if not rows:
        yield f"{keyword} declares no options."
        return
    for row in rows:
        source = row["from"]
        row["from"] = f"variable {row['variable']}" if source == "environment" else source
        row["from"] = places.get(source, row["from"])
    yield f"Options of {keyword}:"
    yield table(rows, ("option", "value", "from", "variable", "help"))


def _said(value: Value | None) -> str:
    if value is None:
        return "(left to MLflow)"
    kind = "connection " if value.is_connection else ""
    return f"{kind}{mask_uri(value.text)} ({value.place})"


def answer(project: Project) -> str:
    """Resolve and ask the server; gives one sentence with how long that took.

    Raises:
        ConnectionsError: It cannot be resolved, or the server does not answer.
    """
    import time

    from mlflow_connections import MissingOptionError

    started = time.perf_counter()
    endpoint = project.endpoint()
    if endpoint is None:
        raise MissingOptionError(_NOTHING_SAID)
    resolved = time.perf_counter() - started
    return probe_endpoint(endpoint, resolved, project.secrets()).sentence
