"""A peer that speaks Whisper alone hears nothing of what is ours."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from dos_world import Stranger
from stem_world import among_stems

from quietfleet.network.wire import STATUS, Status


async def heard(link, seconds):
    """Return what comes by a link in that time."""
    messages = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                messages.append(await link.receive())
    return messages


@pytest.mark.parametrize(("capabilities", "expected"), [(("shh",), {"shh"}), (("shh", "stem"), {"shh", "stem"})])
def test_peer__by_what_it_speaks__is_sent_that_alone(capabilities, expected):
    async def scene(world):
        first = await world.stem_relay()
        await world.stem_relay(first)
        await asyncio.sleep(10)
        link = await world.memory.links(world.key().public.to_bytes(), capabilities).dial(first.enode)
        await Stranger(link).say(STATUS, Status(0.0).encode())
        first.flood.take_in(world.envelope().encode(), None)
        messages = await heard(link, 200)
        assert {message.capability for message in messages} == expected
        assert len([message for message in messages if message.capability == "shh"]) == 2

    among_stems(scene)
