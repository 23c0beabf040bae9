"""H of the protocol: SHA-256 with a domain tag (PROTOCOL, preamble).

``H(tag, data) = SHA-256(len(tag) as one byte || tag || data)``; the tags are listed in docs/ANNEX.md.
"""

import functools
import hashlib
from typing import Final

from consensus.types import Address

TAGS: Final = (
    "address",
    "block.header",
    "certificate",
    "delegates",
    "discard",
    "genesis",
    "groups",
    "list",
    "merkle.empty",
    "merkle.leaf",
    "merkle.node",
    "message",
    "parameters",
    "seed",
    "seed.member",
    "state.bucket",
    "state.key",
    "state.leaf",
    "state.node",
    "transaction.body",
    "transaction.full",
)

KEYS_REMEMBERED: Final = 16_384
"""As many as a chain may have members, about 4 MiB: every transaction is of keys that came before."""

_PREFIXED = {tag: hashlib.sha256(bytes([len(tag)]) + tag.encode()) for tag in TAGS}


def tagged_hash(tag: str, data: bytes) -> bytes:
    """H with domain ``tag``; `KeyError` for a tag that is not listed."""
    state = _PREFIXED[tag].copy()
    state.update(data)
    return state.digest()


@functools.lru_cache(maxsize=KEYS_REMEMBERED)
def address_of(public_key: bytes) -> Address:
    """a_i: first 20 bytes of H(public key), PROTOCOL 1.3."""
    return tagged_hash("address", public_key)[:20]
