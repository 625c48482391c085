"""Room for the pictures of requests: so many pixels are held at once, and who comes later waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """For so many pixels in all, given out in the order in which they are asked for."""

    def __init__(self, pixels: int) -> None:
        self.size = self.free = pixels
        self._turn, self._changed = asyncio.Lock(), asyncio.Condition()

    @asynccontextmanager
    async def take(self, pixels: int) -> AsyncIterator[None]:
        """Room for a picture, as long as the block runs; one larger than all of it gets all."""
        pixels = min(pixels, self.size)
        async with self._turn, self._changed:  # in turn, or small ones would keep a large one out
            await self._changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            async with self._changed:
                self.free += pixels
                self._changed.notify_all()
