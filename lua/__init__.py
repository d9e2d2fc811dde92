"""The scripts that change stock: one atomic transition a file, run by `engine.scripts`."""
