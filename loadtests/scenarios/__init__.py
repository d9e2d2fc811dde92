"""One locustfile for each scenario: `locust -f loadtests/scenarios/NAME.py`, or `make load SCENARIO=NAME`."""
