"""What locust takes when it is given no scenario: real baskets.

locust -f loadtests/locustfile.py --headless -u 32 -H http://127.0.0.1:8000
"""

from __future__ import annotations

from loadtests.scenarios.baskets import Household

__all__ = ["Household"]
