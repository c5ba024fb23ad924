from __future__ import annotations

import pytest

from quietfleet.chain.wallet import MOST_TIP, _priced

GWEI = 10**9


class Endpoint:
    """Answers what an account's money depends on."""

    def __init__(self, tip):
        self._answers = {
            "eth_estimateGas": hex(50_000),
            "eth_getBlockByNumber": {"baseFeePerGas": hex(7 * GWEI)},
            "eth_maxPriorityFeePerGas": hex(tip),
        }

    async def request(self, method, *_):
        return self._answers[method]


@pytest.mark.parametrize(("said", "paid"), [(2 * GWEI, 2 * GWEI), (MOST_TIP + 1, MOST_TIP), (10**18, MOST_TIP)])
async def test_price__endpoint_says_what_tip_is_usual__no_more_than_the_most_is_paid(said, paid):
    priced = await _priced(Endpoint(said), {"value": 0}, "0x" + 40 * "1")
    assert priced["maxPriorityFeePerGas"] == paid
    assert priced["maxFeePerGas"] == 14 * GWEI + paid
