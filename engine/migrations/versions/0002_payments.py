"""Layout 2: each payment's reservation, every customer counted, what was shipped of an order.

The projections are emptied, and made anew from the first event of the ledger by the next keeper, before it opens the gate.
Snapshots hold hashes of layout 1, so they prove nothing about layout 2 and go.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = (
    # Kept for good: one payment pays for one reservation.
    """
    CREATE TABLE payments (
        partition text NOT NULL,
        payment_id text NOT NULL,
        reservation_id text NOT NULL,
        at_ms bigint NOT NULL,
        PRIMARY KEY (partition, payment_id)
    )
    """,
    "CREATE INDEX payments_at ON payments (at_ms)",
    "TRUNCATE projection_position, reservations, skus, buyers, checkouts, answers, snapshots, snapshot_entries",
    """
    CREATE OR REPLACE VIEW orders AS
    SELECT partition, id, record ->> 'user' AS user_name,
           CASE state WHEN 'committed' THEN 'allocated' ELSE state END AS state,
           record ->> 'lines' AS lines, coalesce(record ->> 'cancelled', '') AS cancelled_lines,
           record ->> 'payment_id' AS payment_id,
           to_timestamp((record ->> 'committed_ms')::bigint / 1000.0) AS committed_at,
           record ->> 'late' = '1' AS late,
           coalesce(record ->> 'fulfilled', '') AS fulfilled_lines
    FROM reservations
    WHERE record ->> 'payment_id' IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in SCHEMA:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("The ledger isn't taken away by a program")
