"""The history checker: judges from outside what clients saw of a network and what its ledger holds in the end."""
