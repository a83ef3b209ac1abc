"""The boundary of `use`, without MLflow: variables, identities, owners, and any order of leaving."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import Applied, BoundaryError, Endpoint, use
from mlflow_connections import _use as module
from mlflow_connections.mlflow_state import CREDENTIAL_VARIABLES, SERVER_VARIABLES, tracking_uri

Install = Callable[..., str]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No URI is set before a test, and no block is left by one."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "TEST_TOKEN")
    for name in (*names, *SERVER_VARIABLES, *CREDENTIAL_VARIABLES):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    yield
    assert module._blocks == []


class Identity:
    """A binder that records bound identities."""

    bound: list[str] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, name: str) -> None:
        self.name = name

    def bind(self) -> None:
        """Record it."""
        self.bound.append(self.name)

    def unbind(self) -> None:
        """Remove the record."""
        self.bound.remove(self.name)


@pytest.fixture
def bound() -> list[str]:
    """The names of the identities that are bound."""
    Identity.bound.clear()
    return Identity.bound


def endpoint(name: str, **variables: str) -> Endpoint:
    """Return an endpoint with its own identity."""
    return Endpoint(f"http://{name}.example", None, variables, (Identity(name),))


def test_an_outer_blocks_credentials_are_hidden_inside(bound: list[str]) -> None:
    """Exported variables are absent in an inner block for another server, and return after it."""
    with Applied(endpoint("a", TEST_TOKEN="of-a")):
        with Applied(endpoint("b")):
            assert "TEST_TOKEN" not in os.environ
            assert bound == ["b"]
        assert os.environ["TEST_TOKEN"] == "of-a"
        assert bound == ["a"]
    assert "TEST_TOKEN" not in os.environ
    assert bound == []


def test_a_connection_does_not_read_an_outer_blocks_credentials(install: Install) -> None:
    """A connection that is resolved inside a block reads the variables from before any block."""
    code = """
        import os
        class Reading:
            def tracking_uri(self, credentials, options):
                return "http://" + credentials.get("name", os.environ.get("TEST_TOKEN", "none"))
            def environment(self, credentials, options):
                return {"TEST_TOKEN": credentials["name"]} if credentials else {}
        connection = Reading()
    """
    install("reading", code)
    with use("reading", {"name": "outer"}), use("reading") as inner:
        assert inner.tracking_uri == "http://none"
    os.environ["TEST_TOKEN"] = "shell"
    with use("reading", {"name": "outer"}), use("reading") as inner:
        assert inner.tracking_uri == "http://shell"
        assert os.environ["TEST_TOKEN"] == "shell"


@pytest.mark.parametrize("name", [*SERVER_VARIABLES, *CREDENTIAL_VARIABLES])
def test_variables_of_the_server_in_force_stay_with_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment or a credential next to a URI belongs only to that server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a.example")
    monkeypatch.setenv(name, "of-a")
    with use("http://b.example"):
        assert name not in os.environ
        os.environ[name] = "of-b"
    assert os.environ[name] == "of-a"
    with use("http://a.example/"):
        assert os.environ[name] == "of-a"


@pytest.mark.parametrize("name", [*SERVER_VARIABLES, *CREDENTIAL_VARIABLES])
def test_variables_of_a_shell_without_a_server_belong_to_the_first_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a URI in force, the shell's experiment and credentials are meant for the program's server."""
    monkeypatch.setenv(name, "of-the-shell")
    with use("http://a.example"):
        assert os.environ[name] == "of-the-shell"
        with use("http://b.example"):
            assert name not in os.environ
        assert os.environ[name] == "of-the-shell"


def test_changes_inside_a_block_end_with_it() -> None:
    """An experiment that is chosen inside, as MLflow exports it, is gone afterwards."""
    with use("http://a.example"):
        os.environ["MLFLOW_EXPERIMENT_ID"] = "7"
    assert "MLFLOW_EXPERIMENT_ID" not in os.environ


def test_the_registry_of_a_block_stays_with_it() -> None:
    """A registry set by a block is absent in a block for another server."""
    with use("http://a.example", registry="http://r.example"):
        with use("http://b.example"):
            assert "MLFLOW_REGISTRY_URI" not in os.environ
        assert os.environ["MLFLOW_REGISTRY_URI"] == "http://r.example"
    assert "MLFLOW_REGISTRY_URI" not in os.environ


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=20))
def test_blocks_may_be_left_in_any_order(steps: list[tuple[bool, int]]) -> None:
    """The last entered block that was not left is in force; finally none is."""
    Identity.bound.clear()
    blocks: list[tuple[str, Applied]] = []
    try:
        for is_entering, number in steps:
            if is_entering:
                name = "abcd"[number]
                blocks.append((name, Applied(endpoint(name, **{f"TEST_{name}": name}))))
            elif blocks:
                blocks.pop(number % len(blocks))[1].restore()
            assert tracking_uri() == (f"http://{blocks[-1][0]}.example" if blocks else None)
            exported = {n for n in os.environ if n in {f"TEST_{c}" for c in "abcd"}}
            assert exported == ({f"TEST_{blocks[-1][0]}"} if blocks else set())
            assert Identity.bound == ([blocks[-1][0]] if blocks else [])
    finally:
        for _, block in blocks:
            block.restore()
    assert tracking_uri() is None
    assert Identity.bound == []
    assert not [name for name in os.environ if name.startswith("TEST_")]


class Equal(Identity):
    """An identity that equals others of the same name."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


@pytest.mark.parametrize("outer_first", [False, True])
def test_the_same_identity_is_bound_once(outer_first: bool, bound: list[str]) -> None:
    """A block inside another one for the same server and identity leaves it bound, in any order."""
    outer = Applied(Endpoint("http://a.example", binders=(Equal("a"),)))
    inner = Applied(Endpoint("http://a.example", binders=(Equal("a"),)))
    assert bound == ["a"]
    first, second = (outer, inner) if outer_first else (inner, outer)
    first.restore()
    assert bound == ["a"]
    assert tracking_uri() == "http://a.example"
    second.restore()
    assert bound == []
    assert tracking_uri() is None


def test_an_identity_that_cannot_be_bound_changes_nothing(bound: list[str]) -> None:
    """If a binder fails, the previous state is in force, including identity and variables."""

    class Failing(Identity):
        """A binder whose service is unavailable."""

        def bind(self) -> None:
            """Fail."""
            raise RuntimeError("away")

    binders = (Identity("first of b"), Failing("b"))
    wrong = Endpoint("http://b.example", None, {"TEST_TOKEN": "of-b"}, binders)
    with Applied(endpoint("a", TEST_TOKEN="of-a")):
        with pytest.raises(RuntimeError, match="away"):
            Applied(wrong)
        assert (tracking_uri(), os.environ["TEST_TOKEN"], bound) == (
            "http://a.example",
            "of-a",
            ["a"],
        )


def test_an_identity_that_cannot_be_unbound_is_logged(
    bound: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Leaving restores everything else and logs the error."""

    class Clinging(Identity):
        """A binder that fails on unbinding."""

        def unbind(self) -> None:
            """Fail."""
            raise RuntimeError("stuck")

    with (
        caplog.at_level(logging.WARNING),
        Applied(Endpoint("http://a.example", binders=(Clinging("a"),))),
    ):
        pass
    assert tracking_uri() is None
    assert "stuck" in caplog.text


def test_a_wrapper_of_the_server_in_force_keeps_its_identity() -> None:
    """An endpoint that only copies the data of the server in force leaves its credentials in place."""
    behind = endpoint("a", TEST_TOKEN="of-a")
    with Applied(behind), Applied(Endpoint("copy://a", inner=behind)):
        assert tracking_uri() == "copy://a"
        assert os.environ["TEST_TOKEN"] == "of-a"
    assert tracking_uri() is None


def test_the_wrapped_server_with_another_identity_is_another_server() -> None:
    """Its URI alone does not keep the credentials of an enclosing block."""
    with (
        Applied(endpoint("a", TEST_TOKEN="of-a", TEST_USER="of-a")),
        Applied(Endpoint("copy://a", inner=endpoint("a", TEST_TOKEN="of-b"))),
    ):
        assert "TEST_USER" not in os.environ


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """MLflow's stack of active runs in this thread, with one run on it."""
    runs = [SimpleNamespace(info=SimpleNamespace(run_id="run-1"))]
    fluent = ModuleType("mlflow.tracking.fluent")
    stack = SimpleNamespace(get=lambda: runs, get_all_thread_values=dict)
    fluent._active_run_stack = stack  # type: ignore[attr-defined]
    fluent.end_run = lambda status: runs.pop()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow.tracking.fluent", fluent)
    return runs


def test_another_server_is_refused_while_a_run_is_active(run: list[Any]) -> None:
    """The run's values would go to the wrong server; the same server is accepted."""
    with pytest.raises(BoundaryError, match="The run run-1 is active on MLflow's default server"):
        use("http://b.example")
    assert tracking_uri() is None
    run.clear()
    with use("http://a.example"):
        run.append(SimpleNamespace(info=SimpleNamespace(run_id="run-2")))
        with pytest.raises(BoundaryError, match=r"run-2 is active on http://a\.example"):
            use("http://b.example")
        with use("http://a.example"):
            pass
        assert len(run) == 1


def test_an_active_run_is_ended_on_its_own_server(
    run: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """After the block it would log to another server; the warning names it."""
    run.clear()
    with use("http://a.example"):
        run.append(SimpleNamespace(info=SimpleNamespace(run_id="run-2")))
    assert run == []
    assert "run-2 was still active" in caplog.text


def test_another_thread_is_refused_while_the_first_one_is_inside() -> None:
    """MLflow has one server per process, so a second thread would move the first one's runs."""
    told: list[BaseException | None] = []

    def enter(uri: str) -> None:
        try:
            with use(uri):
                told.append(None)
        except BoundaryError as error:
            told.append(error)

    def in_thread(uri: str) -> BaseException | None:
        thread = threading.Thread(target=enter, args=(uri,))
        thread.start()
        thread.join()
        return told.pop()

    assert in_thread("http://b.example") is None
    with use("http://a.example"):
        assert in_thread("http://a.example") is None
        refusal = in_thread("http://b.example")
        assert isinstance(refusal, BoundaryError)
        assert "'MainThread' uses http://a.example" in str(refusal)
        assert tracking_uri() == "http://a.example"
    assert in_thread("http://b.example") is None


def test_the_server_of_an_ended_thread_can_be_replaced() -> None:
    """A thread that has ended logs nothing more."""
    made: list[Applied] = []
    thread = threading.Thread(target=lambda: made.append(use("http://a.example")))
    thread.start()
    thread.join()
    with use("http://b.example"):
        assert tracking_uri() == "http://b.example"
    assert tracking_uri() == "http://a.example"
    made[0].restore()


def test_a_second_task_is_refused_while_the_first_one_is_inside() -> None:
    """Tasks share one thread, and MLflow does not distinguish them."""

    async def both() -> str:
        inside, done = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with use("http://a.example"):
                inside.set()
                await done.wait()
                assert tracking_uri() == "http://a.example"

        task = asyncio.create_task(first(), name="first")
        await inside.wait()
        try:
            with pytest.raises(BoundaryError, match=r"'first' uses http://a\.example") as caught:
                use("http://b.example")
            with use("http://a.example"):
                pass
        finally:
            done.set()
            await task
        with use("http://b.example"):
            await asyncio.sleep(0)
        return str(caught.value)

    with use("http://outside.example"):
        assert "in a process of its own" in asyncio.run(both())
        assert tracking_uri() == "http://outside.example"


def test_a_childs_environment_has_nothing_of_another_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`mlflow-connections run` passes on the endpoint's variables, and not the shell's server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a.example")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-a")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    child = module.environment_of_child(Endpoint("http://b.example", "http://r", {"T": "t"}))
    assert child["MLFLOW_TRACKING_URI"] == "http://b.example"
    assert (child["MLFLOW_REGISTRY_URI"], child["T"]) == ("http://r", "t")
    assert "MLFLOW_TRACKING_TOKEN" not in child
    assert "MLFLOW_EXPERIMENT_ID" not in child
    same = module.environment_of_child(Endpoint("http://a.example"))
    assert same["MLFLOW_TRACKING_TOKEN"] == "of-a"
    assert "MLFLOW_EXPERIMENT_ID" in os.environ


def test_a_path_is_used_unchanged(tmp_path: Path) -> None:
    """A `pathlib.Path` is a folder for MLflow, like text."""
    with use(tmp_path) as applied:
        assert applied.tracking_uri == str(tmp_path)
