"""What buyers were told, judged against the ledger and by itself. Only the load kit, chaos and tests need it; the product doesn't ship it."""
