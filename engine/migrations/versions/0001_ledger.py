"""The ledger, its projections, and snapshots."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = (
    # The record: rows are only ever added. `user` is a reserved word, hence user_name. `counted` is null in events of the
    # first version. payload_hash is over the event as Redis has it, chain_hash over that and the chain before it.
    """
    CREATE TABLE ledger (
        partition text NOT NULL,
        epoch bigint NOT NULL,
        seq bigint NOT NULL,
        at_ms bigint NOT NULL,
        op text NOT NULL,
        actor text NOT NULL,
        user_name text NOT NULL,
        reservation_id text NOT NULL,
        lines text NOT NULL,
        deadline_ms bigint,
        payment_id text NOT NULL,
        reason text NOT NULL,
        request_id text NOT NULL,
        detail text NOT NULL,
        counted text,
        operation text NOT NULL,
        skus text[] NOT NULL,
        payload_hash bytea NOT NULL,
        chain_hash bytea NOT NULL,
        PRIMARY KEY (partition, epoch, seq)
    )
    """,
    "CREATE INDEX ledger_reservation ON ledger (reservation_id, epoch, seq) WHERE reservation_id <> ''",
    "CREATE INDEX ledger_user ON ledger (user_name, epoch, seq) WHERE user_name <> ''",
    "CREATE INDEX ledger_op ON ledger (op, epoch, seq)",
    "CREATE INDEX ledger_skus ON ledger USING gin (skus)",
    # How far the ledger goes. Whoever appends locks this row first: that makes one writer out of many processes.
    """
    CREATE TABLE ledger_position (
        partition text PRIMARY KEY,
        epoch bigint NOT NULL,
        seq bigint NOT NULL,
        payload_hash bytea NOT NULL,
        chain_hash bytea NOT NULL
    )
    """,
    # How far the projections below have followed the ledger, and what of its fold has no table of its own.
    """
    CREATE TABLE projection_position (
        partition text PRIMARY KEY,
        epoch bigint NOT NULL,
        seq bigint NOT NULL,
        clock_ms bigint NOT NULL,
        selling json NOT NULL
    )
    """,
    # `record` is the hash as Redis has it, or had it.
    """
    CREATE TABLE reservations (
        partition text NOT NULL,
        id text NOT NULL,
        state text NOT NULL,
        ended_ms bigint,
        record json NOT NULL,
        PRIMARY KEY (partition, id)
    )
    """,
    "CREATE INDEX reservations_open ON reservations (partition, state) WHERE ended_ms IS NULL",
    "CREATE INDEX reservations_ended ON reservations (partition, ended_ms) WHERE ended_ms IS NOT NULL",
    """
    CREATE TABLE skus (
        partition text NOT NULL,
        sku text NOT NULL,
        record json NOT NULL,
        PRIMARY KEY (partition, sku)
    )
    """,
    """
    CREATE TABLE buyers (
        partition text NOT NULL,
        sku text NOT NULL,
        user_name text NOT NULL,
        units bigint NOT NULL,
        PRIMARY KEY (partition, sku, user_name)
    )
    """,
    # Kept as long as Redis keeps the keys that they are the copy of.
    """
    CREATE TABLE checkouts (
        partition text NOT NULL,
        cart text NOT NULL,
        reservation_id text NOT NULL,
        at_ms bigint NOT NULL,
        PRIMARY KEY (partition, cart)
    )
    """,
    """
    CREATE TABLE answers (
        partition text NOT NULL,
        operation_id text NOT NULL,
        fingerprint text NOT NULL,
        answer text NOT NULL,
        at_ms bigint NOT NULL,
        PRIMARY KEY (partition, operation_id)
    )
    """,
    "CREATE INDEX checkouts_at ON checkouts (at_ms)",
    "CREATE INDEX answers_at ON answers (at_ms)",
    # For people and reports.
    """
    CREATE VIEW orders AS
    SELECT partition, id, record ->> 'user' AS user_name,
           CASE state WHEN 'committed' THEN 'allocated' ELSE state END AS state,
           record ->> 'lines' AS lines, coalesce(record ->> 'cancelled', '') AS cancelled_lines,
           record ->> 'payment_id' AS payment_id,
           to_timestamp((record ->> 'committed_ms')::bigint / 1000.0) AS committed_at,
           record ->> 'late' = '1' AS late
    FROM reservations
    WHERE record ->> 'payment_id' IS NOT NULL
    """,
    # What Redis held at one (epoch, seq), and what was off then compared with the fold of the ledger: nothing, if all is well.
    """
    CREATE TABLE snapshots (
        partition text NOT NULL,
        epoch bigint NOT NULL,
        seq bigint NOT NULL,
        taken_ms bigint NOT NULL,
        problems text[] NOT NULL,
        PRIMARY KEY (partition, epoch, seq)
    )
    """,
    """
    CREATE TABLE snapshot_entries (
        partition text NOT NULL,
        epoch bigint NOT NULL,
        seq bigint NOT NULL,
        kind text NOT NULL,
        name text NOT NULL,
        record json NOT NULL,
        PRIMARY KEY (partition, epoch, seq, kind, name),
        FOREIGN KEY (partition, epoch, seq) REFERENCES snapshots ON DELETE CASCADE
    )
    """,
)


def upgrade() -> None:
    for statement in SCHEMA:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("The ledger isn't taken away by a program")
