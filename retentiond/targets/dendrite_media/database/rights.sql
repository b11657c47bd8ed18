-- Dendrite's tables, and the privileges on them.

-- name: tables_there
-- Those of dendrite's two tables that this role sees, and the names for a message.
SELECT current_database()::text AS database, current_user::text AS role,
       to_regclass('mediaapi_media_repository') IS NOT NULL AS media,
       to_regclass('mediaapi_thumbnail') IS NOT NULL AS thumbnails

-- name: may_make_temporary
-- Whether this role may create temporary tables and functions, and the names that a GRANT needs.
SELECT has_database_privilege(current_database(), 'TEMPORARY') AS allowed, quote_ident(current_database()) AS database,
       quote_ident(current_user) AS role

-- name: may_delete
-- Whether this role has every privilege on dendrite's tables that a pass needs.
SELECT coalesce(bool_and(has_table_privilege(c.oid, 'SELECT, INSERT') AND has_table_privilege(c.oid, 'DELETE')
                         AND has_table_privilege(c.oid, 'UPDATE')), false)
FROM pg_class c
WHERE c.oid IN (to_regclass('mediaapi_media_repository'), to_regclass('mediaapi_thumbnail'))

-- name: owns_media
-- Whether this role may create an index on dendrite's media table.
SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = to_regclass('mediaapi_media_repository')

-- name: has_media
SELECT EXISTS (SELECT FROM mediaapi_media_repository)
