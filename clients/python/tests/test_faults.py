"""A short run of random faults: `faults.py` makes long ones."""

from __future__ import annotations

import random
import unittest

from .faults import run
from .nodes import needs_nodes


class Faults(unittest.TestCase):
    def test_random_faults(self) -> None:
        needs_nodes()
        print(run(10.0, random.randrange(10_000)))
