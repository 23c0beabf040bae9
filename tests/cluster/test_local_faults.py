"""What happens to a node's files, and what its node then dares to sign (PROTOCOL 6.5, 10.2)."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consensus.errors import InvariantViolation
from consensus.inputs import Input, Instant
from contracts.transaction import Transfer
from node.journal import JournalFailed
from tests.cluster.local_cluster import LocalCluster, LocalNode, quick_parameters

pytestmark = pytest.mark.cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    made = LocalCluster(tmp_path, 4, quick_parameters(4, 4))
    await made.start()
    await made.until(lambda: min(node.height for node in made.nodes) >= 2, "a start")
    yield made
    await made.stop()


def signs(node: LocalNode) -> bool:
    return node.running.replica.voting


async def grows(cluster: LocalCluster, blocks: int = 4) -> None:
    target = cluster.nodes[0].height + blocks
    await cluster.until(lambda: min(node.height for node in cluster.alive) >= target, f"{blocks} more blocks")


async def test_lost_journal_abstains_past_all_it_may_have_signed_then_votes_again(
    cluster: LocalCluster,
) -> None:
    """PROTOCOL 6.5: learns M from q other delegates and signs nothing at heights up to M + 2."""
    victim = cluster.nodes[2]
    await victim.stop()
    shutil.rmtree(victim.home / "journal")
    await victim.start()
    assert victim.running.replica.abstaining
    assert victim.service.status().abstaining_until == -1
    await cluster.until(lambda: (victim.service.status().abstaining_until or 0) > 0, "an answer of q others")
    until = victim.service.status().abstaining_until
    assert until is not None
    await cluster.until(lambda: victim.height > until + 1 and signs(victim), "voting again")
    for height in range(until - 1, until + 1):
        signers = {
            s.signer for s in cluster.nodes[0].running.ledger.header_row(height).certificate.signatures
        }
        assert victim.key.public_key not in signers, f"it signed height {height} of {until}"


async def test_damaged_journal_is_set_aside_and_the_node_abstains(cluster: LocalCluster) -> None:
    victim = cluster.nodes[1]
    await victim.stop()
    [segment] = (victim.home / "journal").glob("*.journal")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0x10
    segment.write_bytes(bytes(data))
    await victim.start()
    assert victim.running.replica.abstaining
    assert (victim.home / "journal.lost").is_dir()
    await cluster.until(lambda: signs(victim), "voting again")


async def test_journal_restored_beside_a_newer_ledger_is_noticed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    victim = cluster.nodes[3]
    await victim.stop()
    shutil.copytree(victim.home / "journal", tmp_path / "backup")
    await victim.start()
    await grows(cluster)
    await victim.stop()
    shutil.rmtree(victim.home / "journal")
    shutil.copytree(tmp_path / "backup", victim.home / "journal")
    await victim.start()
    assert victim.running.replica.abstaining


async def test_whole_home_restored_is_noticed_by_the_own_commits_of_others_blocks(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    victim = cluster.nodes[3]
    await victim.stop()
    shutil.copytree(victim.home, tmp_path / "backup")
    await victim.start()
    await cluster.until(lambda: signs(victim), "voting")
    voted_from = victim.height
    first = cluster.nodes[0]

    def served_in(height: int) -> bool:
        certified = first.running.ledger.certified_block(height)
        last = None if certified is None else certified.block.last_commit
        return last is not None and victim.key.public_key in {item.signer for item in last.signatures}

    await cluster.until(
        lambda: any(served_in(height) for height in range(voted_from + 2, first.height + 1)),
        "a last-commit with its commit",
    )
    await victim.stop()
    shutil.rmtree(victim.home)
    shutil.copytree(tmp_path / "backup", victim.home)
    await victim.start()
    await cluster.until(lambda: victim.running.replica.abstaining, "noticing its own commits")
    await cluster.until(lambda: signs(victim), "voting again once it knows how far it may have signed")


async def test_wiped_home_with_its_key_catches_up_and_votes_again(cluster: LocalCluster) -> None:
    victim = cluster.nodes[0]
    await victim.stop()
    shutil.rmtree(victim.home)
    await victim.start()
    assert victim.running.replica.abstaining
    await cluster.until(lambda: signs(victim) and victim.height >= cluster.nodes[1].height - 1, "its return")


async def test_torn_tail_is_cut_and_nothing_is_abstained_from(cluster: LocalCluster) -> None:
    victim = cluster.nodes[1]
    await victim.stop()
    [segment] = (victim.home / "journal").glob("*.journal")
    with segment.open("ab") as file:
        file.write(b"\xc6\x9bJF torn by the power")
    await victim.start()
    assert not victim.running.replica.abstaining
    await cluster.until(lambda: signs(victim), "voting")


async def test_failing_journal_stops_the_node_and_the_others_go_on(cluster: LocalCluster) -> None:
    victim = cluster.nodes[2]
    runtime = victim.running
    sent_before = runtime.transport.metrics.messages_sent

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    runtime.journal._file.append = full  # type: ignore[method-assign, union-attr]
    with pytest.raises(JournalFailed, match="stops before it signs"):
        await runtime.failed
    assert runtime.transport.metrics.messages_sent >= sent_before
    assert not victim.service.health().live
    victim.runtime = None
    await runtime.close()
    await grows(cluster)


def planted(_: Instant) -> Input:
    raise InvariantViolation("planted")


async def test_broken_invariant_stops_the_node(cluster: LocalCluster) -> None:
    victim = cluster.nodes[2]
    runtime = victim.running
    runtime.post(planted)
    with pytest.raises(InvariantViolation, match="planted"):
        await runtime.failed
    victim.runtime = None
    await runtime.close()
    await grows(cluster)


async def test_two_down_halt_the_chain_and_nothing_is_lost(cluster: LocalCluster) -> None:
    """PROTOCOL 7.3: more than f down: it halts, loses nothing, and resumes."""
    first, second = cluster.nodes[:2]
    await cluster.nodes[2].stop()
    await cluster.nodes[3].stop()
    raw = cluster.signed(Transfer(second.key.address, 5), first.key)
    outcome = await first.service.submit(raw)
    assert outcome.id is not None
    transaction_id = outcome.id
    height = first.height
    status = await first.service.wait_committed(transaction_id, 1_500)
    assert status.state == "pending"
    assert first.height <= height + 1
    await cluster.nodes[2].start()
    await cluster.until(lambda: first.running.ledger.locate(transaction_id) is not None, "its commit", 40)
