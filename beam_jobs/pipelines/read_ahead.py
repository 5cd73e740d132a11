"""Reading ahead of what is worked on, in threads."""

import collections
import concurrent.futures
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TypeVar

_Item = TypeVar("_Item")
_Content = TypeVar("_Content")


def read_ahead(
    pool: concurrent.futures.Executor,
    read: Callable[[_Item], _Content],
    items: Iterable[_Item],
    number: int,
) -> Iterator[tuple[_Item, _Content]]:
    """Items with what is read of them, in their order.

    Args:
        number: of items that are being read or wait for their turn. All at
            once, as `pool.map` reads them, might not fit into memory.
    """
    reading = collections.deque()
    for item in items:
        reading.append((item, pool.submit(read, item)))
        if len(reading) == number:
            item, content = reading.popleft()
            yield item, content.result()
    for item, content in reading:
        yield item, content.result()
