-- Two roles for Stockade's database, with no right that their work doesn't need. docs/deploy/README.md says how to use them.
--
-- The owner of the tables runs this file after `stockade migrate`, and once more after each later one:
--     psql -v ON_ERROR_STOP=1 -f docs/deploy/postgres-roles.sql postgresql://OWNER@HOST/DATABASE
-- To run it again changes nothing. An owner who may not create roles has somebody else create the two beforehand.
-- They come without a password, and so can't log in where one is asked for: \password stockade_service

BEGIN;

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['stockade_service', 'stockade_oncall'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', current_schema(), role);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), role);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema(), role);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), role);
        -- A table of a later migration can be read at once. To write it, the service needs what this file then grants.
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO %I', current_schema(), role);
    END LOOP;
    -- What everybody may by default: make temporary tables, and before PostgreSQL 15 tables that stay.
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
END
$$;

-- The record. Rows are only ever added, so nobody but the owner may change or remove one.
GRANT INSERT ON ledger TO stockade_service;

-- How far the record goes. The row is locked (which asks for UPDATE), moved, and never removed.
GRANT INSERT, UPDATE (epoch, seq, payload_hash, chain_hash) ON ledger_position TO stockade_service;

-- What is made out of the record. To have it made anew, the owner empties these tables: see docs/durability.md.
GRANT INSERT, UPDATE ON projection_position, reservations TO stockade_service;
GRANT INSERT, UPDATE, DELETE ON skus, buyers, checkouts, answers TO stockade_service;
GRANT INSERT ON payments TO stockade_service;

-- Snapshots are thinned out as they get old; their entries go with them, by the foreign key.
GRANT INSERT, DELETE ON snapshots TO stockade_service;
GRANT INSERT ON snapshot_entries TO stockade_service;

-- What a person has acknowledged. Gaps in the record are settled by `stockade repair`, which the owner runs.
GRANT INSERT ON acknowledged TO stockade_service;

COMMIT;
