"""What a person has acknowledged: gaps in the ledger, rows taken out of it, problems that lie in its past."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

SCHEMA = (
    # `what` is the text of a problem, the row that was taken out, or a gap in words. A gap has the positions from `after` up to
    # (epoch, seq) with its chain hash, and where it was settled: see engine/gaps.py.
    """
    CREATE TABLE acknowledged (
        partition text NOT NULL,
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL,
        at_ms bigint NOT NULL,
        actor text NOT NULL,
        reason text NOT NULL,
        what text NOT NULL,
        after_epoch bigint,
        after_seq bigint,
        epoch bigint,
        seq bigint,
        payload_hash bytea,
        chain_hash bytea,
        settled_seq bigint
    )
    """,
    "CREATE INDEX acknowledged_kind ON acknowledged (partition, kind)",
)


def upgrade() -> None:
    for statement in SCHEMA:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("The ledger isn't taken away by a program")
