"""The settings in the environment."""

import os
from pathlib import Path

import pytest

from mlflow_connections_outbox import Destination, Policy
from mlflow_connections_outbox._files import (
    create,
    read_destination,
    root,
    spool_of,
    spools,
)

THERE = Destination("Data band!", "http://there", "m:f")


def test_defaults_without_variables() -> None:
    """Without variables the policy is the default, without a warning."""
    assert Policy.read({}) == (Policy(), [])


def test_variables_are_read_in_their_units() -> None:
    """Variables are in bytes, days and milliseconds."""
    policy, wrong = Policy.read(
        {
            "MLFLOW_CONNECTIONS_OUTBOX_MAX_BYTES": "1e6",
            "MLFLOW_CONNECTIONS_OUTBOX_MIN_FREE_BYTES": "2e6",
            "MLFLOW_CONNECTIONS_OUTBOX_MAX_AGE_DAYS": "2",
            "MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS": "0",
            "MLFLOW_CONNECTIONS_OUTBOX_SHIPPER": "thread",
        }
    )
    assert wrong == []
    assert (policy.max_bytes, policy.max_age, policy.sync) == (1_000_000, 172_800, 0)
    assert policy.min_free == 2_000_000
    assert policy.shipper == "thread"


def test_the_sync_policy_and_the_wait_at_the_end_can_be_set() -> None:
    """`event` syncs every event to the disk, and the end of a process waits for the given time."""
    policy, wrong = Policy.read(
        {
            "MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS": "event",
            "MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT": "600",
        }
    )
    assert (wrong, policy.sync_events, policy.exit_timeout) == ([], True, 600.0)
    assert policy.exit_insists
    assert not Policy.read({})[0].exit_insists


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf"])
def test_invalid_variables_are_reported_and_ignored(text: str) -> None:
    """A typo in a variable never fails user code, and is reported."""
    policy, wrong = Policy.read(
        {
            "MLFLOW_CONNECTIONS_OUTBOX_MAX_BYTES": text,
            "MLFLOW_CONNECTIONS_OUTBOX_SHIPPER": text,
            "MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT": text,
        }
    )
    assert policy == Policy()
    assert [sentence.split()[0] for sentence in sorted(wrong)] == [
        "MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT",
        "MLFLOW_CONNECTIONS_OUTBOX_MAX_BYTES",
        "MLFLOW_CONNECTIONS_OUTBOX_SHIPPER",
    ]


def test_spools_are_where_the_platform_keeps_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XDG_STATE_HOME moves them, unless it is relative; one variable of this package moves them anywhere."""
    assert root() == Path(os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"])
    monkeypatch.delenv("MLFLOW_CONNECTIONS_OUTBOX_DIR")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert root() == tmp_path / "xdg" / "mlflow-connections" / "outbox"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert root() == tmp_path / ".local" / "state" / "mlflow-connections" / "outbox"


def test_each_destination_has_a_private_folder(home: Path) -> None:
    """Two URLs never share one, no other user can read it, and it contains its destination."""
    folder = spool_of(THERE)
    assert folder.parent == home
    assert folder.name.startswith("Data-band-")
    assert folder != spool_of(THERE._replace(url="http://elsewhere"))
    assert folder == spool_of(THERE._replace(sink="moved:f"))
    create(folder, THERE)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert read_destination(folder) == THERE
    create(folder, THERE._replace(sink="moved:f"))
    assert read_destination(folder).sink == "moved:f"
    assert spools() == [folder]


def test_a_folder_that_others_may_write_to_is_refused(home: Path) -> None:
    """It names code that is run, so only the user may write to it."""
    folder = spool_of(THERE)
    create(folder, THERE)
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="must belong to you"):
        read_destination(folder)
    with pytest.raises(PermissionError, match="must belong to you"):
        create(folder, THERE)
