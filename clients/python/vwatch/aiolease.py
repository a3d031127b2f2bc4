"""A lease of the client of asyncio: see `AsyncLease`."""

from __future__ import annotations

import asyncio
import time
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Set, Type

from ._asyncio import begun, in_time, run
from ._core import Core
from ._leases import LOOK, RELEASE_TIME, Asked, Grant, Tenure
from .errors import LeaseLost, VwatchError
from .lease import OnLost

if TYPE_CHECKING:
    from .aio import AsyncClient

#: Releases under way that nothing waits for: an event loop does not keep them by itself.
_RELEASES: Set[asyncio.Task[None]] = set()


class AsyncLease:
    """A lease, kept alive by a task: see `Lease`, which has the same methods.

        async with client.lease("jobs/nightly", prefix=True, holder="worker 7") as lease:
            work = asyncio.create_task(job(lease.client))
            lost = asyncio.create_task(lease.lost())
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, lost):
                task.cancel()

    `on_lost` is called in the event loop. A task that does not give way to others delays the renewals.
    """

    def __init__(
        self, core: Core, make: Callable[[Core], AsyncClient], asked: Asked, on_lost: Optional[OnLost]
    ) -> None:
        self._core, self._make, self._on_lost = core, make, on_lost
        self._tenure = Tenure(core, asked)
        self._task: Optional[asyncio.Task[None]] = None
        self._is_begun = self._is_released = False

    async def acquire(self) -> AsyncLease:
        """Acquires it, and returns it: see `Lease.acquire`."""
        if self._is_begun:
            raise ValueError("the lease was acquired before: make another one")
        self._is_begun = True
        try:
            await run(self._tenure.acquire())
        except BaseException:
            # a cancellation may come together with the grant
            _give_back(self._tenure)
            if self._tenure.grant is None:
                self._is_begun = False
            raise
        self._task = begun(_keep(self._tenure, self._on_lost))
        loop = asyncio.get_running_loop()
        self._end = weakref.finalize(self, _abandon, loop, self._task, self._tenure)
        # at the end of the process there is no loop
        self._end.atexit = False
        return self

    @property
    def token(self) -> int:
        """The token: see `Lease.token`."""
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
    def client(self) -> AsyncClient:
        """The client, whose writes are under the lease: see `Client.with_lease`."""
        return self._make(Core(self._core.shared, self._core.namespace, self.token))

    @property
    def is_live(self) -> bool:
        """Whether it is held: see `Lease.is_live`."""
        return self.remaining > 0

    @property
    def remaining(self) -> float:
        """The seconds to the deadline: see `Lease.remaining`."""
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

    async def lost(self, timeout: Optional[float] = None, margin: float = 0.0) -> LeaseLost:
        """Waits until the lease is lost, at its deadline at the latest, and returns why: see `Lease.lost`."""
        self._granted()
        limit = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            if self._is_released or self._task is None:
                raise ValueError("the lease is released")
            loss = self._tenure.lost(margin)
            if loss is not None:
                return loss
            if time.monotonic() >= limit:
                raise TimeoutError("the lease is live")
            left = max(min(LOOK, self._tenure.remaining() - margin), 0.001)
            until = min(limit, time.monotonic() + left)
            if self._task.done():
                # it was cancelled from elsewhere: the lease lasts for the rest of its time
                await asyncio.sleep(until - time.monotonic())
            else:
                await in_time(self._task, until)

    async def release(self) -> None:
        """Releases it, so that the next one can have it at once: see `Lease.release`."""
        self._granted()
        if self._is_released or self._task is None:
            return
        self._is_released = True
        self._end.detach()
        self._task.cancel()
        if asyncio.current_task() is not self._task:
            await asyncio.wait({self._task})
        await run(self._tenure.release(time.monotonic() + self._core.shared.timeout))

    def _granted(self) -> Grant:
        if self._tenure.grant is None:
            raise ValueError("the lease is not acquired")
        return self._tenure.grant

    async def __aenter__(self) -> AsyncLease:
        if self._task is None:
            return await self.acquire()
        self.check()
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Releases it. Raises LeaseLost if it was lost before, unless there is an error already."""
        try:
            await self.release()
        except LeaseLost:
            if error is None:
                raise
        except VwatchError:
            # it ends after its ttl
            pass


async def _keep(tenure: Tenure, on_lost: Optional[OnLost]) -> None:
    """Renews a lease until it is lost."""
    failure: Optional[Exception] = None
    try:
        await run(tenure.keep())
    except Exception as error:
        tenure.lose(LeaseLost(f"what renews the lease has ended: {error!r}"))
        failure = error
    loss = tenure.lost()
    if loss is not None and on_lost is not None:
        # its errors are those of the loop
        asyncio.get_running_loop().call_soon(on_lost, loss)
    if failure is not None:
        raise failure


def _abandon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], tenure: Tenure) -> None:
    """Nothing refers to a lease any more: its loop, if it goes on, is to release it."""

    def end() -> None:
        task.cancel()
        if tenure.lost() is None:
            _give_back(tenure)

    try:
        loop.call_soon_threadsafe(end)
    except RuntimeError:
        # it is closed, and the lease ends after its ttl
        pass


def _give_back(tenure: Tenure) -> None:
    """Releases a lease that the program does not have."""
    if tenure.grant is None:
        return
    release: asyncio.Task[Any] = begun(run(tenure.release(time.monotonic() + RELEASE_TIME)))
    _RELEASES.add(release)
    release.add_done_callback(_RELEASES.discard)
