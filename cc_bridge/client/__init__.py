"""A client of ``cc-bridge serve``; needs ``pip install 'cc-bridge[client]'``.

::

    with Client("http://127.0.0.1:8765", token) as client:
        client.make("work")
        print(client.send("work", "What is in this directory?", wait=60)["result"]["text"])
        for event in client.stream("work", "And in the one above?"):
            print(event.type, event.data)

:class:`AsyncClient` has the same methods as coroutines and asynchronous iterators.
"""

from .asynchronous import AsyncClient
from .blocking import Client
from .errors import ServiceError, ServiceUnreachable
from .shapes import Change, Entry, Event, History, Instance, Message, Permission, Turn, Usage

__all__ = [
    "AsyncClient",
    "Change",
    "Client",
    "Entry",
    "Event",
    "History",
    "Instance",
    "Message",
    "Permission",
    "ServiceError",
    "ServiceUnreachable",
    "Turn",
    "Usage",
]
