"""The guide's command, run as printed: its output gives a shell access to the server, with tokens or a certificate."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "http.md"
CHECK = "mlflow-connections check http --timeout 600"


def test_the_sandbox_starts_as_the_guide_prints(tmp_path: Path, warm_bin: Path) -> None:
    """Both kinds of variables, pasted into a shell, reach MLflow; Ctrl-C ends everything with 0."""
    (command,) = re.findall(
        r"^\$ (mlflow-connections-sandbox up http)$", PAGE.read_text(), re.MULTILINE
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("# It runs until Ctrl-C.\n"):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        (script,) = re.findall(r"^# With a client certificate .*: (\. .*)$", printed, re.MULTILINE)
        for pasted, scheme in ((printed, "http"), (f"{printed}{script}", "https")):
            done = subprocess.run(
                ["sh", "-c", f"{pasted}\n{CHECK}"],
                capture_output=True,
                text=True,
                check=False,
                env={**environment, "PATH": f"{warm_bin}{os.pathsep}{path}"},
            )
            assert done.returncode == 0, done.stderr
            assert re.match(rf"{scheme}://127\.0\.0\.1:\d+ answered in ", done.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    finally:
        process.terminate()
        process.wait()
