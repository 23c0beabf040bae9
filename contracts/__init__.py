"""The state transition: what a block of transactions does to accounts, trades and credit."""
