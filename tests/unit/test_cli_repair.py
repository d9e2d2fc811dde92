"""What `stockade repair` says at its end."""

from __future__ import annotations

import pytest

from engine.cli_repair import NOTHING, _outcome


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_gap_that_is_not_settled_is_not_called_nothing(dry_run: bool) -> None:
    assert _outcome(0, 0, False, None, dry_run) == NOTHING
    assert _outcome(0, 0, True, None, dry_run) == "nothing could be mended"
