"""What tells a replica that hangs from one that is busy."""

import asyncio
import threading
import time

import pytest

from pipelines.serving.config import ServiceConfig
from pipelines.serving.service import Device, Direction


def test_health_needs_a_model_that_ends_what_it_begins():
    going, device = threading.Event(), Device()

    def predictor(columns):
        going.wait(30)
        return columns

    async def main():
        direction = Direction(predictor, device, ServiceConfig(model="m"))
        device.check()
        computing = asyncio.ensure_future(direction._compute([{"ids": 1}]))
        while device.since is None:
            await asyncio.sleep(0.01)
        device.check()  # it is busy
        device.since -= device.patience + 1
        with pytest.raises(RuntimeError, match="one batch for 6"):
            device.check()
        # Others may wait in the loop's own threads as long as they like: the model needs none.
        loop = asyncio.get_running_loop()
        stuck = [loop.run_in_executor(None, going.wait, 30) for _ in range(100)]
        going.set()
        assert await computing == [{"ids": 1, "error": ""}]
        device.check()
        await asyncio.gather(*stuck)

    asyncio.run(main())


def test_patience_is_what_the_model_needs():
    device = Device()
    slow = Direction(lambda columns: time.sleep(0.3), device, ServiceConfig(model="m"))
    assert device.patience == 60
    slow.warm({"ids": 1})
    assert device.patience >= 20 * 16 * 0.3
