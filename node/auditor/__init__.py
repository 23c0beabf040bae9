"""A second implementation of the ledger's rules, written from docs/PROTOCOL.md and docs/annex/ (PROTOCOL 12, S6).

It replays every block from genesis and shares no code with the node: what both get wrong alike is a flaw of the text.
"""
