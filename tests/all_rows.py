"""Every row of every script."""

from __future__ import annotations

from tests import edge_rows, order_rows, payment_rows, script_rows

ROWS = [*script_rows.ROWS, *edge_rows.ROWS, *payment_rows.ROWS, *order_rows.ROWS]
