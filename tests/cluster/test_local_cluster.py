"""Four nodes over loopback TLS form a chain from a hand-made genesis, trade, lose one and get it back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.transaction import TradeOpen, Transfer
from node.service import SubmitCode
from tests.cluster.local_cluster import FOUNDING_BALANCE, LocalCluster, quick_parameters

pytestmark = pytest.mark.cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    made = LocalCluster(tmp_path, 4, quick_parameters(4, 4))
    await made.start()
    yield made
    await made.stop()


async def test_transfers_and_trades_commit_everywhere(cluster: LocalCluster) -> None:
    first, second = cluster.nodes[0], cluster.nodes[1]
    transfers = [cluster.signed(Transfer(second.key.address, n + 1), first.key) for n in range(50)]
    trades = [
        cluster.signed(TradeOpen(cluster.terms(first.key, second.key)), first.key, second.key)
        for _ in range(50)
    ]
    outcomes = await first.running.intake.submit(transfers)
    outcomes += await second.running.intake.submit(trades)
    assert {outcome.code for outcome in outcomes} == {SubmitCode.ACCEPTED}, outcomes[0]
    ids = [outcome.id for outcome in outcomes if outcome.id is not None]
    await cluster.until(
        lambda: all(node.running.ledger.locate(i) is not None for node in cluster.nodes for i in ids),
        "the commit of 100 transactions everywhere",
    )
    for node in cluster.nodes:
        for transaction_id in ids:
            location = node.running.ledger.locate(transaction_id)
            assert location is not None
            assert node.running.ledger.receipts(location.height)[location.index].code == 0
        assert node.running.ledger.totals_money() == 4 * FOUNDING_BALANCE


async def test_same_bytes_again_give_the_same_answer(cluster: LocalCluster) -> None:
    first, second = cluster.nodes[0], cluster.nodes[1]
    raw = cluster.signed(Transfer(second.key.address, 5), first.key)
    [outcome] = await first.running.intake.submit([raw])
    assert outcome.id is not None
    transaction_id = outcome.id
    await cluster.until(lambda: second.running.ledger.locate(transaction_id) is not None, "a commit")
    again = await second.running.intake.submit([raw, raw])
    assert [item.code for item in again] == [SubmitCode.KNOWN, SubmitCode.KNOWN]
    assert again[0].state == "committed"


async def test_state_roots_are_equal_and_empty_blocks_let_time_pass(cluster: LocalCluster) -> None:
    await cluster.until(lambda: min(node.height for node in cluster.nodes) >= 5, "five empty blocks")
    height = min(node.height for node in cluster.nodes)
    hashes = {node.running.ledger.header_row(height).header.digest() for node in cluster.nodes}
    assert len(hashes) == 1


async def test_one_stops_the_rest_go_on_and_it_comes_back(cluster: LocalCluster) -> None:
    first, second, last = cluster.nodes[0], cluster.nodes[1], cluster.nodes[3]
    await cluster.until(lambda: min(node.height for node in cluster.nodes) >= 2, "a start")
    await last.stop()
    before = first.height
    raws = [cluster.signed(Transfer(second.key.address, n + 1), first.key) for n in range(20)]
    ids = [outcome.id for outcome in await first.running.intake.submit(raws)]
    await cluster.until(
        lambda: (
            all(i is not None and first.running.ledger.locate(i) is not None for i in ids)
            and first.height >= before + 5
        ),
        "commits without the fourth",
    )
    await last.start()
    await cluster.until(
        lambda: last.running.synchronizer.session.caught_up and last.height >= first.height - 1, "catching up"
    )
    for transaction_id in ids:
        assert transaction_id is not None
        assert last.running.ledger.locate(transaction_id) is not None
    later = [
        await node.running.intake.submit([cluster.signed(Transfer(second.key.address, 7), last.key)])
        for node in (last,)
    ]
    await cluster.until(
        lambda: all(
            outcome.id is not None and node.running.ledger.locate(outcome.id) is not None
            for node in cluster.nodes
            for outcomes in later
            for outcome in outcomes
        ),
        "a commit by the returned node's submission",
    )
    assert last.running.replica.voting


async def test_all_stop_and_start_again_with_everything_acknowledged(cluster: LocalCluster) -> None:
    first, second = cluster.nodes[0], cluster.nodes[1]
    raw = cluster.signed(Transfer(second.key.address, 99), first.key)
    [outcome] = await first.running.intake.submit([raw])
    transaction_id = outcome.id
    assert transaction_id is not None
    await cluster.until(lambda: first.running.ledger.locate(transaction_id) is not None, "a commit")
    for node in cluster.nodes:
        await node.stop()
    await cluster.start()
    await cluster.until(
        lambda: all(node.running.ledger.locate(transaction_id) is not None for node in cluster.nodes),
        "the acknowledged transfer on all",
    )
    height = max(node.height for node in cluster.nodes)
    await cluster.until(
        lambda: min(node.height for node in cluster.nodes) > height, "new blocks after the restart"
    )
