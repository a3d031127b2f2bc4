"""Runs all tests, some classes of them beside each other, because most tests wait.

    python3 -m tests              all of them
    python3 -m tests watch http   those of classes whose name contains one of these
"""

from __future__ import annotations

import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, List, Tuple

#: How many classes run at a time.
JOBS = 4
#: Longest time of a class, in seconds.
LIMIT = 600.0
ROOT = Path(__file__).resolve().parents[1]


def classes(suite: unittest.TestSuite) -> Iterator[str]:
    """The names of the classes of a suite."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from classes(item)
        else:
            yield f"{type(item).__module__}.{type(item).__qualname__}"


def run(name: str) -> Tuple[str, int, str, float]:
    began = time.monotonic()
    command = [sys.executable, "-X", "dev", "-m", "unittest", name]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, check=False
    )
    return name, done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - began


def main() -> int:
    suite = unittest.defaultTestLoader.discover(str(ROOT / "tests"), top_level_dir=str(ROOT))
    wanted = sys.argv[1:] or [""]
    found: List[str] = sorted({name for name in classes(suite) if any(part in name for part in wanted)})
    # the slow ones first
    found.sort(key=lambda name: "nodes" not in name and "faults" not in name)
    failed = 0
    with ThreadPoolExecutor(JOBS) as pool:
        for name, code, output, seconds in pool.map(run, found):
            print(f"{'ok' if code == 0 else 'FAILED':<7}{seconds:>6.1f} s  {name}")
            if code or "SKIPPED" in output or "frozen" in output or "seed" in output:
                print(output)
            failed += code != 0
    if not found:
        print("there are no tests", file=sys.stderr)
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
