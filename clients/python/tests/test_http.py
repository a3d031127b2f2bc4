"""Answers as bytes, URLs, stamps and pauses: what needs no node."""

from __future__ import annotations

import copy
import pickle
import unittest
from typing import List, Tuple

from vwatch import Scope, errors
from vwatch._answer import Answer, micros_of_text
from vwatch._attempt import CLOCK_TOLERANCE, Attempt
from vwatch._backoff import Backoff
from vwatch._http import MAX_FIELDS, MAX_HEAD_BYTES, BadAnswer, Body, Head
from vwatch._request import Request, get
from vwatch._stamps import Stamps
from vwatch._url import Url, check_namespace, encoded, parameter, with_query


def whole(data: bytes, step: int) -> Tuple[Head, bytes, bytes]:
    """An answer that arrives in parts: its head, its body, and what is behind it."""
    buffer, head, body, parts = bytearray(), None, None, []
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        if head is None:
            head = Head.take(buffer)
            if head is None:
                continue
            body = Body(head)
        assert body is not None
        parts.append(body.take(buffer))
        if body.is_over:
            return head, b"".join(parts), bytes(buffer) + data[at + step :]
    if head is None or body is None:
        raise BadAnswer("no head")
    body.end()
    return head, b"".join(parts), bytes(buffer)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Answers(unittest.TestCase):
    def test_an_answer_is_the_same_in_any_parts(self) -> None:
        for data, expected in [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b""),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", b"x"),
            (CHUNKED + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n", b"hello!"),
            (CHUNKED + b"00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n", b"0123456789"),
        ]:
            for step in (1, 2, 3, 7, len(data)):
                _, body, rest = whole(data + (b"rest" if step == len(data) else b""), step)
                self.assertEqual(body, expected, (data, step))
                self.assertIn(rest, (b"", b"rest"))
        head, body, _ = whole(b"HTTP/1.0 200 OK\r\nX-Y:  z \r\nx-y: w\r\n\r\nto the end", 4)
        self.assertEqual((body, head.is_last, head.fields), (b"to the end", True, {"x-y": "z, w"}))

    def test_what_is_ambiguous_or_too_long_is_no_answer(self) -> None:
        many = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_FIELDS + 1))
        for data in [
            b"SSH-2.0-x\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + many + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES,
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
            CHUNKED + b"x\r\n",
            CHUNKED + b"\r\n",
            CHUNKED + b"1\nx\r\n0\r\n\r\n",
            CHUNKED + b"1" * 2000,
            CHUNKED + b"0\r\n" + b"X: y\r\n" * 10_000,
            # cut off
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            CHUNKED + b"5\r\nhello\r\n",
        ]:
            for step in (1, len(data)):
                with self.assertRaises(BadAnswer, msg=data[:80]):
                    whole(data, step)

    def test_a_list_ends_where_no_link_leads_on(self) -> None:
        for link, has_next in [
            ('</v1/versions?after=b>; rel="next"', True),
            ('</x>; rel="prev", </y?a=1,2>; rel=next', True),
            ('</x>; rel="prev"', False),
            ("", False),
        ]:
            self.assertIs(Answer("node", Head(200, {"link": link}, False), b"").has_next, has_next, link)

    def test_times_are_read_to_the_microsecond(self) -> None:
        self.assertEqual(micros_of_text("1970-01-01T00:00:01.5Z"), 1_500_000)
        self.assertEqual(micros_of_text("2026-11-29T16:53:15.451009Z"), 1_795_971_195_451_009)
        self.assertEqual(micros_of_text("1970-01-01T01:00:00.000001+01:00"), 1)
        for text in ("", "1970-01-01", "1970-13-01T00:00:00Z"):
            with self.assertRaises(ValueError, msg=text):
                micros_of_text(text)


class Urls(unittest.TestCase):
    def test_names_arrive_as_they_are(self) -> None:
        for name, path in [
            ("repo/artifact:latest", "repo/artifact:latest"),
            ("a//b/", "a//b/"),
            ("../x", "../x"),
            ('a b?c#d%e"f', "a%20b%3Fc%23d%25e%22f"),
            ("1+1=2", "1+1=2"),
            ("naïve", "na%C3%AFve"),
            ("a\r\nX: y", "a%0D%0AX:%20y"),
        ]:
            self.assertEqual(encoded(name), path)
        self.assertEqual(parameter("version", "xxh3:ab+c&d=e f"), "version=xxh3:ab%2Bc%26d%3De%20f")
        self.assertEqual((with_query("/p", []), with_query("/p", ["a=1", "b"])), ("/p", "/p?a=1&b"))

    def test_addresses(self) -> None:
        for text, shown, host, port in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("HTTP://node", "http://node", "node", 80),
            ("[::1]:8080", "http://[::1]:8080", "::1", 8080),
            ("http://[::1]", "http://[::1]", "::1", 80),
            ("http://proxy:1/vwatch/", "http://proxy:1/vwatch", "proxy", 1),
            ("HTTPS://node", "https://node", "node", 443),
            ("https://node:8443/b", "https://node:8443/b", "node", 8443),
        ]:
            url = Url.parse(text)
            self.assertEqual((str(url), url.host, url.port), (shown, host, port))
        for text, why in [
            ("ftp://node:1", "not an http URL"),
            ("node", "no port"),
            ("", "no port"),
            (":8080", "no host"),
            ("node:http", "the port is not"),
            ("node:0", "the port is not"),
            ("node:99999", "the port is not"),
            ("::1:8080", "an IPv6 address needs brackets"),
            ("http://me@node:1", "an address has no query"),
            ("node:1?x", "an address has no query"),
            ("node:1/\r\nX: y", "an address has no query"),
        ]:
            with self.assertRaisesRegex(ValueError, "^" + why, msg=text):
                Url.parse(text)
        self.assertEqual(str(Url.parse("[::1]:1").with_port(2)), "http://[::1]:2")

    def test_a_namespace_is_checked(self) -> None:
        self.assertEqual(check_namespace("log.a-1"), "log.a-1")
        for text in ("", "A", "a/b", "a" * 65, "a\n"):
            with self.assertRaises(ValueError, msg=text):
                check_namespace(text)

    def test_a_request_as_bytes(self) -> None:
        url = Url.parse("http://proxy:1/base")
        request = get("/v1/x?a=b").parks_for(1.5).header("X-Last-Sync", "5")
        head = request.bytes_for(url).split(b"\r\n")
        self.assertEqual(head[:2], [b"GET /base/v1/x?a=b&timeout=1500ms HTTP/1.1", b"Host: proxy:1"])
        self.assertIn(b"X-Last-Sync: 5", head)
        put = Request("PUT", "/v1/x", b"data").stamped(7).bytes_for(url)
        self.assertTrue(put.startswith(b"PUT /base/v1/x?modified=7 "))
        self.assertTrue(put.endswith(b"\r\nContent-Length: 4\r\n\r\ndata"))


class Errors(unittest.TestCase):
    def test_an_error_can_be_copied_and_sent_to_another_process(self) -> None:
        for error in (errors.NotFound(), errors.Behind(5, 7), errors.Rejected(400, "bad-name", "why"), errors.Gone(5)):
            for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
                self.assertIs(type(other), type(error))
                self.assertEqual((str(other), vars(other)), (str(error), vars(error)))


class Memory(unittest.TestCase):
    def test_stamps_rise_and_are_bounded(self) -> None:
        stamps = Stamps(3)
        a, b, c, d = (("", name) for name in "abcd")
        self.assertTrue(stamps.see(a, 5) and stamps.see(a, 5) and not stamps.see(a, 4))
        self.assertEqual(stamps.get(a), 5)
        # a namespace has names of its own
        self.assertIsNone(stamps.get(("n", "a")))
        stamps.see(b, 1)
        stamps.see(c, 1)
        stamps.get(a)
        stamps.see(d, 1)
        self.assertEqual((stamps.get(a), stamps.get(b), len(stamps)), (5, None, 3))
        stamps.forget(a)
        stamps.forget_all(lambda key: key == c)
        self.assertEqual((stamps.get(a), stamps.get(c), stamps.get(d)), (None, None, 1))

    def test_nothing_is_no_older_than_a_delete(self) -> None:
        stamps = Stamps()
        self.assertIsNone(stamps.see_if_newest(("", "a"), None))
        stamps.see(("", "a"), 5)
        self.assertEqual(stamps.see_if_newest(("", "a"), None), 5)
        self.assertEqual(stamps.see_if_newest(("", "a"), (4, True)), 5)
        self.assertIsNone(stamps.see_if_newest(("", "a"), (6, True)))
        self.assertIsNone(stamps.see_if_newest(("", "a"), None))

    def test_pauses_grow_to_their_bound_and_begin_again(self) -> None:
        backoff = Backoff()
        for most in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
            self.assertTrue(0.0 <= backoff.next() <= most)
        self.assertTrue(7.0 <= backoff.next(7.0) <= 12.0)
        backoff.reset()
        pauses: List[float] = []
        for _ in range(50):
            pauses.append(backoff.next())
            backoff.reset()
        self.assertTrue(max(pauses) <= 0.1 and len(set(pauses)) > 25, "they are not random")

    def test_a_clock_that_differs_gives_no_stamp(self) -> None:
        def stamp_with(date: str) -> object:
            attempt = Attempt(Request("PUT", "/v1/versions/n"))
            attempt.choose_stamp(Answer("node", Head(200, {"date": date}, False), b""))
            return attempt.request.stamp

        self.assertGreater(CLOCK_TOLERANCE, 1_000_000)
        for date in ("Thu, 01 Jan 1970 00:00:01 GMT", "yesterday", ""):
            self.assertIsNone(stamp_with(date), date)

    def test_a_scope_has_its_names(self) -> None:
        scope = Scope.tree("a").and_name("b").and_prefix("c")
        has = [name for name in ("a", "a/b", "ab", "b", "bb", "c", "cc") if scope.has(name)]
        self.assertEqual(has, ["a", "a/b", "b", "c", "cc"])
