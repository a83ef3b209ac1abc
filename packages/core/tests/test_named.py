"""Connections by name: files, precedence, sources of secrets, and refusals."""

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_connections import (
    AccessError,
    AmbiguousConnectionError,
    ConnectionsError,
    InvalidOptionError,
    MissingDependencyError,
    MissingOptionError,
    UnknownConnectionError,
    named,
    resolve,
    use,
)
from mlflow_connections.named import find_named_connection, named_connections, user_file

Install = Callable[..., str]

DECLARED = """
    from mlflow_connections import Connection, Option

    class Declared(Connection):
        declared = (
            Option("workspace", "Which workspace.", env="TEST_WORKSPACE", required=True),
            Option("timeout", "Seconds to wait.", type=float, default=30.0),
            Option("connection", "An option with a name that the file uses itself."),
            Option("tenant", "Which tenant.", credential=True),
            Option("key", "A secret that does not look like one.", secret=True),
            Option("token", "Opens the door.", env="TEST_TOKEN", secret=True),
        )
        def tracking_uri(self, credentials, options):
            v = self.values(credentials, options)
            return f"http://{v['workspace']}?timeout={v['timeout']}&inner={v['connection']}"
        def registry_uri(self, credentials, options): return "http://registry.example"
        def environment(self, credentials, options):
            v = self.values(credentials, options)
            return {"TEST_EXPORTED": f"{v['tenant']}:{v['token']}"}
    connection = Declared()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the working directory; only the user can write its files."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> Path:
    """Write a file, creating its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


PROD = """
[connections.prod]
connection = "declared"
workspace = "forecasts"
timeout = 5
credentials = { tenant = "t1", token = { env = "ML_SECRET" } }
"""


def test_a_name_is_used_like_a_keyword(
    project: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`use` and `resolve` accept the name; options and credentials come from the file."""
    install("declared", DECLARED)
    write(project / "mlflow-connections.toml", PROD)
    monkeypatch.setenv("ML_SECRET", "s3cret")
    endpoint = resolve("prod")
    assert endpoint.tracking_uri == "http://forecasts?timeout=5.0&inner=None"
    assert dict(endpoint.environment) == {"TEST_EXPORTED": "t1:s3cret"}
    with use("prod"):
        assert os.environ["MLFLOW_TRACKING_URI"] == endpoint.tracking_uri
        assert os.environ["TEST_EXPORTED"] == "t1:s3cret"


def test_arguments_override_the_file(
    project: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option, a credential or a registry that the caller gives replaces the file's."""
    install("declared", DECLARED)
    write(project / "mlflow-connections.toml", PROD.replace("timeout", 'registry = "uc"\ntimeout'))
    monkeypatch.setenv("ML_SECRET", "s3cret")
    assert resolve("prod").registry_uri == "uc"
    endpoint = resolve("prod", {"tenant": "t2"}, {"workspace": "other"}, registry="http://r")
    assert endpoint.tracking_uri == "http://other?timeout=5.0&inner=None"
    assert endpoint.registry_uri == "http://r"
    assert dict(endpoint.environment) == {"TEST_EXPORTED": "t2:s3cret"}


def test_an_option_may_have_the_name_of_a_key(project: Path, install: Install) -> None:
    """Below `options` every name is an option."""
    install("declared", DECLARED)
    write(
        project / "mlflow-connections.toml",
        '[connections.prod]\nconnection = "declared"\n'
        'options = { connection = "dev", workspace = "w" }\n',
    )
    assert resolve("prod").tracking_uri.endswith("inner=dev")


def test_a_name_may_be_a_uri(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URI's credentials are MLflow's own variables."""
    write(
        project / "mlflow-connections.toml",
        '[connections.plain]\nconnection = "https://server"\nregistry = "https://r"\n'
        'credentials = { MLFLOW_TRACKING_TOKEN = { env = "ML_SECRET" } }\n',
    )
    monkeypatch.setenv("ML_SECRET", "s3cret")
    endpoint = resolve("plain")
    assert (endpoint.tracking_uri, endpoint.registry_uri) == ("https://server", "https://r")
    assert dict(endpoint.environment) == {"MLFLOW_TRACKING_TOKEN": "s3cret"}


def test_the_default_is_used_without_a_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`MLFLOW_CONNECTIONS_DEFAULT` holds a name, a keyword or a URI."""
    with pytest.raises(MissingOptionError, match="set the environment variable MLFLOW_CONNECTIONS"):
        resolve()
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://p"\n')
    monkeypatch.setenv("MLFLOW_CONNECTIONS_DEFAULT", "p")
    assert resolve().tracking_uri == "http://p"
    monkeypatch.setenv("MLFLOW_CONNECTIONS_DEFAULT", "http://q")
    assert resolve().tracking_uri == "http://q"
    monkeypatch.setenv("MLFLOW_CONNECTIONS_DEFAULT", "$MLFLOW_CONNECTIONS_DEFAULT")
    with pytest.raises(MissingOptionError, match="No connection is given"):
        resolve()


def test_pyproject_holds_connections_too(project: Path) -> None:
    """`[tool.mlflow-connections]` has the same tables; a file without the section is ignored."""
    write(
        project / "pyproject.toml",
        '[tool.mlflow-connections.connections.p]\nconnection = "http://p"\n',
    )
    assert resolve("p").tracking_uri == "http://p"
    write(
        project / "sub" / "pyproject.toml",
        '[project]\ndependencies = ["mlflow-connections", "x"]\nthis is no TOML',
    )
    os.chdir(project / "sub")
    assert resolve("p").tracking_uri == "http://p"


def test_the_nearest_file_above_the_working_directory_belongs_to_the_project(project: Path) -> None:
    """A project's folders share its file, and a nested project has its own."""
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://outer"\n')
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    os.chdir(inner)
    assert resolve("p").tracking_uri == "http://outer"
    write(inner.parent / "mlflow-connections.toml", '[connections.q]\nconnection = "http://q"\n')
    assert resolve("q").tracking_uri == "http://q"
    assert find_named_connection("p") is None


def test_the_search_ends_at_the_repository(project: Path) -> None:
    """A file above the root of the repository is ignored."""
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://p"\n')
    (project / "repository" / ".git").mkdir(parents=True)
    os.chdir(project / "repository")
    assert find_named_connection("p") is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_world_writable_folder_is_not_searched(project: Path) -> None:
    """A file that another user put into /tmp is not treated as the project's."""
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://evil"\n')
    project.chmod(0o1777)
    (project / "mine").mkdir()
    os.chdir(project / "mine")
    assert find_named_connection("p") is None


def test_the_home_folder_is_not_a_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the home folder applies to commands in that folder, but not below it."""
    monkeypatch.setenv("HOME", str(project))
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://p"\n')
    assert find_named_connection("p") is not None
    (project / "work").mkdir()
    os.chdir(project / "work")
    assert find_named_connection("p") is None


def test_a_users_connections_come_after_the_projects(project: Path) -> None:
    """Both files are read; the project's connection takes precedence over one of the same name."""
    write(
        Path(user_file()),
        '[connections.p]\nconnection = "http://user"\n[connections.u]\nconnection = "http://u"\n',
    )
    assert resolve("p").tracking_uri == "http://user"
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://project"\n')
    assert resolve("p").tracking_uri == "http://project"
    assert resolve("u").tracking_uri == "http://u"
    assert [(n.name, n.tracking) for n in named_connections()] == [
        ("p", "http://project"),
        ("u", "http://u"),
    ]


def test_a_variable_names_the_only_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `MLFLOW_CONNECTIONS_FILE` no other file is read, and the file must exist."""
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://p"\n')
    chosen = write(tmp_path / "ci.toml", '[connections.q]\nconnection = "http://q"\n')
    monkeypatch.setenv("MLFLOW_CONNECTIONS_FILE", str(chosen))
    assert [n.name for n in named_connections()] == ["q"]
    monkeypatch.setenv("MLFLOW_CONNECTIONS_FILE", str(tmp_path / "gone.toml"))
    with pytest.raises(MissingOptionError, match=r"names .*gone[.]toml, which does not exist"):
        resolve("p")


@pytest.mark.parametrize(
    ("platform", "variables", "path"),
    [
        ("linux", {"XDG_CONFIG_HOME": "/c"}, "/c/mlflow-connections/connections.toml"),
        (
            "linux",
            {"XDG_CONFIG_HOME": "relative", "HOME": "/home/u"},
            "/home/u/.config/mlflow-connections/connections.toml",
        ),
        (
            "darwin",
            {"HOME": "/Users/u"},
            "/Users/u/Library/Application Support/mlflow-connections/connections.toml",
        ),
    ],
)
def test_the_users_file_is_in_the_platforms_folder(
    platform: str, variables: dict[str, str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is XDG's on Linux, Application Support on macOS."""
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_file() == path


def test_a_name_that_is_also_a_keyword_is_refused(project: Path, install: Install) -> None:
    """The name is ambiguous, so the message names both places."""
    install("declared", DECLARED)
    path = write(
        project / "mlflow-connections.toml", '[connections.declared]\nconnection = "http://p"\n'
    )
    with pytest.raises(AmbiguousConnectionError) as caught:
        resolve("declared")
    assert f"[connections.declared] in {path}" in str(caught.value)
    assert "the keyword of plugin-of-declared" in str(caught.value)


@pytest.mark.parametrize("word", ["mlruns", "databricks-uc"])
def test_a_name_cannot_be_a_word_of_mlflow(word: str, project: Path) -> None:
    """The word `mlruns` keeps its meaning."""
    write(project / "mlflow-connections.toml", f'[connections.{word}]\nconnection = "http://p"\n')
    with pytest.raises(AmbiguousConnectionError, match="the keyword of MLflow itself"):
        resolve(word)


def test_a_name_cannot_refer_to_a_name(project: Path) -> None:
    """Names do not chain, so each connection is written in one place."""
    write(
        project / "mlflow-connections.toml",
        '[connections.a]\nconnection = "b"\n[connections.b]\nconnection = "http://b"\n',
    )
    with pytest.raises(InvalidOptionError, match=r"is 'b', the name of another connection"):
        resolve("a")


def test_an_unknown_name_lists_the_names(project: Path) -> None:
    """The error for a misspelled name lists the names in the files."""
    write(project / "mlflow-connections.toml", '[connections.prod]\nconnection = "http://p"\n')
    with pytest.raises(UnknownConnectionError, match=r"'prdo' .* The connections files have prod"):
        resolve("prdo")


@pytest.mark.parametrize("key", ["token", "key"])
def test_a_secret_in_the_file_is_refused(key: str, project: Path, install: Install) -> None:
    """A secret is recognized by its name or its declaration; the message names the sources and not the value."""
    install("declared", DECLARED)
    path = write(
        project / "mlflow-connections.toml",
        '[connections.p]\nconnection = "declared"\nworkspace = "w"\n'
        f'credentials = {{ {key} = "hunter2" }}\n',
    )
    with pytest.raises(InvalidOptionError, match=f"'{key}' of .* is a secret") as caught:
        resolve("p")
    assert str(path) in str(caught.value)
    assert f'{key} = {{ env = "VARIABLE" }}' in str(caught.value)
    assert "hunter2" not in str(caught.value)


HEADERS = """
    from mlflow_connections import Connection, Option

    class Headers(Connection):
        declared = (
            Option("command", "A program and its arguments.", type=list),
            Option("headers", "Secret headers.", type=dict, secret=True),
        )
        def tracking_uri(self, credentials, options):
            v = self.values(credentials, options)
            return f"http://{'.'.join(v['command'])}/{'.'.join(f'{k}-{x}' for k, x in v['headers'].items())}"
    connection = Headers()
"""


def test_an_option_may_be_a_list_or_a_mapping(
    project: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of a secret mapping has its own source, or the whole is JSON from one source."""
    install("headers", HEADERS)
    text = (
        '[connections.p]\nconnection = "headers"\ncommand = ["a", "b"]\n'
        'credentials.headers = { X-Key = { env = "ONE" }, X-Tenant = { env = "TWO" } }\n'
    )
    write(project / "mlflow-connections.toml", text)
    monkeypatch.setenv("ONE", "1st")
    monkeypatch.setenv("TWO", "2nd")
    monkeypatch.setenv("ALL", '{"Y": "3rd"}')
    assert resolve("p").tracking_uri == "http://a.b/X-Key-1st.X-Tenant-2nd"
    whole = text.partition("credentials")[0] + 'credentials.headers = { env = "ALL" }\n'
    write(project / "mlflow-connections.toml", whole)
    assert resolve("p").tracking_uri == "http://a.b/Y-3rd"
    write(project / "mlflow-connections.toml", text.replace('{ env = "TWO" }', '"hunter2"'))
    with pytest.raises(InvalidOptionError, match=r"'headers' of .* is a secret") as caught:
        resolve("p")
    assert "hunter2" not in str(caught.value)


def test_a_secret_among_the_options_is_refused_with_its_place(
    project: Path, install: Install
) -> None:
    """The message names the table and the file, and the place where the key belongs."""
    install("declared", DECLARED)
    write(
        project / "mlflow-connections.toml",
        '[connections.p]\nconnection = "declared"\nworkspace = "w"\ntoken = "hunter2"\n',
    )
    with pytest.raises(
        InvalidOptionError,
        match=r"'token' in \[connections.p\] in .* belongs in .*: move it below 'credentials' there",
    ) as caught:
        resolve("p")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        'connection = "https://u:hunter2@server"',
        'connection = "https://server"\nregistry = "https://u:hunter2@server"',
        'connection = "declared"\nworkspace = "https://u:hunter2@server"',
        'connection = "declared"\ncredentials = { tenant = "https://h/?token=hunter2" }',
    ],
)
def test_a_secret_inside_a_uri_is_refused(line: str, project: Path, install: Install) -> None:
    """A password in a URI is a secret in a file."""
    install("declared", DECLARED)
    write(project / "mlflow-connections.toml", f"[connections.p]\n{line}\n")
    with pytest.raises(InvalidOptionError, match="has a secret inside its URI") as caught:
        resolve("p")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[connections.p", "is not valid TOML: Expected"),
        ("connection = 1", "has 'connection'; it holds tables"),
        ("connections = 1", "has 'connections' as a value"),
        ("[connections]\np = 1", r"\[connections.p\] in .* must be a table with the key"),
        ("[connections.p]", "'connection' of .* must be a keyword, a URI or a path"),
        ("[connections.p]\nconnection = 7", "'connection' of .* must be a keyword"),
        ('[connections.p]\nconnection = "x"\nregistry = ""', "'registry' of .* must be"),
        ('[connections.p]\nconnection = "x"\noptions = 1', "'options' of .* must be a table"),
        ('[connections.p]\nconnection = "x"\na = [[1]]', "'a' of .* must be text, a number"),
        ('[connections.p]\nconnection = "x"\na = 1979-05-27', "'a' of .* must be text, a number"),
        ('[connections.p]\nconnection = "x"\na = 1\noptions.a = 2', "'a' is given twice in"),
        ('[connections.p]\nconnection = "x"\na = {}', "must name one source"),
        ('[connections.p]\nconnection = "x"\na = { env = "A", file = "b" }', "must name one"),
        ('[connections.p]\nconnection = "x"\na = { env = "" }', "must name one source"),
        ('[connections.p]\nconnection = "x"\na = { env = "A", timeout = 1 }', "must name one"),
        ('[connections.p]\nconnection = "x"\na = { command = "pass" }', "must name one"),
        ('[connections.p]\nconnection = "x"\na = { command = [] }', "must name one source"),
        ('[connections.p]\nconnection = "x"\na = { command = ["a"], timeout = 0 }', "must name"),
        ('[connections.p]\nconnection = "x"\na = { keyring = "a" }', "must name one source"),
    ],
)
def test_an_invalid_file_is_named(text: str, message: str, project: Path) -> None:
    """Each fault is one sentence with the file and the table."""
    path = write(project / "mlflow-connections.toml", text)
    with pytest.raises(InvalidOptionError, match=message) as caught:
        resolve("p")
    assert str(path) in str(caught.value)


def test_two_files_in_one_folder_are_refused(project: Path) -> None:
    """It would be a guess which of them is meant."""
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://p"\n')
    write(
        project / "pyproject.toml",
        '[tool.mlflow-connections.connections.p]\nconnection = "http://q"\n',
    )
    with pytest.raises(InvalidOptionError, match=r"Both .* and .* hold connections"):
        resolve("p")


def test_a_changed_file_is_read_again(project: Path) -> None:
    """A long-lived process reads an edited file."""
    path = write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://a"\n')
    assert resolve("p").tracking_uri == "http://a"
    write(path, '[connections.p]\nconnection = "http://longer"\n')
    assert resolve("p").tracking_uri == "http://longer"


def _write_as_before(path: Path) -> None:
    """Write another URI of the same length, and give the file the times that it had."""
    status = path.stat()
    write(path, path.read_text(encoding="utf-8").replace("http://a", "http://b"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace(path: Path) -> None:
    """Replace the file by another of the same length and times, as editors do."""
    status = path.stat()
    other = write(path.with_name("new"), '[connections.p]\nconnection = "http://b"\n')
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def _link(path: Path) -> None:
    """Make the file a link to another."""
    path.unlink()
    path.symlink_to(
        write(path.parent / "other" / "b.toml", '[connections.p]\nconnection = "b://"\n')
    )


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("change", [_write_as_before, _replace, _link, Path.unlink])
def test_any_change_of_a_file_is_seen(
    change: Callable[[Path], None], is_kept: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change is seen also where length and time stay, just after a write and long after it."""
    monkeypatch.setattr(named, "_SETTLED", -1 if is_kept else 10**18)
    path = write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://a"\n')
    write(Path(user_file()), '[connections.p]\nconnection = "http://user"\n')
    assert resolve("p").tracking_uri == resolve("p").tracking_uri == "http://a"
    time.sleep(0.02)  # a tick of the file system's clock
    change(path)
    expected = {"_link": "b://", "unlink": "http://user"}.get(change.__name__, "http://b")
    assert resolve("p").tracking_uri == expected


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_file_that_appears_is_seen(
    is_kept: bool, project: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyword that was unambiguous is refused once a file has it, wherever the file is read."""
    monkeypatch.setattr(named, "_SETTLED", -1 if is_kept else 10**18)
    install("declared", DECLARED)
    monkeypatch.setenv("TEST_WORKSPACE", "w")
    text = '[connections.declared]\nconnection = "http://a"\n'
    elsewhere = write(project.parent / "elsewhere.toml", text)
    (project / "mlflow-connections.toml").symlink_to(project / "target.toml")
    below = project / "below"
    below.mkdir()
    os.chdir(below)
    pyproject = write(below / "pyproject.toml", "[project]\nname = 'p'\n")
    for path in (project / "target.toml", Path(user_file()), below / "mlflow-connections.toml"):
        assert "//w?" in resolve("declared").tracking_uri
        time.sleep(0.02)
        write(path, text)
        with pytest.raises(AmbiguousConnectionError, match="is both"):
            resolve("declared")
        path.unlink()
    assert "//w?" in resolve("declared").tracking_uri
    time.sleep(0.02)
    write(pyproject, text.replace("[", "[tool.mlflow-connections.", 1))
    with pytest.raises(AmbiguousConnectionError, match="is both"):
        resolve("declared")
    pyproject.unlink()
    monkeypatch.setenv("MLFLOW_CONNECTIONS_FILE", str(elsewhere))
    with pytest.raises(AmbiguousConnectionError, match="is both"):
        resolve("declared")


def test_the_folder_and_the_variables_of_the_moment_count(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another working folder, another home and another variable are seen by the next call."""
    for place in ("one", "two"):
        text = f'[connections.p]\nconnection = "http://{place}"\n'
        write(project / place / "mlflow-connections.toml", text)
        write(project / f"{place}-config" / "mlflow-connections" / "connections.toml", text)
    for place in ("one", "two", "one"):
        os.chdir(project / place)
        assert resolve("p").tracking_uri == f"http://{place}"
    (project / "empty").mkdir()
    os.chdir(project / "empty")
    for place in ("one", "two", "one"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(project / f"{place}-config"))
        assert resolve("p").tracking_uri == f"http://{place}"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_folder_that_becomes_open_to_all_is_not_searched_any_more(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's permissions count as they are, whether or not its entries have changed."""
    monkeypatch.setattr(named, "_SETTLED", -1)
    write(project / "mlflow-connections.toml", '[connections.p]\nconnection = "http://p"\n')
    (project / "mine").mkdir()
    os.chdir(project / "mine")
    assert find_named_connection("p") is not None
    time.sleep(0.02)
    project.chmod(0o1777)
    assert find_named_connection("p") is None


def test_a_full_uri_searches_no_file(project: Path) -> None:
    """A broken file does not affect a URI."""
    write(project / "mlflow-connections.toml", "[")
    assert resolve("http://h").tracking_uri == "http://h"


def source(project: Path, table: str) -> Path:
    """Write a connection whose only credential has this source."""
    return write(
        project / "mlflow-connections.toml",
        f'[connections.p]\nconnection = "http://p"\ncredentials.MLFLOW_TRACKING_TOKEN = {table}\n',
    )


def token() -> str:
    """Resolve the credential of `source`."""
    return resolve("p").environment["MLFLOW_TRACKING_TOKEN"]


def test_a_secret_is_read_from_a_variable(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or empty variable is named."""
    source(project, '{ env = "ML_SECRET" }')
    monkeypatch.delenv("ML_SECRET", raising=False)
    with pytest.raises(MissingOptionError, match="read from the variable ML_SECRET, which is not"):
        token()
    monkeypatch.setenv("ML_SECRET", "")
    with pytest.raises(
        MissingOptionError, match="read from the variable ML_SECRET, which is empty"
    ):
        token()
    monkeypatch.setenv("ML_SECRET", "s3cret")
    assert token() == "s3cret"


def test_a_secret_is_read_from_a_file(project: Path) -> None:
    """A path is relative to the connections file; a trailing line break is removed."""
    source(project, '{ file = "secrets/token" }')
    with pytest.raises(MissingOptionError, match="secrets/token, which does not exist"):
        token()
    write(project / "secrets" / "token", "s3cret\r\n")
    (project / "elsewhere").mkdir()
    os.chdir(project / "elsewhere")
    assert token() == "s3cret"
    (project / "secrets" / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(AccessError, match="cannot be read: it is not UTF-8"):
        token()
    (project / "secrets" / "token").unlink()
    (project / "secrets" / "token").mkdir()
    with pytest.raises(AccessError, match="cannot be read: "):
        token()


def test_a_secret_is_printed_by_a_command(project: Path) -> None:
    """The command runs in the folder of the file, without a shell."""
    source(
        project,
        f"""{{ command = ['{sys.executable}', '-c', 'import os; print(os.getcwd(), "$HOME")'] }}""",
    )
    assert token() == f"{project} $HOME"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ('print("hunter2"); raise SystemExit(3)', "which failed with exit code 3"),
        ("pass", "which is empty"),
        ('import sys; sys.stdout.buffer.write(b"\\\\xff")', "whose output is not UTF-8"),
    ],
)
def test_a_command_that_fails_is_one_sentence(command: str, message: str, project: Path) -> None:
    """Neither its output nor its arguments are shown."""
    source(
        project,
        f"""{{ command = ['{sys.executable}', '-c', "{command.replace('"', chr(92) + '"')}"] }}""",
    )
    with pytest.raises(ConnectionsError, match=message) as caught:
        token()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_command_that_cannot_be_run_is_one_sentence(project: Path) -> None:
    """A missing program is named."""
    source(project, '{ command = ["no-such-program-here"] }')
    with pytest.raises(
        AccessError, match="no-such-program-here, which cannot be run: No such file"
    ):
        token()


def test_a_command_has_a_time_limit(project: Path) -> None:
    """A command that waits for ever is stopped."""
    source(
        project,
        f"{{ command = ['{sys.executable}', '-c', 'import time; time.sleep(60)'], timeout = 0.2 }}",
    )
    with pytest.raises(AccessError, match=r"did not end within 0[.]2 s; a 'timeout' next to"):
        token()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_that_others_can_write_runs_no_command(project: Path) -> None:
    """Anyone who can write the file could otherwise run any program as its reader."""
    path = source(project, f"{{ command = ['{sys.executable}', '-c', 'print(1)'] }}")
    assert token() == "1"
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(AccessError, match="names a command, but other users can write"):
        token()


BACKEND = """
import keyring.backend

class Backend(keyring.backend.KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        if service == "locked": raise RuntimeError("hunter2")
        return {"ml": "s3cret"}.get(service) if username == "me" else None
    def set_password(self, service, username, password): raise NotImplementedError
    def delete_password(self, service, username): raise NotImplementedError
"""


def test_a_secret_is_read_from_the_keyring(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is found by service and user name, through the keyring library and its configured backend."""
    keyring = pytest.importorskip("keyring")
    write(project / "backend_of_test.py", BACKEND)
    monkeypatch.syspath_prepend(str(project))
    from importlib import import_module

    before = keyring.get_keyring()
    keyring.set_keyring(import_module("backend_of_test").Backend())
    try:
        source(project, '{ keyring = "ml", username = "me" }')
        assert token() == "s3cret"
        source(project, '{ keyring = "ml", username = "you" }')
        with pytest.raises(MissingOptionError, match=r"user name 'you'.*has no such entry"):
            token()
        source(project, '{ keyring = "locked", username = "me" }')
        with pytest.raises(AccessError, match="which refused with RuntimeError") as caught:
            token()
        assert "hunter2" not in str(caught.value)
    finally:
        keyring.set_keyring(before)


def test_the_keyring_is_an_extra(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the message contains the install command."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    source(project, '{ keyring = "ml", username = "me" }')
    with pytest.raises(
        MissingDependencyError, match=r"pip install 'mlflow-connections\[keyring\]'"
    ):
        token()


def test_python_3_10_needs_tomli(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a TOML parser the message contains the install command."""
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    source(project, '{ env = "ML_SECRET" }')
    with pytest.raises(MissingDependencyError, match=r"pip install 'mlflow-connections\[toml\]'"):
        token()


def test_the_repr_hides_values(project: Path) -> None:
    """A secret written into the file is not shown by its error."""
    write(
        project / "mlflow-connections.toml",
        '[connections.p]\nconnection = "http://p"\nanything = "hunter2"\n',
    )
    assert "hunter2" not in repr(find_named_connection("p"))
