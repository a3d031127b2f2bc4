"""The clients with real nodes, of which some die, freeze or begin a new set."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple
from urllib.error import HTTPError

from vwatch import (
    Added,
    Compaction,
    Conflict,
    Deleted,
    Entry,
    Event,
    Gone,
    NotFound,
    Rejected,
    Scope,
    Sync,
    SyncEnd,
    TooLarge,
    Updated,
)

from .both import Case, with_asyncio
from .fake import LIMIT
from .nodes import Group, needs_nodes, wait_until

#: Within this time a client is to go on at another node. It leaves a silent one after two or three seconds; the rest is
#: for a machine that is busy with other tests. A client that did not leave it would need its whole time limit, 15 s.
FAILOVER = 10.0


class RealNodes(Case):
    """The tests of a class share a group of four nodes. Each has names of its own, and puts the nodes right again."""

    _shared: Optional[Group] = None

    def setUp(self) -> None:
        needs_nodes()
        #: What the names of this test begin with.
        self.prefix = f"{self._testMethodName}/"

    @classmethod
    def tearDownClass(cls) -> None:
        if cls._shared is not None:
            cls._shared.close()
            cls._shared = None

    @property
    def group(self) -> Group:
        kind = type(self)
        if kind._shared is None:
            kind._shared = Group(4)
        self.addCleanup(kind._shared.heal)
        return kind._shared

    def alone(self, *flags: str) -> Group:
        """A node with flags."""
        group = Group(1, flags)
        self.addCleanup(group.close)
        return group

    def of(self, group: Group, *order: int) -> Any:
        """A client of some nodes, in an order."""
        return self.client(*group.clients(*order), servers=group.servers(*order))


class Requests(RealNodes):
    def test_the_code_of_a_node_decides_the_error(self) -> None:
        group = self.alone("--data-limit-bytes", "100")
        # the client port is asked of the server
        client = self.client(servers=group.servers())
        with self.assertRaises(NotFound):
            client.get("n")
        written = client.put("n", b"1")
        self.assertEqual(client.get_at("n", written.revision).data, b"1")
        with self.assertRaises(NotFound):
            client.get_at("n", written.revision - 1)
        with self.assertRaises(Conflict) as lost:
            client.put_if_newer("n", written.revision - 1, b"0")
        self.assertEqual((lost.exception.version, lost.exception.revision), (written.version, written.revision))
        # the node answers the larger one before it has read all of it
        for size in (101, 16 << 20):
            with self.assertRaises(TooLarge):
                client.put("n", b"x" * size)
        deleted = client.delete("n")
        for arguments in (("n",), ("n", deleted)):
            with self.assertRaises(Gone) as gone:
                (client.get_at if len(arguments) > 1 else client.get)(*arguments)
            self.assertEqual(gone.exception.revision, deleted)
        history = client.history("n")
        self.assertEqual([entry.revision for entry in history.entries], [deleted, written.revision])
        self.assertTrue(history.complete)
        with self.assertRaises(Rejected) as rejected:
            client.put_version("n", "\x7f", b"")
        self.assertEqual(rejected.exception.status, 400)
        # a writer that is given the port of readers
        with self.assertRaises(Rejected) as rejected:
            self.client(servers=group.clients()).put("n", b"1")
        self.assertEqual(rejected.exception.code, "method-not-allowed")

    def test_lists_waits_and_namespaces(self) -> None:
        group = self.alone()
        client = self.of(group)
        names = [f"p/{number:02} &?ä" for number in range(25)]
        for name in names:
            client.put(name, name.encode())
        client.put("q", b"")
        listed = list(client.list("p/", page_size=10))
        self.assertEqual([(entry.name, entry.data) for entry in listed], [(name, name.encode()) for name in names])
        self.assertEqual([entry.data for entry in client.list("q", data=False)], [None])
        inner = client.namespace("in")
        inner.put("q", b"inner")
        self.assertEqual([entry.data for entry in inner.list()], [b"inner"])
        self.assertEqual(client.get("q").data, b"")
        known = inner.get("q").version
        with self.assertRaises(TimeoutError):
            inner.wait("q", known, timeout=1.5)
        told: List[Any] = []
        thread = threading.Thread(target=lambda: told.append(inner.wait("q", known)))
        thread.start()
        self.of(group).namespace("in").put("q", b"next")
        thread.join(LIMIT)
        self.assertEqual([value.data for value in told], [b"next"])

    def goes_on(self, fail: Callable[[Group], None]) -> None:
        """Reads, writes and a wait go on after something was done to the first of three nodes."""
        group, name = self.group, self.prefix + "n"
        client = self.of(group)
        first = client.put(name, b"1")
        for other in (1, 2, 3):
            self.of(group, other).wait(name)
        told: List[Tuple[Any, float]] = []
        # a client of its own: one of asyncio in a test has one call at a time
        waiting = self.of(group)
        thread = threading.Thread(target=lambda: told.append((waiting.wait(name, first.version), time.monotonic())))
        thread.start()
        wait_until("a parked reader", lambda: f'"{name}"' in group.nodes[0].ask("GET", "/v1/watchers"))
        fail(group)
        began = time.monotonic()
        self.assertEqual(client.get(name).data, b"1")
        self.assertLess(time.monotonic() - began, FAILOVER, "a read")
        began = time.monotonic()
        second = client.put(name, b"2")
        self.assertLess(time.monotonic() - began, FAILOVER, "a write")
        thread.join(LIMIT)
        value, at = told[0]
        self.assertEqual((value.data, value.revision), (b"2", second.revision))
        self.assertLess(at - began, 2 * FAILOVER, "a wait")

    def test_a_client_goes_on_when_its_node_is_killed(self) -> None:
        self.goes_on(lambda group: group.nodes[0].kill())

    def test_a_client_goes_on_when_its_node_is_frozen(self) -> None:
        self.goes_on(lambda group: group.nodes[0].freeze())


RequestsOfAsyncio = with_asyncio(Requests)


class Mirror:
    """What a watch has told: the data and the revision of each name."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.names: Dict[str, Tuple[int, Optional[bytes]]] = {}
        self.syncs = 0
        self.deletes: List[str] = []

    def apply(self, event: Event) -> None:
        if isinstance(event, Sync):
            self.syncs += 1
            self.names = {entry.name: (entry.revision, entry.data) for entry in event.entries}
        elif isinstance(event, (Added, Updated)):
            self._put(event.entry)
        elif isinstance(event, Deleted):
            self.deletes.append(event.name)
            self.names.pop(event.name, None)

    def _put(self, entry: Entry) -> None:
        before = self.names.get(entry.name, (0, None))[0]
        self._case.assertLessEqual(before, entry.revision, f"{entry.name} went back")
        self.names[entry.name] = (entry.revision, entry.data)

    def follow(self, watcher: Any, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not is_there():
            self._case.assertLess(time.monotonic(), end, "a change in time")
            try:
                # a program that also does something else, and so gives up again and again
                self.apply(watcher.next(timeout=0.3))
            except TimeoutError:
                pass


class Watches(RealNodes):
    def test_a_watch_tells_all_changes_while_its_nodes_fail(self) -> None:
        group, prefix = self.group, self.prefix
        writer = self.of(group, 3)
        expected: Dict[str, Tuple[int, Optional[bytes]]] = {}
        for number in range(20):
            expected[f"{prefix}{number}"] = (writer.put(f"{prefix}{number}", b"0").revision, b"0")
        for at in range(3):
            reader = self.of(group, at)
            wait_until("all names at a node", lambda: len(list(reader.list(prefix))) == 20)  # noqa: B023
        watcher = self.watch(self.of(group, 0, 1, 2, 3), Scope.prefix(prefix))
        mirror = Mirror(self)
        mirror.apply(watcher.next(LIMIT))
        self.assertEqual(mirror.names, expected)
        cache = self.cache(self.of(group, 1, 2, 3, 0), Scope.prefix(prefix))
        cache.synced(LIMIT)
        faults = [group.nodes[0].kill, group.nodes[1].freeze, group.nodes[2].stop, None]
        for number, fail in enumerate(faults, 1):
            if fail is not None:
                fail()
            deleted = []
            for item in range(20):
                name, data = f"{prefix}{(item + number) % 25}", str(number).encode()
                if item % 7 == 0:
                    writer.delete(name)
                    deleted += [name] if expected.pop(name, None) else []
                else:
                    expected[name] = (writer.put(name, data).revision, data)
            before = len(mirror.deletes)
            mirror.follow(watcher, lambda: mirror.names == expected)
            self.assertLessEqual(set(deleted), set(mirror.deletes[before:]), "a delete was not told")
            wait_until(
                "a current cache",
                lambda: {name: (its.revision, its.data) for name, its in cache.names().items()} == expected,
            )
        self.assertEqual(mirror.syncs, 1, "it began again")
        # another program goes on from the cursor
        again = self.watch(self.of(group, 3), Scope.prefix(prefix), since=watcher.cursor)
        last = writer.put(prefix + "last", b"")
        while True:
            event = again.next(LIMIT)
            self.assertNotIsInstance(event, Sync)
            if event.name == prefix + "last":
                break
        self.assertEqual((type(event), event.revision), (Added, last.revision))

    def test_a_frozen_node_is_left_soon(self) -> None:
        group, name = self.group, self.prefix + "n"
        watcher = self.watch(self.of(group, 0, 1, 2), Scope.name(name))
        writer = self.of(group, 2)
        writer.put(name, b"0")
        mirror = Mirror(self)
        mirror.follow(watcher, lambda: name in mirror.names)
        group.nodes[0].freeze()
        began = time.monotonic()
        revision = writer.put(name, b"1").revision
        self.assertEqual(watcher.next(LIMIT).revision, revision)
        took = time.monotonic() - began
        self.assertLess(took, FAILOVER)
        print(f"a frozen node was left, and the change told, after {took:.2f} s")
        # and it is used again
        group.nodes[0].thaw()
        group.nodes[1].kill()
        revision = writer.put(name, b"2").revision
        self.assertEqual(watcher.next(LIMIT).revision, revision)

    def test_a_new_set_is_told_as_all_that_stands(self) -> None:
        group, old, new = self.group, self.prefix + "old", self.prefix + "new"
        client = self.of(group)
        client.put(old, b"")
        watcher = self.watch(client, Scope.prefix(self.prefix))
        self.assertEqual([entry.name for entry in watcher.next(LIMIT).entries], [old])
        for node in group.nodes:
            node.kill()
        for node in group.nodes:
            node.start_again()
        group.ready()

        def sets() -> Set[str]:
            views = [json.loads(node.ask("GET", "/v1/cluster")) for node in group.nodes]
            return {view["node"]["set"]["genesis"]["key_id"] for view in views}

        # nodes that start far apart may begin two sets, which become one
        wait_until("one set", lambda: len(sets()) == 1)
        self.of(group).put(new, b"")
        mirror = Mirror(self)
        mirror.follow(watcher, lambda: set(mirror.names) == {new})
        self.assertEqual(mirror.syncs, 1)
        with self.assertRaises(NotFound):
            client.get(old)

    def test_all_versions_and_their_compaction(self) -> None:
        group, name = self.group, self.prefix + "n"
        client = self.of(group, 0)
        revisions = [client.put(name, str(number).encode()).revision for number in range(3)]
        watcher = self.watch(client, Scope.name(name), all_versions=True)
        told = [watcher.next(LIMIT) for _ in range(4)]
        self.assertEqual([event.revision for event in told[:3]], revisions)
        self.assertEqual(told[3], SyncEnd())
        # the rest of the write is handled when the next event is asked for
        with self.assertRaises(TimeoutError):
            watcher.next(0.1)
        cursor = watcher.cursor
        watcher.close()
        for number in range(3, 6):
            revisions.append(client.put(name, str(number).encode()).revision)

        def is_compacted() -> bool:
            # the horizon stays some seconds behind the clock
            try:
                group.nodes[0].ask("POST", "/v1/compact?before=now")
            except HTTPError as error:
                # the nodes that have just started do not know each other's clocks yet
                error.close()
                self.assertEqual((error.code, error.headers["X-Vwatch-Error"]), (503, "clock-in-doubt"))
                return False
            return len(client.history(name).entries) == 1

        wait_until("a compaction", is_compacted)
        # a node that has been there all the time still has its last changes; one that starts has what is kept
        group.nodes[1].kill()
        group.nodes[1].start_again()
        group.ready()
        later = self.watch(self.of(group, 1), Scope.name(name), all_versions=True, since=cursor)
        # the newest version, and behind it that others are missing
        self.assertEqual(later.next(LIMIT).revision, revisions[-1])
        self.assertEqual(later.next(LIMIT), Compaction((name,)))


WatchesOfAsyncio = with_asyncio(Watches)
