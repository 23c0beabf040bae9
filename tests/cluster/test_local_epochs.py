"""Members do by themselves what the protocol asks of them: ballots, registration; and a client can check it all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consensus.ed25519 import Ed25519Verifier
from contracts.receipts import CreditReason
from contracts.state_tree import verify_state_proof
from contracts.transaction import Transfer
from node.proofs import LedgerProver
from node.service import Role
from tests.cluster.local_cluster import LocalCluster, quick_parameters

pytestmark = pytest.mark.cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    quick = quick_parameters(4, 4, run_ms=1_000, view_timeout_ms=500, request_timeout_ms=700)
    made = LocalCluster(tmp_path, 4, quick)
    await made.start()
    yield made
    await made.stop()


async def test_every_member_votes_by_itself_and_a_newcomer_is_grouped(cluster: LocalCluster) -> None:
    """PROTOCOL 5.5, 8.2, 10.1: elections without a bootstrap; a joining node registers and is grouped."""
    newcomer = await cluster.add()
    first = cluster.nodes[0].service
    await cluster.until(lambda: first.current_epoch() >= 2, "two epochs", 90)
    one = first.epoch(1)
    assert sum(tally.ballots for tally in one.tallies if not tally.recount) >= 4
    assert newcomer.key.address in first.epoch(2).members
    assert newcomer.service.status().role is not Role.OBSERVER
    reasons = {entry.reason for entry in first.credit_history(cluster.nodes[0].key.address, None, 100).items}
    assert CreditReason.DELEGATE_REWARD in reasons
    await cluster.level()
    roots = {node.running.ledger.state.tree.root for node in cluster.nodes}
    assert len(roots) == 1


async def test_client_checks_an_account_against_the_genesis(cluster: LocalCluster) -> None:
    """PROTOCOL 9.5."""
    first, second = cluster.nodes[:2]
    await cluster.until(lambda: min(node.height for node in cluster.nodes) >= 2, "a start")
    outcome = await first.service.sign_and_submit(Transfer(second.key.address, 42))
    assert outcome.id is not None
    status = await first.service.wait_committed(outcome.id, 20_000)
    assert status.state == "committed"
    answer = await first.service.account_proof(second.key.address, 20_000)
    prover = LedgerProver(cluster.genesis, Ed25519Verifier())
    for link in first.service.delegate_changes().items:
        prover.add_link(link.certified.header, link.certified.certificate, link.next_delegates)
    prover.check_header(answer.next.header, answer.next.certificate)
    assert verify_state_proof(answer.next.header.state_root, answer.proof)
    assert answer.proof.value is not None


async def test_event_stream_has_every_block_once_for_every_reader(cluster: LocalCluster) -> None:
    """LESSONS 18: resume from a height without gap or duplicate."""
    service = cluster.nodes[1].service
    heights: list[int] = []
    async with asyncio.timeout(60):
        async for block in service.events(1):
            heights.append(block.height)
            if len(heights) == 5:
                break
        async for block in service.events(4):
            assert block.height == 4
            break
    assert heights == [1, 2, 3, 4, 5]


async def test_status_names_every_delegate_and_what_it_said_last(cluster: LocalCluster) -> None:
    """LESSONS 21."""
    service = cluster.nodes[0].service
    await cluster.until(lambda: min(node.height for node in cluster.nodes) >= 3, "a start")
    status = service.status()
    assert status.ready, status.not_ready_because
    assert [delegate.rank for delegate in status.delegates] == [0, 1, 2, 3]
    assert sum(delegate.primary for delegate in status.delegates) == 1
    assert sum(delegate.phase is not None for delegate in status.delegates) >= 3
    assert {peer.connected for peer in status.peers} == {True}
    assert (status.members, status.bft, status.caught_up) == (4, True, True)
    figures = service.figures()
    assert figures.blocks_committed >= 3
    assert figures.journal_syncs > 0
