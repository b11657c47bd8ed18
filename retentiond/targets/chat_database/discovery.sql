-- Which accounts a database has. The first statement reads the catalogue alone, which every role may.

-- name: schemas
-- The schemas that have each of these tables with its column.
SELECT n.nspname AS schema
FROM unnest($1::text[], $2::text[]) AS wanted (relation, attribute)
JOIN pg_class c ON c.relname = wanted.relation AND c.relkind IN ('r', 'p')
JOIN pg_namespace n ON n.oid = c.relnamespace AND left(n.nspname, 3) <> 'pg_'
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted.attribute AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY n.nspname
HAVING count(*) = cardinality($1::text[])
ORDER BY n.nspname
LIMIT $3

-- name: missing_rights
-- The rights that this role lacks to read a column, as a GRANT names them, and the role.
SELECT quote_ident(current_user) AS role, array_remove(ARRAY[
  CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN format('USAGE ON SCHEMA %I', n.nspname) END,
  CASE WHEN NOT has_column_privilege(c.oid, $3, 'SELECT')
    THEN format('SELECT (%I) ON %I.%I', $3, n.nspname, c.relname) END
], NULL) AS rights
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2

-- name: accounts
-- The different values of the column, each by one step in its index.
WITH RECURSIVE found AS (
  (SELECT t.{column} AS value FROM {table} t WHERE t.{column} IS NOT NULL ORDER BY 1 LIMIT 1)
  UNION ALL
  SELECT (SELECT t.{column} FROM {table} t WHERE t.{column} > found.value ORDER BY 1 LIMIT 1)
  FROM found WHERE found.value IS NOT NULL
)
SELECT value::text AS value FROM found WHERE value IS NOT NULL LIMIT $1
