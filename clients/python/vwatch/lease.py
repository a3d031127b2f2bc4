"""A lease of the client of threads: see `Lease`."""

from __future__ import annotations

import threading
import time
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Callable, Optional, Type

from ._core import Core
from ._leases import LOOK, RELEASE_TIME, Asked, Grant, Tenure
from ._sync import Closed, Runner, Stop, run
from .errors import LeaseLost, VwatchError

if TYPE_CHECKING:
    from .client import Client

#: What is called when a lease is lost.
OnLost = Callable[[LeaseLost], object]


class Lease:
    """A lock on a name, or on all names below a path, that expires unless it is renewed: see `Client.lease`.

        with client.lease("jobs/nightly", prefix=True, holder="worker 7") as lease:
            for part in work:
                lease.check()
                lease.client.put("jobs/nightly/done", part)

    Renewal. A thread renews it after each third of its ttl. A try that fails is repeated until the deadline, at other
    nodes too.

    Deadline. It counts from the moment at which the request that granted or renewed the lease was sent, so it lies
    before the one of the nodes. On Linux its clock also runs while the machine sleeps. The program is to stop what the
    lease protects before it: `check` raises then, `lost` waits for it, and `on_lost` is called.

    Fencing. A program that stands still notices the end of its lease late. Writes of `client` fail then, as they have
    its token; other resources can compare the `token` in the same way.

    End. `with` releases it, and so does the thread once nothing refers to the lease any more. A process that ends
    without `release` leaves it to its ttl.
    """

    def __init__(self, core: Core, make: Callable[[Core], Client], asked: Asked, on_lost: Optional[OnLost]) -> None:
        self._core, self._make, self._on_lost = core, make, on_lost
        self._tenure, self._keeper = Tenure(core, asked), _Keeper()
        self._thread: Optional[threading.Thread] = None
        self._is_released = False

    def acquire(self) -> Lease:
        """Acquires it, and returns it. A lease is acquired once.

        The request is repeated at other nodes while none answers, for the time limit of the client beyond the `wait`;
        it stays one request, so that it gets one lease. After a wait the lease is renewed once before this returns: the
        answer may have been under way for long.

        Raises LeaseHeld if another lease stands in the way, Unavailable if too few nodes answer, LeaseLost if it was
        over before the program could have it, and ValueError if it was acquired before.
        """
        if self._thread is not None or self._is_released or self._tenure.grant is not None:
            raise ValueError("the lease was acquired before: make another one")
        stop = Stop()
        try:
            run(self._tenure.acquire())
            arguments = (self._tenure, self._keeper, stop, self._on_lost)
            thread = threading.Thread(target=_keep, args=arguments, name="vwatch-lease", daemon=True)
            # it has no reference to this, so that it can end with it
            self._end = weakref.finalize(self, stop.set)
            self._end.atexit = False
            thread.start()
            self._thread = thread
        except BaseException:
            stop.close()
            _give_back(self._tenure)
            raise
        return self

    @property
    def token(self) -> int:
        """Larger than that of each earlier lease that this one conflicts with, in µs since 1970."""
        return self._granted().token

    @property
    def id(self) -> str:
        """The id: with the token it proves that the program is the holder."""
        return self._granted().id

    @property
    def holder(self) -> str:
        """The text about the holder that others are shown."""
        return self._granted().holder

    @property
    def ttl(self) -> float:
        """How many seconds the lease lasts without a renewal."""
        return self._granted().ttl

    @property
    def client(self) -> Client:
        """The client, whose writes are under the lease: see `Client.with_lease`."""
        return self._make(Core(self._core.shared, self._core.namespace, self.token))

    @property
    def is_live(self) -> bool:
        """Whether it is held: it is not released, not known to be lost, and its deadline is not reached."""
        return self.remaining > 0

    @property
    def remaining(self) -> float:
        """The seconds to the deadline; 0 if it is lost or released. A renewal makes it longer."""
        self._granted()
        return 0.0 if self._is_released else self._tenure.remaining()

    def check(self) -> None:
        """Raises LeaseLost if the lease is lost, and ValueError if it is released."""
        self._granted()
        if self._is_released:
            raise ValueError("the lease is released")
        loss = self._tenure.lost()
        if loss is not None:
            raise loss

    def lost(self, timeout: Optional[float] = None, margin: float = 0.0) -> LeaseLost:
        """Waits until the lease is lost, at its deadline at the latest, and returns why.

        With `margin` it returns so many seconds before the deadline, unless the lease is renewed by then: for a program
        that needs some time to stop. A lease that is renewed in time has at least two thirds of its ttl left, so the
        margin is to be less. Raises TimeoutError after `timeout` seconds, and ValueError if the lease is released.
        """
        self._granted()
        limit = None if timeout is None else time.monotonic() + timeout
        with self._keeper.news:
            while True:
                if self._is_released:
                    raise ValueError("the lease is released")
                loss = self._tenure.lost(margin)
                if loss is not None:
                    return loss
                left = min(LOOK, self._tenure.remaining() - margin)
                if limit is not None:
                    if time.monotonic() >= limit:
                        raise TimeoutError("the lease is live")
                    left = min(left, limit - time.monotonic())
                self._keeper.news.wait(max(left, 0.001))

    def release(self) -> None:
        """Releases it, so that the next one can have it at once. Again it does nothing.

        Raises LeaseLost if it was lost before: what it protected may have been done by others too. Raises Unavailable
        if no node answers: then it ends after its ttl.
        """
        self._granted()
        with self._keeper.news:
            if self._is_released or self._thread is None:
                return
            self._is_released = self._keeper.is_released = True
            self._keeper.news.notify_all()
        self._end()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        run(self._tenure.release(time.monotonic() + self._core.shared.timeout))

    def _granted(self) -> Grant:
        if self._tenure.grant is None:
            raise ValueError("the lease is not acquired")
        return self._tenure.grant

    def __enter__(self) -> Lease:
        if self._thread is None:
            return self.acquire()
        self.check()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Releases it. Raises LeaseLost if it was lost before, unless there is an error already."""
        try:
            self.release()
        except LeaseLost:
            if error is None:
                raise
        except VwatchError:
            # it ends after its ttl
            pass


class _Keeper:
    """What a lease and its thread share beside the tenure."""

    def __init__(self) -> None:
        self.news = threading.Condition()
        #: The lease is released by another thread.
        self.is_released = False


def _keep(tenure: Tenure, keeper: _Keeper, stop: Stop, on_lost: Optional[OnLost]) -> None:
    """Renews a lease until it is lost or is to end."""
    runner = Runner(tenure.keep(), stop)
    try:
        runner.run()
    except Closed:
        pass
    except BaseException as error:
        tenure.lose(LeaseLost(f"what renews the lease has ended: {error!r}"))
        raise
    finally:
        runner.close()
        stop.close()
        with keeper.news:
            is_released = keeper.is_released
            keeper.news.notify_all()
        loss = None if is_released else tenure.lost()
        if loss is not None and on_lost is not None:
            on_lost(loss)
    if loss is None and not is_released:
        # nothing refers to the lease any more
        _give_back(tenure)


def _give_back(tenure: Tenure) -> None:
    """Releases a lease that the program does not have."""
    if tenure.grant is None:
        return
    try:
        run(tenure.release(time.monotonic() + RELEASE_TIME))
    except VwatchError:
        # it ends after its ttl
        pass
