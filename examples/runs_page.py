"""A page with a picture of the demo's runs: one file, without scripts, for any browser."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH, HEIGHT, MARGIN = 220, 110, 10


class Shown(NamedTuple):
    """One run as the page shows it.

    Attributes:
        row: The run's row of the demo's table.
        loss: The training loss after each epoch.
        confusion: The confusion matrix that the run logged, as PNG; empty if it has none.
        link: The run's page in MLflow; empty if no server shows it.
    """

    row: dict[str, Any]
    loss: Sequence[float]
    confusion: bytes
    link: str = ""


def page(runs: Sequence[Shown], note: str) -> str:
    """Return the page as HTML.

    Args:
        runs: The runs, in display order.
        note: A sentence below the heading.
    """
    highest = max((value for run in runs for value in run.loss), default=1.0)
    cards = "\n".join(_card(run, highest) for run in runs)
    return _PAGE.format(cards=cards, note=escape(note))


def _card(run: Shown, highest: float) -> str:
    name = escape(str(run.row["connection"]))
    heading = f'<a href="{escape(run.link)}">{name}</a>' if run.link else name
    facts = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>"
        for key, value in run.row.items()
        if key != "connection" and value != ""
    )
    picture = ""
    if run.confusion:
        data = base64.b64encode(run.confusion).decode()
        picture = f'<img alt="Confusion matrix through {name}" src="data:image/png;base64,{data}">'
    return f"<section><h2>{heading}</h2>{_curve(run, highest)}<dl>{facts}</dl>{picture}</section>"


def _curve(run: Shown, highest: float) -> str:
    """Draw the loss by epoch, all runs on one scale."""
    across = (WIDTH - 2 * MARGIN) / max(len(run.loss) - 1, 1)
    down = (HEIGHT - 2 * MARGIN) / (highest or 1.0)
    points = " ".join(
        f"{MARGIN + index * across:.1f},{HEIGHT - MARGIN - value * down:.1f}"
        for index, value in enumerate(run.loss)
    )
    label = f"Training loss over {len(run.loss)} epochs"
    if run.loss:
        label += f", from {run.loss[0]:.3f} to {run.loss[-1]:.3f}"
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f'<polyline points="{points}"/></svg><figcaption>{label}</figcaption></figure>'
    )


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>One project through every connection</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }}
  main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)) }}
  section {{ border: 1px solid #8885; border-radius: .5rem; padding: 1rem }}
  h2 {{ font-size: 1.1rem; margin: 0 }}
  figure {{ margin: .5rem 0 }}
  figcaption {{ font-size: .85rem }}
  svg, img {{ display: block; width: 100% }}
  polyline {{ fill: none; stroke: #0a7ea4; stroke-width: 2 }}
  dl {{ display: grid; gap: 0 1rem; grid-template-columns: auto 1fr; margin: .5rem 0 }}
  dd {{ margin: 0 }}
</style>
<h1>One project through every connection</h1>
<p>{note}</p>
<main>
{cards}
</main>
</html>
"""
