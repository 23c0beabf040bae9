"""A running member: command line, keys, disk, ledger, HTTP interface and explorer."""
