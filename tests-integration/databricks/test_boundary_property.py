"""Blocks are nested, interleaved and left in any order, and each run is on its block's server."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import mlflow
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlflow_connections import Applied, BoundaryError, use

# A few examples by default; the sessions of the matrix set more.
EXAMPLES = int(os.environ.get("MLFLOW_CONNECTIONS_EXAMPLES", "6"))
NAMES = ("mine", "theirs", "third")


class Force(NamedTuple):
    """The server in force, and the experiment that code has activated there."""

    uri: str
    experiment: str | None


class Block(NamedTuple):
    """A block that was entered, and the server and experiment before it."""

    applied: Applied
    before: Force
    runs: int
    keeps_server: bool


class Blocks(RuleBasedStateMachine):
    """A state machine that models the boundary, compared with the real one."""

    uris: ClassVar[tuple[str, ...]]
    experiment_of: ClassVar[Callable[[str, str], str]]

    def __init__(self) -> None:
        super().__init__()
        mlflow.set_tracking_uri(self.uris[0])
        mlflow.set_experiment(NAMES[0])
        self.force = Force(self.uris[0], NAMES[0])
        self.blocks: list[Block] = []
        self.runs: list[str] = []

    def teardown(self) -> None:
        """Leave every block, the first one first."""
        for block in self.blocks:
            block.applied.restore()
        while mlflow.active_run() is not None:
            mlflow.end_run()

    @rule(server=st.integers(0, 2))
    def enter(self, server: int) -> None:
        """Enter a block; while a run is active, only one for the same server."""
        uri = self.uris[server]
        keeps_server = uri == self.force.uri
        if self.runs and not keeps_server:
            with pytest.raises(BoundaryError, match=self.runs[-1]):
                use(uri)
            return
        block = Block(use(uri), self.force, len(self.runs), keeps_server)
        self.blocks.append(block)
        self.force = Force(uri, self.force.experiment if keeps_server else None)

    @precondition(lambda self: self.blocks)
    @rule(place=st.integers(0, 5))
    def leave(self, place: int) -> None:
        """Leave any block: the newest one restores the state, an older one passes that on to the next."""
        place %= len(self.blocks)
        block = self.blocks.pop(place)
        client, ended = mlflow.MlflowClient(self.force.uri), []
        if place < len(self.blocks):
            after = self.blocks[place]
            self.blocks[place] = after._replace(
                before=block.before,
                runs=min(block.runs, after.runs),
                keeps_server=block.keeps_server and after.keeps_server,
            )
        else:
            self.force = block.before
            ended = self.runs[block.runs :]
            del self.runs[block.runs :]
        block.applied.restore()
        assert [client.get_run(run).info.status for run in ended] == ["FINISHED"] * len(ended)

    @rule(name=st.sampled_from(NAMES))
    def set_experiment(self, name: str) -> None:
        """Activate an experiment."""
        mlflow.set_experiment(name)
        self.force = self.force._replace(experiment=name)

    @precondition(lambda self: not self.runs)
    @rule()
    def log(self) -> None:
        """Log a complete run, which is on the server of the block in force."""
        with mlflow.start_run() as run:
            mlflow.log_param("uri", self.force.uri)
        self.check(run.info.run_id)

    @precondition(lambda self: not self.runs)
    @rule()
    def start(self) -> None:
        """Start a run and leave it active."""
        run = mlflow.start_run()
        self.runs.append(run.info.run_id)
        self.check(run.info.run_id)

    @precondition(lambda self: self.runs)
    @rule()
    def end(self) -> None:
        """End the active run."""
        mlflow.log_param("uri", self.force.uri)
        mlflow.end_run()
        self.runs.pop()
        for place, block in enumerate(self.blocks):
            self.blocks[place] = block._replace(runs=min(block.runs, len(self.runs)))

    @invariant()
    def the_uri_is_the_one_in_force(self) -> None:
        """MLflow and child processes use the same server, and no run of another one is active."""
        assert mlflow.get_tracking_uri() == self.force.uri
        assert mlflow.get_registry_uri() == self.force.uri
        assert os.environ["MLFLOW_TRACKING_URI"] == self.force.uri
        assert ("MLFLOW_EXPERIMENT_ID" in os.environ) is (self.force.experiment is not None)
        active = mlflow.active_run()
        assert (active.info.run_id if active else None) == (self.runs[-1] if self.runs else None)

    def check(self, run_id: str) -> None:
        """Look for a run on each server: only the one in force has it, in its experiment."""
        wanted = self.force.experiment or "Default"
        assert type(self).experiment_of(self.force.uri, run_id) == wanted
        for uri in set(self.uris) - {self.force.uri}:
            with pytest.raises(mlflow.exceptions.MlflowException):
                type(self).experiment_of(uri, run_id)


def test_a_run_in_place_of_an_ended_one_ends_with_its_block(servers: Any) -> None:
    """A block that ends the outer block's run and starts another one does not leave that one active."""
    with use(servers.b):
        outer = mlflow.start_run()
        with use(servers.b):
            mlflow.end_run()
            inner = mlflow.start_run()
        assert mlflow.active_run() is None
        client = mlflow.MlflowClient()
        runs = [client.get_run(run.info.run_id) for run in (outer, inner)]
        assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_every_run_is_on_its_blocks_server(
    servers: Any,
    experiment_of: Callable[[str, str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the order of entering, leaving, choosing experiments and logging, no state leaks."""
    monkeypatch.chdir(tmp_path)  # MLflow 2 creates a folder for artifacts in the working folder
    machine = type(
        "Machine", (Blocks,), {"uris": tuple(servers), "experiment_of": staticmethod(experiment_of)}
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
