# mypy: disable-error-code="explicit-override"
"""What one real replica asked of its shell over a short simulated run, ready to be repeated on any disk."""

from dataclasses import dataclass, replace

from consensus.block import CertifiedBlock
from consensus.effects import Decide, Effect, Forget, Persist, Send, SentRecord
from consensus.inputs import HeightContext
from consensus.messages import ConsensusMessage, NewView, Proposal, ViewChange
from consensus.parameters import Parameters
from consensus.signing import Signer, Verifier
from network.simulation.cluster import PARAMETERS, Scenario, Simulation
from network.simulation.network import LinkQuality
from network.simulation.surroundings import Holder

RUN = Scenario(
    seed=0,
    seats=4,
    spare_members=0,
    liars=(),
    epoch_heights=None,
    faults=0,
    fault_phase_us=40_000_000,
    transaction_interval_us=1_000_000,
    blocks=1,
)
"""Four delegates, honest and never down, on links that lose a third of all messages: blocks and view changes."""
POOR_LINKS = LinkQuality(greatest_delay_us=50_000, loss_bp=3_000)


@dataclass(frozen=True)
class Recording:
    """The effects of one node that concern its disk and its voice, in order, and who it is."""

    effects: tuple[Effect, ...]
    """`Persist`, `Send`, `Decide` and `Forget` only."""
    contexts: tuple[HeightContext, ...]
    """By height, from 1 on: what deciding it needs."""
    signer: Signer
    signers: tuple[Signer, ...]
    """Of all delegates: to tempt the node with what the others might have signed."""
    verifier: Verifier
    chain_id: bytes
    parameters: Parameters
    genesis_ms: int
    proposals: tuple[Proposal, ...]
    """Fresh proposals of all nodes, each height's first."""

    @property
    def view_changes(self) -> int:
        """View-changes that the node signed."""
        return sum(isinstance(e, Send) and isinstance(e.message, ViewChange) for e in self.effects)


class _Recorder(Simulation):
    """A run that notes what its nodes do."""

    def __init__(self, scenario: Scenario) -> None:
        self.effects: dict[int, list[Effect]] = {}
        self.contexts: dict[int, list[HeightContext]] = {}
        self.proposals: dict[int, Proposal] = {}
        super().__init__(scenario)
        for node in self.nodes:
            self.contexts[node.index] = [node.ledger.context()]

    def performed(self, node: Holder, effect: Effect) -> None:
        if isinstance(effect, Persist | Send | Decide | Forget):
            self.effects.setdefault(node.index, []).append(effect)
        if (
            isinstance(effect, Send)
            and isinstance(effect.message, Proposal)
            and effect.message.header.view == 0
        ):
            self.proposals.setdefault(effect.message.vote.height, effect.message)
        super().performed(node, effect)

    def applied(self, node: Holder, certified: CertifiedBlock) -> None:
        self.contexts[node.index].append(self.nodes[node.index].ledger.context())
        super().applied(node, certified)


def record(seed: int, *, milliseconds: int = 40_000) -> Recording:
    """The run of ``seed``; the node with the most view-changes, since those have the most to lose."""
    run = _Recorder(replace(RUN, seed=seed, fault_phase_us=milliseconds * 1_000))
    run.network.quality = POOR_LINKS
    outcome = run.run()
    if outcome.finding is not None:
        raise RuntimeError(f"the run to record has a finding of its own: {outcome.finding}")
    nodes = [node for node in run.honest if node.index in run.effects]
    chosen = max(nodes, key=lambda node: _weight(run.effects[node.index]))
    return Recording(
        effects=tuple(run.effects[chosen.index]),
        contexts=tuple(run.contexts[chosen.index]),
        signer=chosen.signer,
        signers=tuple(node.signer for node in run.nodes),
        verifier=chosen.around.verifier,
        chain_id=chosen.around.chain_id,
        parameters=PARAMETERS,
        genesis_ms=run.contexts[chosen.index][0].parent_time_ms,
        proposals=tuple(run.proposals[height] for height in sorted(run.proposals)),
    )


def _weight(effects: list[Effect]) -> tuple[int, int]:
    signed = [
        r.message for e in effects if isinstance(e, Persist) for r in e.records if isinstance(r, SentRecord)
    ]
    return sum(isinstance(message, ViewChange | NewView) for message in signed), len(signed)


def signer_and_place(message: ConsensusMessage) -> tuple[bytes, int, int, str, bytes]:
    """Key, height, view, kind and what was signed of a message."""
    core = message.vote if isinstance(message, Proposal) else message
    digest = core.content() if isinstance(core, ViewChange | NewView) else core.digest
    return core.signer, core.height, core.view, type(core).__name__, digest
