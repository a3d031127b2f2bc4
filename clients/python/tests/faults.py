#!/usr/bin/env python3
"""Random faults: five nodes are killed, frozen, stopped and all restarted, while a program writes and three watch.

    python3 faults.py --seconds 60 --seed 7

One program writes some 500 times a second under 1,000 names, and deletes some. A watcher of threads and one of asyncio
each keep a map, and a third one is told all versions. In the end the faults stop, and what is checked is: each map is
what each node lists; no name went back in revision, except where all that stands was told again; each delete that stood
was told; and each version that a node keeps was told with all versions, or lies in a compaction that was told.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.followers import Failure, Recorder, Versions, follow, follow_with_asyncio, listed  # noqa: E402
from tests.nodes import BINARY, Group, Node, wait_until  # noqa: E402
from vwatch import Client, Conflict, Unavailable, UnknownResult  # noqa: E402

NODES = 5
NAMES = 1000
WRITES_PER_SECOND = 500
WRITERS = 4
#: How long nodes and watchers may take to agree when the faults have stopped: a watcher that has seen what is lost asks
#: each node for it, and then waits for 10 s.
QUIET = 120.0


class Writer:
    """Writes and deletes names, at whichever node answers."""

    def __init__(self, group: Group, recorders: List[Recorder], rng: random.Random) -> None:
        self._recorders = recorders
        self._client = Client(group.clients(), group.servers())
        self._seeds = [rng.random() for _ in range(WRITERS)]
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.writes = self.deletes = 0
        self.failed: Dict[str, int] = {}
        #: Deletes of names that are never written again, with the number of `Sync`s that each watcher had by then.
        self.final: List[Tuple[str, int, List[int]]] = []
        self._threads = [threading.Thread(target=self._write, args=(at,)) for at in range(WRITERS)]
        self._threads.append(threading.Thread(target=self._bury))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _try(self, work: Callable[[], Any]) -> Any:
        """The result of a write; None of one that failed, or of which nothing is known."""
        try:
            return work()
        except (Conflict, Unavailable, UnknownResult) as error:
            with self._lock:
                kind = type(error).__name__
                self.failed[kind] = self.failed.get(kind, 0) + 1
            return None

    def _write(self, at: int) -> None:
        rng = random.Random(self._seeds[at])
        turn = time.monotonic()
        number = 0
        while not self._ended.is_set():
            name, number = f"n/{rng.randrange(NAMES):03}", number + 1
            if rng.random() < 0.15:
                done = self._try(lambda: self._client.delete(name))  # noqa: B023
                self.deletes += done is not None
            else:
                done = self._try(lambda: self._client.put(name, f"{at}-{number}".encode()))  # noqa: B023
            self.writes += done is not None
            # what was missed while no node answered is not made up for
            turn = max(turn + WRITERS / WRITES_PER_SECOND, time.monotonic() - 0.1)
            self._ended.wait(max(0.0, turn - time.monotonic()))

    def _bury(self) -> None:
        """Writes a name, deletes it when both watchers have it, and never uses it again."""
        number = 0
        while not self._ended.is_set():
            number += 1
            name = f"gone/{number}"
            if self._try(lambda: self._client.put(name, b"")) is None:  # noqa: B023
                continue
            end = time.monotonic() + 15
            while not self._ended.is_set() and time.monotonic() < end:
                if all(name in recorder.state for recorder in self._recorders):
                    break
                time.sleep(0.01)
            syncs = [recorder.syncs for recorder in self._recorders]
            revision = self._try(lambda: self._client.delete(name))  # noqa: B023
            if revision is not None:
                self.final.append((name, revision, syncs))


class Faults:
    """What happens to the nodes."""

    def __init__(self, group: Group, rng: random.Random) -> None:
        self._group, self._rng = group, rng
        self.counts: Dict[str, int] = {}

    def run(self, until: float, is_broken: Callable[[], bool]) -> None:
        """Makes faults until a time. All nodes run and are ready in the end."""
        kinds = [self._kill, self._freeze, self._stop, self._two, self._all]
        weights = [4, 4, 4, 2, 2]
        # a short run has all kinds too
        turns = self._rng.sample(kinds, len(kinds))
        while time.monotonic() < until and not is_broken():
            kind = turns.pop() if turns else self._rng.choices(kinds, weights)[0]
            self.counts[kind.__name__[1:]] = self.counts.get(kind.__name__[1:], 0) + 1
            kind()
            self._group.ready()
            time.sleep(self._rng.uniform(0.2, 1.0))

    def _one(self) -> Node:
        return self._rng.choice(self._group.nodes)

    def _kill(self) -> None:
        node = self._one()
        node.kill()
        time.sleep(self._rng.uniform(0.1, 1.0))
        node.start_again()

    def _freeze(self) -> None:
        node = self._one()
        node.freeze()
        time.sleep(self._rng.uniform(0.5, 6.0))
        node.thaw()

    def _stop(self) -> None:
        node = self._one()
        node.stop()
        time.sleep(self._rng.uniform(0.0, 0.5))
        node.start_again()

    def _two(self) -> None:
        """One node freezes, and another one ends."""
        frozen, killed = self._rng.sample(self._group.nodes, 2)
        frozen.freeze()
        killed.kill()
        time.sleep(self._rng.uniform(0.1, 4.0))
        killed.start_again()
        frozen.thaw()

    def _all(self) -> None:
        """All nodes end, and begin a new set."""
        for node in self._group.nodes:
            node.kill()
        time.sleep(self._rng.uniform(0.0, 0.5))
        for node in self._group.nodes:
            node.start_again()


def missing(recorders: List[Recorder], writer: Writer) -> List[str]:
    """The deletes that were not told."""
    # where all that stands was told again, a delete from before is told by that
    return [
        f"{recorder.kind}: {name} at {revision}"
        for name, revision, syncs in writer.final
        for recorder, before in zip(recorders, syncs)
        if recorder.deletes.get(name) != revision and recorder.syncs == before
    ]


def check(group: Group, recorders: List[Recorder], versions: Versions, writer: Writer) -> Tuple[float, int]:
    """Waits until all agree, and returns how long that took in seconds, and how many versions are kept.

    Raises Failure.
    """
    began = time.monotonic()
    followers: List[Union[Recorder, Versions]] = [*recorders, versions]

    def agree() -> bool:
        for one in followers:
            if one.failure is not None:
                raise Failure(f"{one.kind}: {one.failure!r}") from one.failure
        states = [listed(client) for client in group.clients()]
        return all(state == states[0] for state in states + [recorder.copy() for recorder in recorders])

    try:
        wait_until("agreement", agree, QUIET)
    except AssertionError:
        truth = listed(group.clients()[0]) or {}
        for recorder in recorders:
            state = recorder.copy()
            names = [name for name in {*truth, *state} if truth.get(name) != state.get(name)]
            print(f"{recorder.kind}: {len(names)} differ: {[(n, truth.get(n), state.get(n)) for n in names[:5]]}")
        raise Failure("the maps are not what the nodes list") from None
    took = time.monotonic() - began
    truth = listed(group.clients()[0]) or {}
    newest = {(name, revision) for name, (_, revision, _) in truth.items()}
    try:
        wait_until("the newest versions", lambda: newest <= versions.told, QUIET)
    except AssertionError:
        raise Failure(f"{versions.kind}: not told: {sorted(newest - versions.told)[:5]}") from None
    kept = versions.check(group.clients()[0])
    # the maps may agree on a last name that is gone before its delete arrives
    try:
        wait_until("all deletes", lambda: not missing(recorders, writer), QUIET)
    except AssertionError:
        raise Failure(f"deletes that were not told: {missing(recorders, writer)[:5]}") from None
    return took, kept


def run(seconds: float, seed: int) -> str:
    """A run, and a line about it. Raises Failure."""
    rng = random.Random(seed)
    group = Group(NODES)
    ended = threading.Event()
    recorders, versions = [Recorder("threads"), Recorder("asyncio")], Versions()
    writer: Optional[Writer] = None
    followers = []
    try:
        works: List[Tuple[Any, Any]] = [(follow, recorders[0]), (follow_with_asyncio, recorders[1]), (follow, versions)]
        for work, recorder in works:
            order = rng.sample(range(NODES), NODES)
            arguments = (group.clients(*order), recorder, ended)
            followers.append(threading.Thread(target=work, args=arguments, daemon=True))
            followers[-1].start()
        writer = Writer(group, recorders, rng)
        faults = Faults(group, rng)
        faults.run(time.monotonic() + seconds, lambda: any(one.failure for _, one in works))
        writer.close()
        took, kept = check(group, recorders, versions, writer)
        names = len(recorders[0].state)
        told = ", ".join(f"{one.kind} {one.events} events, {one.syncs} syncs" for one in recorders)
        return (
            f"seed {seed}: {writer.writes} writes, {writer.deletes} of them deletes, "
            f"{len(writer.final)} deletes for good, failed {writer.failed}; faults {faults.counts}; {told}; "
            f"all versions {versions.events} events, {versions.resets} resets, {len(versions.compacted)} names "
            f"compacted, {versions.unknown} times any name; {names} names with {kept} versions agree after {took:.1f} s"
        )
    finally:
        if writer is not None:
            writer.close()
        ended.set()
        for follower in followers:
            follower.join(30)
        group.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the faults go on (60)")
    parser.add_argument("--seed", type=int, default=None, help="which faults (random)")
    arguments = parser.parse_args()
    if not BINARY.is_file():
        print(f"there is no {BINARY}: build it with `cargo build`, or name it with VWATCH_BIN", file=sys.stderr)
        return 1
    seed = random.randrange(10_000) if arguments.seed is None else arguments.seed
    try:
        print(run(arguments.seconds, seed))
    except Failure as failure:
        print(f"seed {seed}: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
