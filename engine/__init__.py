"""The domain: reservations, stock, expiry and the ledger. It knows Redis and nothing of HTTP."""
