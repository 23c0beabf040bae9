"""Key files: owner only, never overwritten, honest errors."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consensus.ed25519 import Ed25519Verifier
from node.errors import KeyStoreError
from node.keystore import KeyPair, new_key_pair, read_key, write_key


def test_a_key_comes_back_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    key, path = new_key_pair(), tmp_path / "made" / "node.key"
    write_key(path, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = read_key(path)
    assert (found.seed, found.public_key, found.address) == (key.seed, key.public_key, key.address)


def test_a_key_signs_by_rfc_8032() -> None:
    key = KeyPair(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    assert Ed25519Verifier().verify(key.public_key, b"text", key.sign(b"text"))


def test_new_keys_differ() -> None:
    assert new_key_pair().seed != new_key_pair().seed


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path, KeyPair(bytes(32)))
    with pytest.raises(KeyStoreError, match="never overwritten"):
        write_key(path, new_key_pair())
    assert read_key(path).seed == bytes(32)


def test_a_passphrase_is_needed_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path, KeyPair(bytes(32)), "open sesame")
    assert read_key(path, "open sesame").seed == bytes(32)
    with pytest.raises(KeyStoreError, match="passphrase is wrong"):
        read_key(path, "open barley")
    with pytest.raises(KeyStoreError, match="needs a passphrase"):
        read_key(path)


def test_an_open_key_refuses_a_passphrase(tmp_path: Path) -> None:
    write_key(tmp_path / "key", new_key_pair())
    with pytest.raises(KeyStoreError, match="not encrypted"):
        read_key(tmp_path / "key", "needless")


def test_files_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path, new_key_pair())
    for mode in (0o640, 0o604, 0o620, 0o601):
        path.chmod(mode)
        with pytest.raises(KeyStoreError, match="chmod 600"):
            read_key(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyStoreError, match="no readable key"):
        read_key(path)


def test_another_kind_of_key_is_told(tmp_path: Path) -> None:
    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "key"
    path.write_bytes(pem)
    path.chmod(0o600)
    with pytest.raises(KeyStoreError, match="another kind"):
        read_key(path)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="cgpbft init"):
        read_key(tmp_path / "none")


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_no_rotten_bit_makes_another_key(tmp_path: Path, passphrase: str | None) -> None:
    path, key = tmp_path / "node.key", KeyPair(bytes(range(32)))
    write_key(path, key, passphrase)
    whole = path.read_bytes()
    step = 8 if passphrase is None else 331  # deriving a key from a passphrase takes long
    for place in range(0, len(whole) * 8, step):
        bit = place // step % 8 if passphrase is None else place % 8
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << bit
        path.write_bytes(bytes(flipped))
        seeds = {key.seed, None}
        try:
            found: bytes | None = read_key(path, passphrase).seed
        except KeyStoreError as error:
            found, seeds = None, {None} if str(path) in str(error) else set()
        assert found in seeds


def test_a_key_of_another_tool_needs_no_first_line(tmp_path: Path) -> None:
    path, key = tmp_path / "node.key", KeyPair(bytes(range(32)))
    write_key(path, key)
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    assert read_key(path).seed == key.seed
