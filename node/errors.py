"""What a person running a node can be told; each text says what was wrong and what to do."""

from consensus.errors import ProtocolError


class NodeError(ProtocolError):
    """Base of everything the node's own rooms raise on purpose."""


class ConfigurationError(NodeError):
    """config.toml, an environment variable or a flag is wrong."""


class KeyStoreError(NodeError):
    """A key file is missing, unreadable, too widely readable or wrongly encrypted."""


class JoinRefused(NodeError):
    """The chain does not admit this key; nothing but an operator or another configuration changes that."""


class FormationError(NodeError):
    """No chain can be formed or joined as things stand; nothing was signed that binds more than before."""
