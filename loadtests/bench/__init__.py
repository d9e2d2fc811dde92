"""`make bench`: measurements on private servers, side by side in one run, with a table of ratios at the end.

Each side of a comparison runs with the same settings, on the same cores, under the same caller, and in turn with the
others (A B C A B C …), so that whatever slows the machine down meanwhile slows all of them.
"""
