"""Pictures of requests: how many pixels are held at once."""

import asyncio

import pytest

from pipelines.serving.room import Room


def test_no_more_is_held_than_there_is_room_for_and_nobody_is_passed_over():
    room, held, most, order = Room(100), 0, 0, []

    async def picture(name: int, pixels: int):
        nonlocal held, most
        async with room.take(pixels):
            order.append(name)
            held += min(pixels, 100)
            most = max(most, held)
            await asyncio.sleep(0)
            held -= min(pixels, 100)

    async def main():
        sizes = [60, 60, 10, 100, 500, 1] * 5
        await asyncio.gather(*(picture(n, size) for n, size in enumerate(sizes)))

    asyncio.run(main())
    assert order == list(range(30))
    assert 60 < most <= 100
    assert room.free == 100


def test_who_gives_up_or_fails_leaves_its_room():
    room = Room(10)

    async def main():
        async def holding():
            async with room.take(10):
                await asyncio.sleep(60)

        async def waiting():
            async with room.take(5):
                pass

        one, two = asyncio.ensure_future(holding()), asyncio.ensure_future(waiting())
        await asyncio.sleep(0.01)
        for task in (two, one):
            task.cancel()
        await asyncio.gather(one, two, return_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            async with room.take(10):
                1 / 0  # noqa: B018
        async with room.take(10):
            assert room.free == 0

    asyncio.run(main())
    assert room.free == 10
