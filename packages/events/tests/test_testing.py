"""The differences between two descriptions of servers."""

from mlflow_connections_events.testing import differences


def test_each_difference_is_a_line_with_its_path() -> None:
    """A difference is a changed, missing or additional value; ignored paths are omitted."""
    expected = {"runs": {"a": {"params": {"x": "1"}, "tags": {}}, "b": {}}}
    actual = {"runs": {"a": {"params": {"x": "2"}, "tags": {"t": "1"}}}}
    assert differences(expected, actual) == [
        "runs/a/params/x: '1' is '2'",
        "runs/a/tags/t: unexpected: '1'",
        "runs/b: missing: {}",
    ]
    assert differences(expected, actual, ignore=["runs/*/params/*", "runs/b"]) == [
        "runs/a/tags/t: unexpected: '1'"
    ]
    assert differences(expected, expected) == []
