"""HTTP only: views, schemas, tokens, problems. It knows Flask and the engine, and nothing of Redis."""
