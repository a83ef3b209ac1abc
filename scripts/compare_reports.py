"""Compare two JUnit reports of the same tests: `python scripts/compare_reports.py BEFORE AFTER`.

Fails if a test that passed before does not pass after.
"""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET


def outcomes(report: Path) -> dict[str, str]:
    """Return each test's outcome by its name."""
    # Written by our own run of pytest just before, so the content is trusted.
    cases = ET.parse(report).getroot().iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}": outcome(case) for case in cases}


def outcome(case: "ET.Element") -> str:
    """Return `passed`, or pytest's element in the case: `failure`, `error`, `skipped`."""
    return next((e.tag for e in case if e.tag in {"failure", "error", "skipped"}), "passed")


def main() -> int:
    """Print the counts of both reports; return 1 if anything got worse."""
    before, after = (outcomes(Path(name)) for name in sys.argv[1:3])
    for name, found in (("before", before), ("after", after)):
        print(f"{name}: {dict(Counter(found.values()))}")
    worse = [name for name, was in before.items() if was == "passed" != after.get(name)]
    for name in worse:
        print(f"passed before, {after.get(name, 'missing')} after: {name}")
    if "passed" not in before.values():
        print("Nothing passed before: there is nothing to compare.")
        return 1
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
