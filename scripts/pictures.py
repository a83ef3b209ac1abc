"""Take the documentation's pictures again: `nox -s browser -- pictures`.

Runs the example project through every connection of a sandbox, and the training of docs/durable.md
while its server is killed and started again. Photographs the sandbox's page and MLflow's with the
Chromium in the variable CHROMIUM, once light and once dark. Nothing in the pictures is invented.
"""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from mlflow_connections_sandbox import MlflowServer, Sandbox

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
# The order matters: AzureML's lines, which name folders of this machine, are below the picture's
# edge.
NAMES = ("databricks", "http", "databand", "snowflake", "azureml")
SUFFIXES = {"light": "", "dark": "-dark"}
"""The end of a picture's name for each colour scheme; `docs/_ext/both_forms.py` knows it too."""
SCALE = 1.5
"""Pixels of a picture per pixel of the page."""

# MLflow's pages as a regular user sees them, who has closed the initial pop-ups.
SETTINGS = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.telemetry.info.alert.dismissed_v1": "true",
}
COLUMNS = ("Dataset", "Source", "Models", "Experiment Name", "accuracy", "training_loss")
"""Columns of MLflow's table whose visibility is switched."""

Prepare = Callable[[Page], None]


def main() -> None:
    """Create the runs, and take every picture."""
    demo = load_demo()
    with tempfile.TemporaryDirectory() as temporary:
        demo.FOLDER = Path(temporary) / "demo"
        os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"] = str(Path(temporary) / "outbox")
        project = demo.prepare()
        with Sandbox(Path(temporary) / "sandbox", NAMES, page=True) as sandbox:
            for name in NAMES:
                if name in demo.PREPARATIONS:
                    demo.PREPARATIONS[name](sandbox[name], project)
                demo.run_project(project, name, sandbox.environment(name))
            with camera() as take:
                take_all(take, sandbox.mlflow_url, sandbox.page_url)
                with demo.reserved_ports() as (port,):
                    take_outage(take, Path(temporary) / "outage", port, sandbox.page_url)


def load_demo() -> Any:
    """Return the demo as a module."""
    sys.path.insert(0, str(ROOT / "examples"))  # its other module is in the same folder
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def take_all(take: "Take", mlflow_url: str, page_url: str) -> None:
    """Take the pictures of a sandbox that has a run of each connection."""
    client = MlflowClient(mlflow_url)
    found = {e.name: e.experiment_id for e in client.search_experiments()}
    ids = [found[f"/Shared/wine-{name}"] for name in NAMES]
    run = client.search_runs([ids[0]], max_results=1)[0].info.run_id
    together = quote(json.dumps(ids, separators=(",", ":")))
    runs, one = "compare-experiments/s", f"experiments/{ids[0]}/runs/{run}"
    PICTURES.mkdir(exist_ok=True)
    address = f"{mlflow_url}/#/{runs}?experiments={together}"
    take("demo-runs", address, f"{len(ids)} matching runs", 460, choose_columns)
    take("mlflow-run", f"{mlflow_url}/#/{one}/model-metrics", "training_loss", 620)
    take("mlflow-artifacts", f"{mlflow_url}/#/{one}/artifacts/confusion_matrix.png", "Path:", 760)
    take("sandbox-page", page_url, NAMES[-1], 1000)


def take_outage(take: "Take", folder: Path, port: int, page_url: str) -> None:
    """Kill a training's server in the middle; take pictures during the outage and after it."""
    (script,) = re.findall(
        r"```python\n(# train\.py\n.*?)```", (ROOT / "docs" / "durable.md").read_text(), re.DOTALL
    )
    folder.mkdir()
    # Slower, so that the run has a middle.
    (folder / "train.py").write_text(script.replace("time.sleep(0.1)", "time.sleep(0.5)"))
    with MlflowServer(folder / "mlflow", port) as server:
        command = [sys.executable, "-m", "mlflow_connections", "run", "durable"]
        command += ["--option", f"server={server.url}", "--", sys.executable, "train.py"]
        # The training waits for the server at its end.
        waits = {"MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT": "600"}
        environment = {**os.environ, **waits, "PYTHONUNBUFFERED": "1"}
        with ended(
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
            )
        ) as training:
            client = MlflowClient(server.url)
            while (found := epochs_of(client)) is None or len(found) < 20:
                if training.poll() is not None:
                    raise SystemExit("The training failed.")
                time.sleep(0.1)
            server.kill()
            if len(found) == 60:
                raise SystemExit("The server had the whole training before it was killed.")
            assert training.stdout
            # MLflow prints this at the end of the run.
            if not any("View run" in line for line in training.stdout):
                raise SystemExit("The training failed.")
            take("durable-waiting", page_url, "unavailable", 1000, element="#outboxes")
            server.start()
            if training.wait():
                raise SystemExit("The training failed.")
        (experiment,) = client.search_experiments(filter_string="name = 'wine'")
        (run,) = client.search_runs([experiment.experiment_id])
        arrived = client.get_metric_history(run.info.run_id, "loss")
        if [metric.step for metric in arrived] != list(range(60)):
            raise SystemExit(f"Of 60 epochs {len(arrived)} arrived.")
        place = f"experiments/{experiment.experiment_id}/runs/{run.info.run_id}"
        take("durable-run", f"{server.url}/#/{place}/model-metrics", "loss", 600)


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Have a process end with a block: after an error it is killed."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def epochs_of(client: MlflowClient) -> Any:
    """Return the metrics of the training that the server has, or None if it has no run."""
    experiments = client.search_experiments(filter_string="name = 'wine'")
    runs = client.search_runs([each.experiment_id for each in experiments])
    return client.get_metric_history(runs[0].info.run_id, "loss") if runs else None


Take = Callable[..., None]


@contextmanager
def camera() -> Iterator[Take]:
    """Return a function that opens an address, waits for a text, prepares the page, and takes its pictures."""
    settings = (
        f"for (const [k, v] of Object.entries({json.dumps(SETTINGS)})) localStorage.setItem(k, v)"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"])

        def take(
            name: str,
            address: str,
            text: str,
            height: int,
            prepare: Prepare | None = None,
            element: str = "body",
        ) -> None:
            for scheme, suffix in SUFFIXES.items():
                context = browser.new_context(
                    viewport={"width": 1280, "height": height},
                    device_scale_factor=SCALE,
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                context.add_init_script(settings)
                page = context.new_page()
                page.goto(address)
                page.get_by_text(text).first.wait_for()
                if prepare:
                    prepare(page)
                # Animations have ended by then; no text indicates that.
                page.wait_for_timeout(4000)
                whole = element == "body"
                png = page.screenshot() if whole else page.locator(element).screenshot()
                save(f"{name}{suffix}", png)
                context.close()

        yield take
        browser.close()


def choose_columns(page: Page) -> None:
    """Make MLflow's table of runs show the columns that the demo is about."""
    page.get_by_role("button", name="Columns", exact=True).click()
    for column in COLUMNS:
        # Its heading in the table may have the same text; the list of columns follows it.
        page.get_by_text(column, exact=True).last.click()
    page.keyboard.press("Escape")
    page.get_by_role("heading", level=2).first.click()


def save(name: str, png: bytes) -> None:
    """Save a picture with few colours, which text does not need, to make it small."""
    path = PICTURES / f"{name}.png"
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
    print(
        f"{path.relative_to(ROOT)}: {image.width} x {image.height}, {path.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
