-- The reason why rows were not deleted.

-- name: trigger_of
-- The trigger that calls one of these functions ($1, the innermost first), first on the table of the deletion ($2) or its
-- partitions, then on other tables.
SELECT t.tgname AS name, format('%s.%s', n.nspname, c.relname) AS table_name
FROM unnest($1::text[]) WITH ORDINALITY AS called (signature, place)
JOIN pg_trigger t ON t.tgfoid = to_regprocedure(called.signature) AND NOT t.tgisinternal
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY called.place,
         (t.tgrelid = to_regclass($2)
          OR to_regclass($2) IN (SELECT a.relid FROM pg_partition_ancestors(t.tgrelid) a)) IS TRUE DESC,
         t.tgname
LIMIT 1
