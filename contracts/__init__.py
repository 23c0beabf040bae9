"""Pure contract engine: transactions in, receipts, events, state root and delegate sets out (PROTOCOL 1-5, 7, 9)."""
