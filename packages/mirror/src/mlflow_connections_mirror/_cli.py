"""The command `mlflow-connections mirror`: copy existing runs to another MLflow server."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_connections import ConnectionsError
from mlflow_connections.secrets import mask, mask_uri
from mlflow_connections_outbox import Unavailable

if TYPE_CHECKING:
    from ._copy import Copied


_ALWAYS_COUNTED = ("runs", "metrics", "files", "models", "versions")
_UNFINISHED = "Run the command again to copy the rest."
_COUNTED = (*_ALWAYS_COUNTED, "traces", "assessments")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The arguments after `mirror`; by default those of the command line.

    Returns:
        0; or 1 if an item was not copied; or 2 for wrong usage.
    """
    parsed = _parser().parse_args(arguments)
    # The command itself retries, and knows which requests may be repeated; it must also not hang
    # for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        return _copy(parsed)
    except (ConnectionsError, Unavailable, OSError) as error:
        print(f"mlflow-connections mirror: {mask(str(error))}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlflow-connections mirror",
        description="Copy runs to another MLflow server: metrics with their history, params, tags, "
        "inputs, artifacts, logged models, registered versions, nested runs, traces, assessments. "
        "Nothing is masked. Earlier copies are brought up to date.",
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="RUN_OR_EXPERIMENT",
        help="the ID of a run, copied with its nested runs and traces, or the name or ID of an experiment, "
        "copied with everything in it",
    )
    parser.add_argument(
        *("--from", "-f"),
        dest="source",
        required=True,
        metavar="SERVER",
        help="the server to copy from: a tracking URI, a connection's name, or a keyword",
    )
    parser.add_argument(
        *("--to", "-t"),
        dest="target",
        required=True,
        metavar="SERVER",
        help="the server to copy to: a tracking URI, a connection's name, or a keyword",
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="the format (default: text)"
    )
    return parser


def _copy(parsed: argparse.Namespace) -> int:
    from ._copy import Copier
    from ._progress import ProgressLine

    with (
        tempfile.TemporaryDirectory() as state,
        closing(ProgressLine()) as progress,
        closing(Copier(parsed.source, parsed.target, Path(state), progress)) as copier,
    ):
        try:
            copier.copy(copier.select(parsed.names))
        except Unavailable as error:
            if copier.result.runs:
                raise Unavailable(f"{error} {_UNFINISHED}") from None
            raise
    _report(copier.result, mask_uri(copier.target_uri), parsed.output)
    return 1 if copier.result.rejections else 0


def _report(result: "Copied", place: str, output: str) -> None:
    if output == "json":
        rejections = [rejection._asdict() for rejection in result.rejections]
        print(
            json.dumps(
                {
                    "to": place,
                    "runs": result.runs,
                    **{what: result.counts[what] for what in _COUNTED if what != "runs"},
                    "unchanged": +result.unchanged,
                    "rejected": rejections,
                },
                indent=2,
            )
        )
        return
    counted = (
        (result.counts[what], what)
        for what in _COUNTED
        if what in _ALWAYS_COUNTED or result.counts[what]
    )
    parts = [_counted(n, what) for n, what in counted]
    print(f"Copied {', '.join(parts)} to {place}.")
    if unchanged := [_counted(n, what) for what, n in sorted((+result.unchanged).items())]:
        print(f"Unchanged since they were copied: {', '.join(unchanged)}.")
    for rejection in result.rejections:
        refused = f"{rejection.event} of {rejection.item} {rejection.id}"
        print(f"Not copied: {refused}: {rejection.reason}")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what if number != 1 else what.removesuffix('s')}"


if __name__ == "__main__":
    sys.exit(main())
