"""Load tests that end in a verdict, and measurements. Run them with `make load` and `make bench`."""
