"""Leases against small servers with the answers of a test."""

from __future__ import annotations

import gc
import re
import threading
import time
from typing import Any, Dict, List, Optional, Tuple

from vwatch import LeaseHeld, LeaseInfo, LeaseLost, LeaseNotHeld, Locked, NoServers, Unavailable

from .both import Case, with_asyncio
from .fake import LIMIT, Node, answer, refused
from .nodes import wait_until
from .test_reads import written

ID = "0123456789abcdef0123456789abcdef"


def granted(token: int = 7, ttl_ms: int = 10_000, expires_in_ms: Optional[int] = None) -> str:
    """A grant, or a renewal."""
    left = ttl_ms if expires_in_ms is None else expires_in_ms
    return answer(
        "200 OK",
        {"Content-Type": "application/json"},
        f'{{"path":"jobs/n","prefix":true,"holder":"me","id":"{ID}","token":{token},"ttl_ms":{ttl_ms},'
        f'"expires_in_ms":{left}}}',
    )


def short(token: int = 7) -> str:
    """A grant that lasts for 6 s, and is due for a renewal after 2 s.

    Its ttl is longer, so that an acquisition that takes some seconds is not renewed at once.
    """
    return granted(token, ttl_ms=18_000, expires_in_ms=6_000)


DONE = answer("204 No Content", {}, "")
LOST = refused("410 Gone", "lease-lost")


def lines(node: Node) -> List[str]:
    """The first line of each request, without its end."""
    return [request.partition("\r\n")[0].replace(" HTTP/1.1", "") for request in node.seen]


def is_renewal(request: str) -> bool:
    return request.startswith("PUT ") and "token=" in request.partition("\r\n")[0]


def value(line: str, key: str) -> str:
    found = re.search(rf"[?&]{key}=([^&]*)", line)
    assert found, line
    return found[1]


class Leases(Case):
    def test_a_lease_is_acquired_held_and_released(self) -> None:
        node = self.giving(granted(), DONE)
        lease = self.client(servers=[node]).lease("jobs/n x", True, ttl=10, holder="a&b", slots=4, claim=2)
        with self.assertRaisesRegex(ValueError, "not acquired"):
            lease.check()
        with lease as held:
            self.assertEqual((held.token, held.id, held.holder, held.ttl), (7, ID, "me", 10.0))
            self.assertTrue(held.is_live)
            self.assertTrue(0 < held.remaining <= 10)
            held.check()
            with self.assertRaises(TimeoutError):
                held.lost(0.01)
        self.assertFalse(lease.is_live)
        with self.assertRaisesRegex(ValueError, "released"):
            lease.check()
        with self.assertRaisesRegex(ValueError, "released"):
            lease.lost()
        lease.release()
        with self.assertRaisesRegex(ValueError, "acquired before"):
            lease.acquire()
        with self.assertRaisesRegex(ValueError, "released"):
            with lease:
                self.fail("it is not held")
        first, last = lines(node)
        self.assertTrue(
            first.startswith("PUT /v1/leases/jobs/n%20x?prefix=true&ttl=10000ms&holder=a%26b&slots=4&claim=2&request="),
            first,
        )
        self.assertEqual(len(value(first, "request")), 32)
        self.assertEqual(last, f"DELETE /v1/leases/jobs/n%20x?prefix=true&token=7&id={ID}")

    def test_the_empty_prefix_of_a_namespace_is_all_of_it(self) -> None:
        node = self.giving(granted(), DONE)
        with self.client(servers=[node]).namespace("team").lease("", prefix=True):
            pass
        self.assertIn("PUT /v1/ns/team/leases/?prefix=true&request=", node.seen[0])
        self.assertIn("DELETE /v1/ns/team/leases/?prefix=true&token=7&", node.seen[1])

    def test_wrong_arguments(self) -> None:
        client = self.client(servers=["127.0.0.1:1"])
        wrongs: List[Dict[str, Any]] = [
            {"path": ""},
            {"path": "n", "ttl": 0},
            {"path": "n", "wait": -1},
            {"path": "n", "claim": 2},
            {"path": "n", "request": "not a UUID"},
        ]
        for wrong in wrongs:
            with self.assertRaises(ValueError, msg=wrong):
                client.lease(**wrong)
        with self.assertRaises(ValueError):
            client.with_lease(-1)
        with self.assertRaises(ValueError):
            client.release_lease("n", -1)

    def test_a_lease_that_is_held_is_an_error_with_a_time_and_can_be_asked_for_again(self) -> None:
        node = self.giving(refused("409 Conflict", "lease-held", Retry_After="7"), granted(), DONE)
        lease = self.client(servers=[node]).lease("n", request="01234567-89ab-cdef-0123-456789abcdef")
        with self.assertRaises(LeaseHeld) as held:
            lease.acquire()
        self.assertEqual((held.exception.message, held.exception.retry_after), ("any text", 7.0))
        lease.acquire()
        lease.release()
        for line in lines(node)[:2]:
            self.assertEqual(value(line, "request"), "01234567-89ab-cdef-0123-456789abcdef")

    def test_a_request_whose_connection_breaks_is_repeated_as_the_same_one(self) -> None:
        later = refused("503 Service Unavailable", "no-majority", Retry_After="0")
        said = iter([None, None, later, granted(), DONE])
        node = self.node(lambda _: next(said))
        with self.client(servers=[node]).lease("n"):
            pass
        ids = {value(line, "request") for line in lines(node)[:4]}
        self.assertEqual((len(node.seen), len(ids)), (5, 1), node.seen)
        self.assertNotIn("modified=", "".join(lines(node)), "it is no write of a name")

    def test_the_deadline_counts_from_the_moment_of_sending(self) -> None:
        def script(request: str) -> str:
            if request.startswith("PUT "):
                time.sleep(0.4)
            return granted(ttl_ms=5_000) if request.startswith("PUT ") else DONE

        client = self.client(servers=[self.node(script)])
        began = time.monotonic()
        with client.lease("n") as lease:
            left, took = lease.remaining, time.monotonic() - began
            self.assertTrue(left <= 4.6, left)
            # it is not counted from before the request either
            self.assertTrue(left + took >= 4.99, (left, took))

    def test_a_lease_is_renewed_after_each_third_of_its_ttl(self) -> None:
        times: List[float] = []

        def script(request: str) -> str:
            times.append(time.monotonic())
            return granted(ttl_ms=6_000) if request.startswith("PUT ") else DONE

        node = self.node(script)
        began = time.monotonic()
        with self.client(servers=[node]).lease("n", prefix=True) as lease:
            # longer than the first grant lasts
            wait_until("five requests", lambda: len(times) >= 5)
            self.assertTrue(lease.is_live)
        for line in lines(node)[1:5]:
            self.assertEqual(line, f"PUT /v1/leases/n?prefix=true&token=7&id={ID}&holder=me&ttl=6000ms")
        # a request may be read late, and never early
        for number, at in enumerate(times[:5]):
            self.assertGreaterEqual(at - began, number * 2 - 0.01)

    def test_a_lease_that_the_nodes_refuse_to_renew_is_lost_at_once(self) -> None:
        node = self.node(lambda request: LOST if is_renewal(request) else granted(ttl_ms=60_000, expires_in_ms=12_000))
        losses: List[LeaseLost] = []
        lease = self.client(servers=[node]).lease("n", on_lost=losses.append).acquire()
        before = lease.remaining
        self.assertGreater(before, 0)
        loss = lease.lost(LIMIT)
        self.assertEqual((type(loss), loss.message), (LeaseLost, "any text"))
        self.assertEqual((lease.is_live, lease.remaining), (False, 0.0))
        wait_until("the callback", lambda: bool(losses))
        with self.assertRaises(LeaseLost):
            lease.check()
        with self.assertRaises(LeaseLost):
            lease.release()
        self.assertEqual([loss.message for loss in losses], ["any text"])
        self.assertEqual(len(node.seen), 2, "there is nothing to release")

    def test_a_lease_that_no_node_renews_is_lost_at_its_deadline(self) -> None:
        def script(request: str) -> Optional[str]:
            return None if is_renewal(request) else short()

        node = self.node(script)
        began = time.monotonic()
        lease = self.client(servers=[node]).lease("n").acquire()
        early = lease.lost(LIMIT, margin=2)
        self.assertGreaterEqual(time.monotonic() - began, 3.95)
        self.assertIn("not renewed in time", early.message)
        loss = lease.lost(LIMIT)
        lasted = time.monotonic() - began
        self.assertTrue(lasted >= 5.95, lasted)
        self.assertRegex(loss.message, "not renewed in time: no node answers: ")
        self.assertGreaterEqual(sum(map(is_renewal, node.seen)), 3)
        self.assertFalse(lease.is_live)
        with self.assertRaises(LeaseLost):
            lease.release()

    def test_a_node_that_stands_still_does_not_delay_the_loss(self) -> None:
        thaw = threading.Event()
        self.addCleanup(thaw.set)

        def script(request: str) -> str:
            if is_renewal(request):
                thaw.wait(LIMIT)
            return short()

        losses: List[float] = []
        client = self.client(servers=[self.node(script)])
        lease = client.lease("n", on_lost=lambda _: losses.append(time.monotonic())).acquire()
        deadline = time.monotonic() + lease.remaining
        lease.lost(LIMIT)
        wait_until("the callback", lambda: bool(losses))
        self.assertGreaterEqual(losses[0], deadline - 0.05)
        # the answer that comes later does not bring it back
        thaw.set()
        self.assertFalse(lease.is_live)
        self.assertIn("not renewed in time", lease.lost(LIMIT).message)

    def test_a_renewal_goes_on_at_another_node(self) -> None:
        held: List[Tuple[Node, Any]] = []
        for said in (None, refused("405 Method Not Allowed", "method-not-allowed")):
            bad = self.node(lambda request, said=said: said if is_renewal(request) else short())  # type: ignore[misc]
            good = self.node(lambda request: short() if request.startswith("PUT ") else DONE)
            held.append((good, self.client(servers=[bad, good]).lease("n").acquire()))
        # both are renewed at the same time; the third renewal comes after the end of the first grant
        for node, lease in held:
            with lease:
                wait_until("renewals elsewhere", lambda node=node: len(node.seen) >= 3)  # type: ignore[misc]
                self.assertTrue(lease.is_live)

    def test_a_renewal_of_another_token_is_a_loss(self) -> None:
        node = self.node(lambda request: short(8 if is_renewal(request) else 7))
        lease = self.client(servers=[node]).lease("n").acquire()
        self.assertIn("its token is 8", lease.lost(LIMIT).message)

    def test_a_lease_that_was_waited_for_is_renewed_before_the_work_begins(self) -> None:
        # of the first grant little is left
        node = self.giving(granted(expires_in_ms=3_000), granted(), DONE)
        with self.client(servers=[node]).lease("n", wait=30) as lease:
            self.assertGreater(lease.remaining, 3)
            self.assertEqual(len(node.seen), 2)
        first, second, _ = lines(node)
        self.assertRegex(first, "&wait=[0-9]{4,5}ms$")
        self.assertTrue(is_renewal(node.seen[1]), second)
        self.assertNotIn("wait=", second)

    def test_a_lease_that_is_over_after_the_wait_is_none(self) -> None:
        node = self.giving(granted(), LOST)
        with self.assertRaises(LeaseLost):
            self.client(servers=[node]).lease("n", wait=30).acquire()
        self.assertEqual(len(node.seen), 2)

    def test_the_wait_is_one_for_all_tries(self) -> None:
        said = iter([None, granted(), granted(), DONE])

        def script(_: str) -> Optional[str]:
            now = next(said)
            if now is None:
                time.sleep(0.6)
            return now

        node = self.node(script)
        with self.client(servers=[node]).lease("n", wait=2):
            pass
        waits = [int(value(line, "wait")[:-2]) for line in lines(node)[:2]]
        self.assertTrue(600 <= waits[0] <= 2_000 and waits[1] <= waits[0] - 600, waits)

    def test_a_release_after_another_grant_says_that_it_was_lost(self) -> None:
        node = self.giving(granted(), refused("409 Conflict", "lease-held"))
        with self.assertRaises(LeaseLost):
            with self.client(servers=[node]).lease("n"):
                pass

    def test_an_error_of_the_work_is_not_replaced(self) -> None:
        node = self.giving(granted(), refused("409 Conflict", "lease-held"))
        with self.assertRaises(ZeroDivisionError):
            with self.client(servers=[node]).lease("n"):
                raise ZeroDivisionError
        self.assertTrue(node.seen[1].startswith("DELETE "))

    def test_work_that_ends_without_a_node_is_no_error(self) -> None:
        node = self.giving(granted())
        with self.client(servers=[node], timeout=3).lease("n"):
            pass
        self.assertTrue(node.seen[1].startswith("DELETE "))

    def test_a_lease_that_is_not_used_any_more_is_released(self) -> None:
        node = self.node(lambda request: granted() if request.startswith("PUT ") else DONE)
        lease = self.client(servers=[node]).lease("n").acquire()
        self.assertTrue(lease.is_live)
        del lease

        def is_released() -> bool:
            gc.collect()
            return node.seen[-1].startswith("DELETE ")

        wait_until("its release", is_released)
        self.assertEqual(lines(node)[1], f"DELETE /v1/leases/n?token=7&id={ID}")

    def test_writes_of_the_client_of_a_lease_have_its_token(self) -> None:
        not_held, locked = refused("412 Any", "lease-not-held"), refused("423 Locked", "locked")
        node = self.giving(granted(), written("v", 9), written("", 9), not_held, locked, written("v", 9), DONE)
        client = self.client(servers=[node])
        with client.lease("n") as lease:
            lease.client.put("n", b"1")
            lease.client.delete("n")
            with self.assertRaises(LeaseNotHeld):
                client.with_lease(5).put_version("n", "v", b"1")
            with self.assertRaises(Locked):
                client.put("n", b"1")
            lease.client.namespace("ns").put("n", b"1")
        tokens = [re.findall(r"\r\nX-Vwatch-Lease: (\d+)\r\n", request) for request in node.seen[1:6]]
        self.assertEqual(tokens, [["7"], ["7"], ["5"], [], ["7"]])

    def test_a_majority_that_is_missing_does_not_hold_back_writes(self) -> None:
        none = refused("503 Service Unavailable", "no-majority", Retry_After="60")
        node = self.node(lambda request: none if "/v1/leases/" in request else written("v", 9))
        client = self.client(servers=[node], timeout=2)
        with self.assertRaises(Unavailable):
            client.lease("n").acquire()
        self.assertEqual(client.put("n", b"1").revision, 9)

    def test_leases_are_listed_and_released_by_their_token(self) -> None:
        rows = (
            '{"leases":[{"path":"jobs/a","prefix":true,"holder":"h","token":7,"since":"s","expires_in_ms":1500,'
            '"slots":4,"claim":2,"waiting":3},{"path":"jobs/b","prefix":false,"holder":"","token":8,"since":"s",'
            '"expires_in_ms":1,"waiting":0}]}'
        )
        held = refused("409 Conflict", "lease-held")
        node = self.giving(answer("200 OK", {}, rows), DONE, held)
        client = self.client(servers=[node])
        self.assertEqual(
            client.leases("jobs/"),
            [
                LeaseInfo("jobs/a", True, "h", 7, 1.5, (4, 2), 3),
                LeaseInfo("jobs/b", False, "", 8, 0.001, None, 0),
            ],
        )
        client.release_lease("jobs/a", 7, prefix=True)
        with self.assertRaises(LeaseHeld):
            client.release_lease("jobs/b", 5)
        self.assertEqual(
            lines(node),
            [
                "GET /v1/leases?prefix=jobs/",
                "DELETE /v1/leases/jobs/a?prefix=true&token=7",
                "DELETE /v1/leases/jobs/b?token=5",
            ],
        )

    def test_a_client_without_servers_has_no_leases(self) -> None:
        client = self.client("127.0.0.1:1")
        with self.assertRaises(NoServers):
            client.lease("n").acquire()
        with self.assertRaises(NoServers):
            client.leases()
        with self.assertRaises(NoServers):
            client.release_lease("n", 1)


LeasesOfAsyncio = with_asyncio(Leases)
