"""Leases of both clients with real nodes that vote, of which some die or stop."""

from __future__ import annotations

import threading
import time
from typing import Any, List, Optional

from vwatch import LeaseHeld, LeaseLost, LeaseNotHeld, Locked, Unavailable

from .both import Case, with_asyncio
from .fake import LIMIT
from .nodes import Group, needs_nodes, wait_until

#: The longest time to live, in seconds: voters abstain for a little more after each start. It is so long that
#: a busy machine, which may stand still for some seconds, does not end a lease.
TTL = 6.0


class Voters(Case):
    """The tests of a class share three nodes that vote."""

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

    def group(self) -> Group:
        kind = type(self)
        if kind._shared is None:
            kind._shared = Group(3, ["--lease-voters", "node-1,node-2,node-3", "--lease-max-ttl", f"{TTL:.0f}s"])
        self.addCleanup(kind._shared.heal)
        self.voting(kind._shared)
        return kind._shared

    def of(self, group: Group, *order: int) -> Any:
        """A client of some nodes, in an order."""
        return self.client(*group.clients(*order), servers=group.servers(*order))

    def voting(self, group: Group) -> None:
        """Waits until each node grants leases."""

        def votes(at: int) -> bool:
            try:
                with self.of(group, at).lease(f"probe/{at}"):
                    return True
            except (Unavailable, LeaseHeld, LeaseLost):
                return False

        for at in range(3):
            wait_until("a majority of voters", lambda at=at: votes(at))  # type: ignore[misc]

    def test_one_holds_a_lease_and_writes_under_it(self) -> None:
        group = self.group()
        client, other = self.of(group, 0, 1, 2), self.of(group, 1, 2, 0)
        path, name = self.prefix + "a", self.prefix + "a/b"
        with client.lease(path, prefix=True, holder="me") as lease:
            for held in (path, name):
                with self.assertRaisesRegex(LeaseHeld, 'by "me"'):
                    other.lease(held).acquire()
            lease.client.put(name, b"1")
            # another node hears of it a moment later
            wait_until("the lease at all nodes", lambda: len(other.leases(self.prefix)) == 1)
            with self.assertRaises(Locked):
                other.put(name, b"2")
            other.with_lease(lease.token).put(name, b"3")
            with self.assertRaises(LeaseNotHeld):
                other.with_lease(lease.token).put(self.prefix + "elsewhere", b"4")
            (listed,) = other.leases(self.prefix)
            self.assertEqual(
                (listed.path, listed.prefix, listed.holder, listed.token), (path, True, "me", lease.token)
            )
            first = lease.token
        with other.lease(name) as lease:
            self.assertGreater(lease.token, first)
        with self.assertRaises(LeaseNotHeld):
            client.with_lease(first).put(name, b"5")

    def test_the_same_request_gets_the_same_lease_and_a_token_releases_it(self) -> None:
        group = self.group()
        client, other, request = self.of(group, 0), self.of(group, 1), "01234567-89ab-cdef-0123-456789abcdef"
        path = self.prefix + "a"
        lease = client.lease(path, ttl=TTL, request=request).acquire()
        again = other.lease(path, ttl=TTL, request=request).acquire()
        self.assertEqual((again.token, again.id), (lease.token, lease.id))
        other.release_lease(path, lease.token)
        self.assertIsInstance(lease.lost(LIMIT), LeaseLost)
        with self.assertRaises(LeaseLost):
            lease.check()

    def test_slots_are_shared(self) -> None:
        client = self.of(self.group(), 0, 1, 2)
        path = self.prefix + "a"
        with client.lease(path, slots=3, claim=2), client.lease(path, slots=3):
            with self.assertRaises(LeaseHeld):
                client.lease(path, slots=3).acquire()

    def test_the_next_one_waits_for_its_turn(self) -> None:
        group = self.group()
        path = self.prefix + "a"
        first = self.of(group, 0).lease(path).acquire()
        waiting = self.of(group, 1)
        times: List[float] = []

        def wait() -> None:
            with waiting.lease(path, wait=LIMIT) as lease:
                lease.check()
                times.append(time.monotonic())

        thread = threading.Thread(target=wait)
        thread.start()
        wait_until("a request that waits", lambda: sum(row.waiting for row in self.rows(group, path)) == 1)
        released = time.monotonic()
        first.release()
        thread.join(LIMIT)
        self.assertEqual(len(times), 1)
        self.assertGreaterEqual(times[0], released)

    def rows(self, group: Group, path: str) -> List[Any]:
        """The lease as each node lists it: only the one that coordinates it knows which requests wait."""
        return [row for at in range(3) for row in self.of(group, at).leases(path)]

    def test_a_lease_outlasts_its_node_and_not_a_majority(self) -> None:
        group = self.group()
        path = self.prefix + "a"
        losses: List[float] = []
        lease = self.of(group, 0, 1, 2).lease(
            path, ttl=TTL, on_lost=lambda _: losses.append(time.monotonic())
        ).acquire()
        group.nodes[0].kill()
        # it was renewed elsewhere if it is live after the end of its first grant
        end = time.monotonic() + 1.5 * TTL
        wait_until("the end of the first grant", lambda: time.monotonic() > end)
        lease.check()
        self.assertFalse(losses)
        group.nodes[1].freeze()
        lease.lost(LIMIT)
        wait_until("the callback", lambda: bool(losses))
        self.assertLess(lease.remaining, 0.001)
        with self.assertRaises((LeaseLost, Unavailable)):
            lease.release()
        group.heal()
        self.voting(group)
        with self.of(group, 2).lease(path, wait=LIMIT) as after:
            self.assertGreater(after.token, lease.token)


VotersOfAsyncio = with_asyncio(Voters)
