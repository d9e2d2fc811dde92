"""The state machine, as a test for mutants: the same steps each time, and none made shorter once they fail."""

from __future__ import annotations

import pytest
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.test_state_machine import STEPS, Shopping, profile


@pytest.mark.timeout(600)
def test_the_engine_does_what_the_model_does() -> None:
    once = profile(STEPS, derandomize=True, phases=(Phase.generate,), report_multiple_bugs=False)
    run_state_machine_as_test(Shopping, settings=once)
