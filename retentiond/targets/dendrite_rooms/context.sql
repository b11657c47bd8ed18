-- The tables of dendrite's room server.

-- name: tables_there
-- The tables that this role does not see in this database.
SELECT pg_catalog.current_database() AS database, CURRENT_USER AS role,
       ARRAY(SELECT t.name FROM (VALUES ('roomserver_rooms'), ('roomserver_events'), ('roomserver_event_json'),
                                         ('roomserver_membership')) AS t (name)
             WHERE pg_catalog.to_regclass(t.name) IS NULL) AS missing

-- name: ledger_tables
-- The tables of the ledger that a survey reads, which a plan may find missing.
SELECT pg_catalog.to_regclass('retentiond.room_empty') IS NOT NULL AS seen,
       pg_catalog.to_regclass('retentiond.hold_in_force') IS NOT NULL AS holds,
       pg_catalog.to_regclass('retentiond.pass') IS NOT NULL AS passes
