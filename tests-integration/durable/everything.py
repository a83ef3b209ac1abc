"""Run the trainings of this folder one after another, in one process and one experiment."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(name: str, *arguments: str) -> None:
    """Run a training as its own command would."""
    sys.argv = [name, *arguments]
    # As the main program, so that its classes are pickled by value.
    runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")


def main(experiment: str, registered: str, pause: str, *more: str) -> None:
    """Log runs of every kind, models and what autologging logs, and `more` trainings."""
    run("train", experiment, pause)
    run("models", experiment, registered)
    for name in more:
        run(name, experiment)
    run("models", "autolog", experiment)


if __name__ == "__main__":
    main(*sys.argv[1:])
