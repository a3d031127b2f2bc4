"""A client for the nodes of vwatch: reads, writes, lists, waits and watches, at whichever node answers.

    from vwatch import Client, Scope

    client = Client(nodes=["10.0.0.1:8080", "10.0.0.2:8080"], servers=["10.0.0.1:8008", "10.0.0.2:8008"])
    client.put("repo/artifact:latest", b"3456")
    for event in client.watch(Scope.prefix("repo/")):
        print(event)

`AsyncClient` is the same for asyncio.
"""

from . import errors as errors
from ._request import VERSION as __version__
from .aio import AsyncCache, AsyncClient, AsyncWatcher
from .aiolease import AsyncLease
from .client import Cache, Client, Watcher
from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .lease import Lease
from .values import *  # noqa: F403
from .values import __all__ as _values

__all__ = ["AsyncCache", "AsyncClient", "AsyncLease", "AsyncWatcher", "Cache", "Client", "Lease", "Watcher"]
__all__ += ["__version__", "errors"]
__all__ += _errors
__all__ += _values
