"""One module for each part of the contract. A view reads the request, calls the engine, dumps the answer."""
