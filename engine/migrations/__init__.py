"""The schema in Postgres, revision by revision. `engine.database.SCHEMA` names the newest."""
