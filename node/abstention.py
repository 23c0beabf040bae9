"""A lost journal: how far may this key have signed? Asked from the other delegates, believed with proof (PROTOCOL 6.5).

q other delegates have to name their highest certified height with its certificate. An answer counts once this node's
own ledger holds that height with the same block hash, so that nobody can name a height that does not exist; the node
catches up meanwhile. The largest of q such answers is M; nothing is signed at heights up to M + 2. Below four
delegates, where q others do not exist, all others are asked; a chain's only delegate has nobody to ask and needs a
`resume`.
"""

from collections.abc import Callable
from typing import Final

from consensus.types import PublicKey
from network.links import Links
from network.wire import CertifiedHeightRequest, CertifiedHeightResponse
from node.ledger import Ledger

ASK_MS: Final = 1_000
"""How often the others are asked while answers are missing."""


class Abstention:
    """Asks while the replica abstains without knowing how far, and answers those who ask."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        links: Links,
        own_key: PublicKey,
        randomness: Callable[[int], bytes],
        learned: Callable[[int], None],
    ) -> None:
        """``learned`` takes M, once."""
        self._ledger = ledger
        self._links = links
        self._own_key = own_key
        self._nonce = randomness(16)
        self._learned = learned
        self._answers: dict[PublicKey, CertifiedHeightResponse] = {}
        self.asking = False

    def begin(self) -> None:
        """The journal is lost: ask until q answers are proven."""
        self.asking = True
        self._answers.clear()
        self.tick()

    def tick(self) -> None:
        """Ask (again) and look whether the answers have become provable."""
        if not self.asking:
            return
        self._links.broadcast(self._others(), CertifiedHeightRequest(self._nonce))
        self._settle()

    def request(self, sender: PublicKey, request: CertifiedHeightRequest) -> None:
        """Tell this ledger's height, with its certificate."""
        ledger = self._ledger
        self._links.send(sender, CertifiedHeightResponse(request.nonce, ledger.height, ledger.certificate))

    def response(self, sender: PublicKey, response: CertifiedHeightResponse) -> None:
        """Keep a delegate's answer to this process's question; a later one replaces it only once it is proven."""
        if not self.asking or response.nonce != self._nonce or sender not in self._others():
            return
        held = self._answers.get(sender)
        if held is None or not self._is_proven(held) or self._is_proven(response):
            self._answers[sender] = response
        self._settle()

    def _settle(self) -> None:
        others = self._others()
        proven = [
            answer.height
            for key, answer in self._answers.items()
            if key in others and self._is_proven(answer)
        ]
        needed = max(1, min(self._ledger.context.delegates.quorum, len(others)))
        if self.asking and len(proven) >= needed:
            self.asking = False
            self._learned(max(proven))

    def _is_proven(self, answer: CertifiedHeightResponse) -> bool:
        if answer.height > self._ledger.height:
            return False
        if answer.height == 0:
            return answer.certificate is None
        if answer.certificate is None or answer.certificate.height != answer.height:
            return False
        return answer.certificate.digest == self._ledger.header_row(answer.height).header.digest()

    def _others(self) -> tuple[PublicKey, ...]:
        return tuple(
            delegate.public_key
            for delegate in self._ledger.context.delegates
            if delegate.public_key != self._own_key
        )
