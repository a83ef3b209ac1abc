"""Procedures in separate processes, and graphs of tasks, through the real connector."""

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from snowflake.connector.errors import DatabaseError, ProgrammingError

from mlflow_connections_sandbox._snowflake import Snowflake
from mlflow_connections_sandbox._snowflake.external._clouds import CloudIdentity

Run = Callable[..., list[tuple[Any, ...]]]


def procedure(name: str, body: str, returns: str = "VARIANT", clauses: str = "") -> str:
    """Return the DDL of a procedure; the name includes the arguments."""
    return (
        f"CREATE PROCEDURE {name} RETURNS {returns} LANGUAGE PYTHON RUNTIME_VERSION = '3.11'"
        f" PACKAGES = ('snowflake-snowpark-python') HANDLER = 'main' {clauses} AS $$\n{body}\n$$"
    )


def test_a_procedure_gets_values_and_a_session(run: Run) -> None:
    """Arguments keep their types, the session is the active one, and the result comes back."""
    body = """
from snowflake.snowpark.context import get_active_session

def main(session, text, number, given):
    there = session.sql("SELECT a FROM t").collect()[0][0]
    return [text, number, given, there, get_active_session() is session]
"""
    run("CREATE TABLE t (a INT)")
    run("INSERT INTO t VALUES (7)")
    run(procedure("p(text VARCHAR, number NUMBER, given VARIANT)", body))
    rows = run("CALL p(?, 1 + 1, PARSE_JSON(?))", "it's $x", '{"k": [null]}')
    assert json.loads(rows[0][0]) == ["it's $x", 2, {"k": [None]}, 7, True]


def test_a_procedure_has_no_network(stand_in: Snowflake, run: Run, upstream: Any) -> None:
    """The handler reaches no server and no name, and starts no process that could."""
    body = f"""
import os, socket, subprocess, sys

PORT = {upstream.server_address[1]}

def main(session):
    refused = []
    for host, port in (("127.0.0.1", PORT), ("mlflow.example", 80)):
        try:
            socket.create_connection((host, port), 2).close()
        except OSError as error:
            refused.append(str(error))
    for start in (
        lambda: subprocess.run([sys.executable, "-c", "print(1)"]),
        lambda: os.system("true"),
        os.fork,
    ):
        try:
            start()
        except OSError as error:
            refused.append(str(error))
    return refused
"""
    run(procedure("p()", body))
    network, name, *processes = json.loads(run("CALL p()")[0][0])
    assert "no network access" in network
    assert "no network access" in name
    assert len(processes) == 3
    assert all("creates no processes" in text for text in processes)


def test_a_procedure_writes_only_to_its_temporary_folder(run: Run, tmp_path: Path) -> None:
    """Everything else is a read-only file system, including the home and the current folder."""
    body = f"""
import os, tempfile
from pathlib import Path

OTHERS = [Path({str(tmp_path)!r}), Path.home(), Path.cwd(), Path(__file__).parent]

def main(session):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        (Path(folder) / "a" / "x.txt").write_text("x")
        os.rename(Path(folder) / "a", Path(folder) / "b")
        got = [(Path(folder) / "b" / "x.txt").read_text()]
    with open(os.devnull, "w") as nothing:
        nothing.write("x")
    for other in OTHERS:
        for write in (
            lambda: (other / "x.txt").write_text("x"),
            lambda: (other / "y").mkdir(),
            lambda: os.symlink(__file__, other / "z"),
        ):
            try:
                write()
            except OSError as error:
                got.append(error.strerror)
    return got
"""
    run(procedure("p()", body))
    assert json.loads(run("CALL p()")[0][0]) == ["x", *["Read-only file system"] * 12]
    assert list(tmp_path.glob("[xyz]*")) == []


PUBLIC = """
import ssl
import urllib.error
import urllib.request

import requests
from snowflake.snowpark.secrets import get_generic_secret_string

URL = "https://mlflow.sandbox.example"

def main(session):
    token = {"Authorization": "Bearer " + get_generic_secret_string("mlflow_token")}
    got = []
    for url, headers in ((URL + "/api/echo", token), (URL + "/api/echo", {})):
        answer = requests.post(url, json={"a": 1}, headers=headers, timeout=10)
        got.append([answer.status_code, answer.json()])
    with urllib.request.urlopen(
        urllib.request.Request(URL + "/api/echo", b"{}", token), timeout=10
    ) as answer:
        got.append([answer.status, answer.read().decode()])
    for url in (URL + ":8443/", "https://other.sandbox.example/"):
        try:
            requests.get(url, timeout=10)
        except requests.ConnectionError as error:
            got.append(str(error))
    try:
        urllib.request.urlopen(URL, timeout=10, context=ssl.create_default_context(cadata=OWN))
    except urllib.error.URLError as error:
        got.append(str(error))
    return got
"""


def test_mlflow_has_a_public_url(stand_in: Snowflake, run: Run, upstream: Any) -> None:
    """A rule for its name opens HTTPS to MLflow, with a certificate that processes inside trust and a token."""
    own = trustme.CA().cert_pem.bytes().decode()
    run(
        "CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('mlflow.sandbox.example')"
    )
    run(f"CREATE SECRET k TYPE = GENERIC_STRING SECRET_STRING = '{stand_in.public.token}'")
    run(
        "CREATE EXTERNAL ACCESS INTEGRATION e ALLOWED_NETWORK_RULES = (n)"
        " ALLOWED_AUTHENTICATION_SECRETS = (k) ENABLED = TRUE"
    )
    clauses = "EXTERNAL_ACCESS_INTEGRATIONS = (e) SECRETS = ('mlflow_token' = k)"
    run(procedure("p()", f"OWN = {own!r}\n{PUBLIC}", clauses=clauses))
    allowed, refused, plain, port, name, certificate = json.loads(run("CALL p()")[0][0])
    assert allowed == [200, {"asked": {"a": 1}}]
    assert (refused[0], refused[1]["error_code"]) == (401, "UNAUTHENTICATED")
    assert plain[0] == 200
    assert "no network access to mlflow.sandbox.example" not in port
    assert "Max retries exceeded" in port
    assert "no network access to other.sandbox.example" in name
    assert "CERTIFICATE_VERIFY_FAILED" in certificate
    assert [headers.get("authorization") for headers, _ in upstream.seen] == [None, None]


def test_mlflows_public_url_needs_a_rule(stand_in: Snowflake, run: Run) -> None:
    """Without external access its name is unknown to a procedure, and always outside of the account."""
    body = """
import requests

def main(session):
    try:
        requests.get("https://mlflow.sandbox.example/", timeout=10)
    except requests.ConnectionError as error:
        return str(error)
"""
    run(procedure("p()", body, "VARCHAR"))
    assert "no network access to mlflow.sandbox.example" in run("CALL p()")[0][0]
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(stand_in.public.url, timeout=10)


def test_external_access_opens_one_host(run: Run, upstream: Any) -> None:
    """A network rule lets a procedure reach its host and port, with its secret."""
    host, port = upstream.server_address
    body = f"""
import socket
import _snowflake
from snowflake.snowpark.secrets import get_generic_secret_string

def main(session):
    socket.create_connection(("{host}", {port}), 2).close()
    return [get_generic_secret_string("tok"), _snowflake.get_secret_type("tok")]
"""
    run(f"CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('{host}:{port}')")
    run("CREATE SECRET k TYPE = GENERIC_STRING SECRET_STRING = 'hush'")
    run(
        "CREATE EXTERNAL ACCESS INTEGRATION e ALLOWED_NETWORK_RULES = (n)"
        " ALLOWED_AUTHENTICATION_SECRETS = (k) ENABLED = TRUE"
    )
    clauses = "EXTERNAL_ACCESS_INTEGRATIONS = (e) SECRETS = ('tok' = k)"
    run(procedure("p()", body, clauses=clauses))
    assert json.loads(run("CALL p()")[0][0]) == ["hush", "GENERIC_STRING"]


def test_a_procedure_reaches_its_account(
    bridge: Snowflake, run: Run, echo: Callable[..., str]
) -> None:
    """An external function works inside a procedure, which reaches nothing else."""
    body = """
def main(session, text):
    return session.sql("SELECT echo(?):row[1]::VARCHAR", params=[text]).collect()[0][0]
"""
    run(echo("a VARCHAR"))
    run(procedure("p(text VARCHAR)", body, "VARCHAR"))
    assert run("CALL p('x')") == [("x",)]


def test_owners_and_callers_rights(stand_in: Snowflake, run: Run) -> None:
    """A procedure runs as its owner unless its DDL contains EXECUTE AS CALLER."""
    body = """
def main(session):
    return session.sql("SELECT CURRENT_ROLE()").collect()[0][0]
"""
    run(procedure("owners()", body, "VARCHAR"))
    run(procedure("callers()", body, "VARCHAR", "EXECUTE AS CALLER"))
    run("CREATE ROLE caller")
    run("GRANT ROLE caller TO USER sandbox")
    run("GRANT USAGE ON DATABASE demo TO ROLE caller")
    run("GRANT USAGE ON SCHEMA demo.demo TO ROLE caller")
    run("GRANT USAGE ON WAREHOUSE compute_wh TO ROLE caller")
    run("GRANT USAGE ON PROCEDURE owners() TO ROLE caller")
    run("GRANT USAGE ON PROCEDURE callers() TO ROLE caller")
    run("USE ROLE caller")
    assert run("CALL owners()") == [("ACCOUNTADMIN",)]
    assert run("CALL callers()") == [("CALLER",)]


def test_imports_come_from_stages(run: Run, tmp_path: Path) -> None:
    """A zip on a stage is on the module path, and its folder is in sys._xoptions."""
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("helper.py", "VALUE = 'from a zip'\n")
    run("CREATE STAGE s")
    run(f"PUT 'file://{tmp_path / 'code.zip'}' @s AUTO_COMPRESS = FALSE")
    body = """
import os, sys
import helper

def main(session):
    return [helper.VALUE, os.listdir(sys._xoptions["snowflake_import_directory"])]
"""
    run(procedure("p()", body, clauses="IMPORTS = ('@s/code.zip')"))
    assert json.loads(run("CALL p()")[0][0]) == ["from a zip", ["code.zip"]]
    with pytest.raises(ProgrammingError, match="not found"):
        run(procedure("q()", body, clauses="IMPORTS = ('@s/missing.zip')"))


def test_calls_share_nothing(run: Run) -> None:
    """No call sees modules, variables or random numbers of another one; exits are clean."""
    body = """
import atexit, os, threading
import numpy

COUNT = []

def main(session, note):
    COUNT.append(note)
    os.environ["LEFT"] = os.environ.get("LEFT", "") + note
    thread = threading.Thread(target=lambda: None)
    thread.start()
    atexit.register(print, "left in order")
    return [COUNT, os.environ["LEFT"], float(numpy.random.random()), os.getpid()]
"""
    run(procedure("p(note VARCHAR)", body))
    first, second = (json.loads(run(f"CALL p('{note}')")[0][0]) for note in "ab")
    assert first[:2] == [["a"], "a"]
    assert second[:2] == [["b"], "b"]
    assert first[2] != second[2]
    assert first[3] != second[3]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def main(session):\n    raise ValueError('it broke')", "it broke"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def other(session):\n    pass", "main"),
        ("import os\ndef main(session):\n    os._exit(3)", "ended with 3"),
        ("def main(session):\n    return object()", "JSON"),
    ],
)
def test_a_failing_handler_is_reported(run: Run, body: str, words: str) -> None:
    """However a handler fails, the statement ends with Snowflake's number and the traceback."""
    run(procedure("p()", body))
    with pytest.raises(DatabaseError, match=words) as failed:
        run("CALL p()")
    assert failed.value.errno == 100357


@pytest.mark.parametrize(
    ("clauses", "words"),
    [
        ("RUNTIME_VERSION = '2.7' PACKAGES = ('snowflake-snowpark-python')", "2.7"),
        (
            "RUNTIME_VERSION = '3.11' PACKAGES = ('snowflake-snowpark-python', 'no-such==1')",
            "no-such",
        ),
        ("RUNTIME_VERSION = '3.11' PACKAGES = ('requests')", "snowflake-snowpark-python"),
        ("PACKAGES = ('snowflake-snowpark-python')", "RUNTIME_VERSION"),
    ],
)
def test_runtimes_and_packages_are_checked(run: Run, clauses: str, words: str) -> None:
    """A procedure that could not run is refused at its creation."""
    with pytest.raises(ProgrammingError, match=words):
        run(f"CREATE PROCEDURE p() RETURNS VARCHAR LANGUAGE PYTHON {clauses} HANDLER = 'm' AS 'x'")


@pytest.mark.parametrize(
    ("clauses", "errno", "text"),
    [
        ("RUNTIME_VERSION = '3.9' PACKAGES = ({0})", 391541, "RUNTIME_VERSION '3.9'"),
        (
            "RUNTIME_VERSION = '3.11' PACKAGES = ({0}, 'kedro') ARTIFACT_REPOSITORY = {anaconda}",
            391521,
            "Package 'kedro' is not supported.",
        ),
        (
            "RUNTIME_VERSION = '3.11' PACKAGES = ({0}, 'mlflow==1.0') ARTIFACT_REPOSITORY = {pypi}",
            100357,
            "Packages not found: mlflow==1.0",
        ),
        (
            "RUNTIME_VERSION = '3.11' PACKAGES = ({0}) ARTIFACT_REPOSITORY = my.own.repository",
            2003,
            "MY.OWN.REPOSITORY",
        ),
        ("RUNTIME_VERSION = '3.11' PACKAGES = ({0}, 'kedro')", None, ""),
        ("RUNTIME_VERSION = '3.14' PACKAGES = ({0}, 'kedro')", None, ""),
        (
            "RUNTIME_VERSION = '3.11' PACKAGES = ({0}, 'pandas') ARTIFACT_REPOSITORY = {anaconda}",
            None,
            "",
        ),
    ],
)
def test_packages_come_from_a_repository(
    run: Run, clauses: str, errno: int | None, text: str
) -> None:
    """Without a repository clause packages come from PyPI; a package that a repository lacks is refused."""
    listed = clauses.format(
        "'snowflake-snowpark-python'",
        pypi="snowflake.snowpark.pypi_shared_repository",
        anaconda="snowflake.snowpark.anaconda_shared_repository",
    )
    sql = f"CREATE PROCEDURE p() RETURNS VARCHAR LANGUAGE PYTHON {listed} HANDLER = 'm' AS 'x'"
    if errno is None:
        assert "successfully created" in run(sql)[0][0]
        return
    with pytest.raises(DatabaseError) as refused:
        run(sql)
    assert refused.value.errno == errno
    assert text in str(refused.value)


def test_an_older_account_takes_packages_from_anaconda(stand_in: Snowflake, run: Run) -> None:
    """A procedure that names no repository uses the account's default, in this test Anaconda."""
    stand_in.assumptions.default_repository = "anaconda"
    sql = procedure("p()", "").replace("-python')", "-python', 'kedro')")
    with pytest.raises(ProgrammingError, match="Package 'kedro' is not supported"):
        run(sql)
    run(sql.replace("'3.11'", "'3.14'"))


def test_repositories_can_be_revoked_from_public(run: Run) -> None:
    """Creating and calling needs the repository's database role, which PUBLIC has at first."""
    body = "def main(session):\n    return 1"
    run("CREATE ROLE poor")
    run("GRANT ROLE poor TO USER sandbox")
    for privilege in (
        *("USAGE ON DATABASE demo", "USAGE ON WAREHOUSE compute_wh", "USAGE ON SCHEMA demo.demo"),
        "CREATE PROCEDURE ON SCHEMA demo.demo",
    ):
        run(f"GRANT {privilege} TO ROLE poor")
    run("USE ROLE poor")
    run(procedure("p()", body))
    assert run("CALL p()") == [("1",)]
    run("USE ROLE ACCOUNTADMIN")
    run("REVOKE DATABASE ROLE SNOWFLAKE.PYPI_REPOSITORY_USER FROM ROLE PUBLIC")
    run("USE ROLE poor")
    for sql in ("CALL p()", procedure("q()", body)):
        with pytest.raises(DatabaseError, match="artifact repository"):
            run(sql)
    run("USE ROLE ACCOUNTADMIN")
    run("GRANT DATABASE ROLE SNOWFLAKE.PYPI_REPOSITORY_USER TO ROLE poor")
    run("USE ROLE poor")
    assert run("CALL p()") == [("1",)]


def test_secrets_have_types(stand_in: Snowflake, run: Run) -> None:
    """Each type of secret is read by its own function, and by no other."""
    body = """
import _snowflake
from snowflake.snowpark import secrets

def main(session):
    found = secrets.get_username_password("login")
    got = [found.username, found.password, secrets.get_oauth_access_token("oauth")]
    got += [secrets.get_secret_type(name) for name in ("login", "oauth", "text")]
    for name in ("login", "none"):
        try:
            secrets.get_generic_secret_string(name)
        except Exception as error:
            got.append(str(error))
    return got
"""
    run("CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('mlflow.example.com')")
    run("CREATE SECRET text TYPE = GENERIC_STRING SECRET_STRING = 'hush'")
    run("CREATE SECRET login TYPE = PASSWORD USERNAME = 'me' PASSWORD = 'hush'")
    run(
        "CREATE SECURITY INTEGRATION idp TYPE = API_AUTHENTICATION AUTH_TYPE = OAUTH2 ENABLED = TRUE"
        " OAUTH_CLIENT_ID = 'id' OAUTH_CLIENT_SECRET = 'hush' OAUTH_GRANT = 'CLIENT_CREDENTIALS'"
        " OAUTH_TOKEN_ENDPOINT = 'https://idp.example.com/token'"
    )
    run("CREATE SECRET oauth TYPE = OAUTH2 API_AUTHENTICATION = idp OAUTH_SCOPES = ('mlflow')")
    stand_in.account.procedures.access_tokens["OAUTH"] = "fetched"
    run(
        "CREATE EXTERNAL ACCESS INTEGRATION e ALLOWED_NETWORK_RULES = (n)"
        " ALLOWED_AUTHENTICATION_SECRETS = (text, login, oauth) ENABLED = TRUE"
    )
    clauses = "EXTERNAL_ACCESS_INTEGRATIONS = (e) SECRETS = ('login' = login, 'oauth' = oauth, 'text' = text)"
    run(procedure("p()", body, clauses=clauses))
    got = json.loads(run("CALL p()")[0][0])
    assert got[:6] == ["me", "hush", "fetched", "PASSWORD", "OAUTH2", "GENERIC_STRING"]
    assert "is of type PASSWORD" in got[6]
    assert "not found" in got[7]
    assert "hush" not in str(stand_in.statements.matching("SECRET"))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE SECRET s TYPE = PASSWORD USERNAME = 'a:b' PASSWORD = 'x'", "colon"),
        ("CREATE SECRET s TYPE = PASSWORD USERNAME = 'a' PASSWORD = 'x:y'", "colon"),
        ("CREATE SECRET s TYPE = PASSWORD USERNAME = 'a'", "PASSWORD"),
        ("CREATE SECRET s TYPE = GENERIC_STRING USERNAME = 'a'", "SECRET_STRING"),
        ("CREATE SECRET s TYPE = OAUTH2 API_AUTHENTICATION = nothing", "NOTHING"),
        (
            "CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('*.com')",
            "second-level",
        ),
        (
            "CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('*.a.*.example.com')",
            "one \\* is allowed",
        ),
        (
            "CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('a_b.example.com')",
            "no host",
        ),
        (
            "CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS VALUE_LIST = ('example.com:70000')",
            "no host",
        ),
    ],
)
def test_invalid_external_access_is_refused(run: Run, sql: str, words: str) -> None:
    """Colons in passwords and misplaced wildcards are refused at creation."""
    with pytest.raises(ProgrammingError, match=words):
        run(sql)


def test_network_rules_match_names_and_wildcards(run: Run) -> None:
    """A name opens its own addresses at its own port; a wildcard matches one label."""
    body = """
import socket

def main(session):
    outcomes = []
    for host, port in PLACES:
        try:
            socket.getaddrinfo(host, port)
            outcomes.append("resolved")
        except OSError as error:
            outcomes.append("refused" if "no network access" in str(error) else "unknown")
    try:
        socket.create_connection(("localhost", 1), 2)
    except OSError as error:
        outcomes.append("refused" if "no network access" in str(error) else "reached")
    try:
        socket.create_connection(("127.0.0.1", 2), 2)
    except OSError as error:
        outcomes.append("refused" if "no network access" in str(error) else "reached")
    return outcomes
"""
    run(
        "CREATE NETWORK RULE n TYPE = HOST_PORT MODE = EGRESS"
        " VALUE_LIST = ('localhost:1', '*.x.b.invalid', 'a-*.b.invalid')"
    )
    run("CREATE EXTERNAL ACCESS INTEGRATION e ALLOWED_NETWORK_RULES = (n) ENABLED = TRUE")
    places = [
        ("localhost", 1),
        ("a-1.b.invalid", 443),
        ("a-1.c.b.invalid", 443),
        ("b.invalid", 443),
    ]
    body = body.replace("PLACES", repr(places))
    run(procedure("p()", body, clauses="EXTERNAL_ACCESS_INTEGRATIONS = (e)"))
    assert json.loads(run("CALL p()")[0][0]) == [
        *("resolved", "unknown", "refused", "refused", "reached", "refused")
    ]


def _finished(run: Run, tasks: int) -> list[tuple[Any, ...]]:
    """Wait until so many task runs have ended, and return name, state, value and attempt of each."""
    deadline = time.monotonic() + 120
    rows: list[tuple[Any, ...]] = []
    while time.monotonic() < deadline:
        rows = run(
            "SELECT name, state, return_value, attempt_number FROM"
            " TABLE(DEMO.INFORMATION_SCHEMA.TASK_HISTORY(RESULT_LIMIT => 100))"
            " ORDER BY scheduled_time"
        )
        if len([r for r in rows if r[1] in {"SUCCEEDED", "FAILED", "SKIPPED"}]) == tasks:
            return rows
        time.sleep(0.1)
    raise AssertionError(rows)


def _graph(run: Run) -> None:
    """Create a root that sets a value, `a` that passes it on, `b` that needs a table, and `c`."""
    start = """
def main(session):
    session.call("system$set_return_value", "run-1")
    return "started"
"""
    node = """
def main(session):
    value = session.sql("SELECT SYSTEM$GET_PREDECESSOR_RETURN_VALUE()").collect()[0][0]
    session.call("system$set_return_value", value)
    return value
"""
    run(procedure("begin_run()", start, "VARCHAR"))
    run(procedure("node()", node, "VARCHAR"))
    run("CREATE TASK root WAREHOUSE = COMPUTE_WH SCHEDULE = '60 minute' AS CALL begin_run()")
    run("CREATE TASK a WAREHOUSE = COMPUTE_WH AFTER root AS CALL node()")
    run("CREATE TASK b WAREHOUSE = COMPUTE_WH AFTER a AS INSERT INTO missing VALUES (1)")
    run("CREATE TASK c WAREHOUSE = COMPUTE_WH AFTER a, b AS SELECT 1")
    for name in "cba":
        run(f"ALTER TASK {name} RESUME")


def test_a_graph_runs_in_order_and_is_retried(run: Run) -> None:
    """EXECUTE TASK returns immediately; values are passed on; a retry runs only unsuccessful tasks."""
    _graph(run)
    assert "scheduled" in run("EXECUTE TASK root")[0][0]
    assert _finished(run, 4) == [
        ("ROOT", "SUCCEEDED", "run-1", 1),
        ("A", "SUCCEEDED", "run-1", 1),
        ("B", "FAILED", None, 1),
        ("C", "SKIPPED", None, 1),
    ]
    failed = run(
        "SELECT error_code, error_message FROM"
        " TABLE(INFORMATION_SCHEMA.TASK_HISTORY(TASK_NAME => 'B'))"
    )
    assert "missing" in failed[0][1].lower()
    run("CREATE TABLE missing (a INT)")
    run("EXECUTE TASK root RETRY LAST")
    assert _finished(run, 6)[4:] == [("B", "SUCCEEDED", None, 2), ("C", "SUCCEEDED", None, 2)]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("EXECUTE TASK nothing", "NOTHING"),
        ("EXECUTE TASK a", "no root task"),
        ("EXECUTE TASK root RETRY LAST", "Cannot perform retry"),
        ("SELECT SYSTEM$GET_PREDECESSOR_RETURN_VALUE()", "within a task"),
        ("CALL SYSTEM$SET_RETURN_VALUE('x')", "within a task"),
        ("CREATE TASK d AFTER nothing AS SELECT 1", "NOTHING"),
        ("CREATE TASK d SCHEDULE = '1 minute' AFTER root AS SELECT 1", "either"),
        ("CALL nothing()", "NOTHING"),
    ],
)
def test_invalid_task_statements_are_refused(run: Run, sql: str, words: str) -> None:
    """A task that is missing, not a root, or has an unknown option is named."""
    _graph(run)
    with pytest.raises(DatabaseError, match=words):
        run(sql)


def test_a_graph_with_a_resumed_root_is_not_changed(run: Run) -> None:
    """Tasks are added only while the root is suspended, as in Snowflake."""
    _graph(run)
    run("ALTER TASK root RESUME")
    with pytest.raises(ProgrammingError, match="not suspended"):
        run("CREATE TASK d AFTER c AS SELECT 1")


def test_a_suspended_task_is_skipped(run: Run) -> None:
    """A suspended task does not run, and a task with another predecessor runs without it."""
    _graph(run)
    run("ALTER TASK b SUSPEND")
    run("EXECUTE TASK root")
    assert [row[:2] for row in _finished(run, 3)] == [
        ("ROOT", "SUCCEEDED"),
        ("A", "SUCCEEDED"),
        ("C", "SUCCEEDED"),
    ]


def test_a_finalizer_always_runs(run: Run) -> None:
    """It runs after each attempt of a graph, with the run's ID, whether tasks failed or not."""
    _graph(run)
    run("CREATE TABLE ended (graph VARCHAR)")
    insert = "INSERT INTO ended SELECT SYSTEM$TASK_RUNTIME_INFO('CURRENT_TASK_GRAPH_RUN_GROUP_ID')"
    run(f"CREATE TASK last WAREHOUSE = COMPUTE_WH FINALIZE = root AS {insert}")
    run("ALTER TASK last RESUME")
    run("EXECUTE TASK root")
    assert _finished(run, 5)[2:] == [
        ("B", "FAILED", None, 1),
        ("C", "SKIPPED", None, 1),
        ("LAST", "SUCCEEDED", None, 1),
    ]
    run("CREATE TABLE missing (a INT)")
    run("EXECUTE TASK root RETRY LAST")
    assert [row[::3] for row in _finished(run, 8)[5:]] == [("B", 2), ("C", 2), ("LAST", 2)]
    ended = run("SELECT graph FROM ended")
    assert len(ended) == 2
    assert len(set(ended)) == 1


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE TASK d FINALIZE = root AS SELECT 1", "has the finalizer task"),
        ("CREATE TASK d FINALIZE = a AS SELECT 1", "no root task"),
        ("CREATE TASK d FINALIZE = last AS SELECT 1", "no root task"),
        ("CREATE TASK d FINALIZE = nothing AS SELECT 1", "NOTHING"),
        ("CREATE TASK d SCHEDULE = '1 minute' FINALIZE = root AS SELECT 1", "neither a SCHEDULE"),
        ("CREATE TASK d AFTER a FINALIZE = root AS SELECT 1", "neither a SCHEDULE"),
        ("CREATE TASK d AFTER last AS SELECT 1", "no child tasks"),
        ("ALTER TASK last ADD AFTER a", "no predecessors"),
        ("EXECUTE TASK last", "no root task"),
    ],
)
def test_an_invalid_finalizer_is_refused(run: Run, sql: str, words: str) -> None:
    """A root has one finalizer, which has no schedule, no predecessors and no children."""
    run("CREATE TASK root SCHEDULE = '60 minute' AS SELECT 1")
    run("CREATE TASK a AFTER root AS SELECT 1")
    run("CREATE TASK last FINALIZE = root AS SELECT 1")
    with pytest.raises(DatabaseError, match=words):
        run(sql)


def test_a_finalizer_is_created_while_the_root_is_suspended(run: Run) -> None:
    """Like any task of a graph it is created only while the root is suspended."""
    run("CREATE TASK root SCHEDULE = '60 minute' AS SELECT 1")
    run("ALTER TASK root RESUME")
    with pytest.raises(ProgrammingError, match="not suspended"):
        run("CREATE TASK last FINALIZE = root AS SELECT 1")


def test_a_changed_graph_is_not_retried(run: Run) -> None:
    """RETRY LAST is refused after a task was replaced, and after a run that succeeded."""
    _graph(run)
    run("EXECUTE TASK root")
    _finished(run, 4)
    run("CREATE OR REPLACE TASK b WAREHOUSE = COMPUTE_WH AFTER a AS SELECT 1")
    run("ALTER TASK b RESUME")
    with pytest.raises(DatabaseError, match="modified"):
        run("EXECUTE TASK root RETRY LAST")
    run("EXECUTE TASK root")
    _finished(run, 8)
    with pytest.raises(DatabaseError, match="no suitable run"):
        run("EXECUTE TASK root RETRY LAST")


def test_clouds_may_trust_every_caller(stand_in: Snowflake) -> None:
    """administer() makes the clouds trust every identity."""
    clouds = stand_in.account.clouds
    identity = CloudIdentity("aws", "role", "somebody")
    assert not clouds.is_trusted(identity)
    stand_in.administer()
    assert clouds.is_trusted(identity)
