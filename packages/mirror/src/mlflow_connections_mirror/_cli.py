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

from mlflow_connections import ConnectionsError, Endpoint, InvalidOptionError, resolve, use
from mlflow_connections.secrets import mask, mask_uri
from mlflow_connections_outbox import Unavailable

if TYPE_CHECKING:
    from ._copy import Copied


_ALWAYS_COUNTED = ("runs", "metrics", "files", "models", "versions")
_COUNTED = (*_ALWAYS_COUNTED, "traces", "assessments")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The words behind `mirror`; by default those of the command line.

    Returns:
        0; or 1 if something was not copied; or 2 for a wrong command line.
    """
    parsed = _parser().parse_args(arguments)
    # The command itself repeats, and knows what may be repeated; it must also not hang for minutes.
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
    source, target = resolve(parsed.source), resolve(parsed.target)
    if source.tracking_uri == target.tracking_uri:
        raise InvalidOptionError("--from and --to name the same server; name another destination.")
    from ._copy import Copier
    from ._progress import ProgressLine

    with tempfile.TemporaryDirectory() as state:
        copier = Copier(
            source.tracking_uri,
            lambda: use(parsed.source),
            target.tracking_uri,
            lambda: use(parsed.target),
            Path(state),
        )
        items = copier.select(parsed.names)
        with closing(ProgressLine(len(items))) as progress:
            for item in items:
                progress.show(item.kind, item.name)
                copier.copy(item)
                progress.advance()
    _report(copier.result, target, parsed.output)
    return 1 if copier.result.rejections else 0


def _report(result: "Copied", target: Endpoint, output: str) -> None:
    place = mask_uri(target.tracking_uri)
    if output == "json":
        rejections = [rejection._asdict() for rejection in result.rejections]
        print(
            json.dumps(
                {
                    "to": place,
                    "runs": result.runs,
                    **{what: result.counts[what] for what in _COUNTED if what != "runs"},
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
    parts = [f"{n:,} {what if n != 1 else what.removesuffix('s')}" for n, what in counted]
    print(f"Copied {', '.join(parts)} to {place}.")
    for rejection in result.rejections:
        place = f"{rejection.event} of {rejection.item} {rejection.id}"
        print(f"Not copied: {place}: {rejection.reason}")


if __name__ == "__main__":
    sys.exit(main())
