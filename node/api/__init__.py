"""The HTTP API of a node: aiohttp in front of `node.service.NodeService`, nothing of the ledger, pool or replica.

How an endpoint is added:

1. Say what it answers: a struct in `schema` (the client decodes the same struct), and if it takes a body a request
   struct there. Money is a string of nano-units, credit an integer of milli-credits, bytes are lower-case hex.
2. Render it: a function in `views` from the service's value to that struct.
3. Handle it: a coroutine in the `endpoints_*` module of its subject. Read the query through `query.Query` (which
   refuses what it does not know), the body through `body.read_json`; raise `Problem(code, detail)` for a refusal.
4. Route it: a row of `routes.ROUTES`, with `signs=True` if the node acts with its own key (a token is then needed
   beyond loopback).
5. A new refusal is a row of `problems.CATALOGUE`, the one table from codes to status, title and what to do.
6. Ask it from `node.client`, and test it in tests/unit/node/api with every code that it can answer.
"""
