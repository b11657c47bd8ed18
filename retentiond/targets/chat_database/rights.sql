-- Rights that this role lacks on the tables of a layout, as GRANT names them. No statement reads a row of these tables.

-- name: role
SELECT quote_ident(current_user)

-- name: quote
SELECT quote_ident($1)

-- name: surroundings
-- Missing rights besides those on tables: on their schema, and on temporary tables for the survey.
SELECT format('USAGE ON SCHEMA %I', nspname) AS rights FROM pg_namespace
WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL
SELECT format('TEMPORARY ON DATABASE %I', current_database())
WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')

-- name: unread_columns
-- The columns among these ($1: the tables, $2: their names) that may not be read.
SELECT c.relation, quote_ident(c.name) AS name
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS c (relation, name, place)
WHERE NOT has_column_privilege(c.relation::oid, c.name, 'SELECT')
ORDER BY c.place

-- name: table_rights
-- The name of each table, and the rights on it; locking rows requires the right to update any column.
SELECT c.oid::bigint AS relation, format('%I.%I', n.nspname, c.relname) AS name,
       has_table_privilege(c.oid, 'DELETE') AS may_delete, has_any_column_privilege(c.oid, 'UPDATE') AS may_lock
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1::bigint[]::oid[])

-- name: may_count_rows
-- Whether this role may read all rows of a table by these columns; no row if the table does not exist.
SELECT bool_and(has_column_privilege(c.oid, a.attnum, 'SELECT')) AND NOT row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY($3::text[]) AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
GROUP BY c.oid HAVING count(*) = cardinality($3::text[])
