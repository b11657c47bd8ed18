-- In ClickHouse's dialect `{name:Type}` is a server-side parameter, for identifiers, too. A statement with a condition uses
-- no alias that could be the name of a column: in WHERE the alias would win.

-- name: table
-- The table's engine and keys; no row if it does not exist or is hidden from this user.
SELECT engine, engine_full, partition_key, sorting_key
FROM system.tables WHERE database = {database:String} AND name = {table:String}

-- name: columns
SELECT name, type FROM system.columns
WHERE database = {database:String} AND table = {table:String} AND name IN {names:Array(String)}

-- name: readonly_replica
-- 1 if the replica accepts no writes.
SELECT max(is_readonly) AS readonly FROM {replicas} WHERE database = {database:String} AND table = {table:String}

-- name: count
-- The number of rows that fit the condition, as readers see them.
SELECT count() FROM {rows} WHERE {condition}

-- name: oldest
-- The day of the oldest of these rows, in the column's own zone; no row without one.
SELECT toString(min(toDate32({date_column:Identifier}))) AS day FROM {copies} WHERE {condition} HAVING count() > 0

-- name: chats
-- The chats of these rows, in order.
SELECT DISTINCT {thread_column:Identifier} AS _chat FROM {copies} WHERE {condition} ORDER BY _chat LIMIT {most:UInt32}

-- name: hidden
-- Rows that a lightweight DELETE hides from readers but that still exist.
SELECT count() FROM {rows} WHERE {condition} AND _row_exists = 0 SETTINGS apply_deleted_mask = 0

-- name: parts
-- Each part in which all rows fit the condition, by the server's count of rows: a user may not see every row.
SELECT p.name AS part, p.rows AS rows
FROM (SELECT _part, count() AS _matching FROM {database:Identifier}.{table:Identifier} WHERE {condition} GROUP BY _part) AS m
JOIN (SELECT name, rows FROM system.parts WHERE database = {database:String} AND table = {table:String} AND active) AS p
ON m._part = p.name
WHERE m._matching = p.rows
ORDER BY part

-- name: has_part
-- 1 if a part of this name is active.
SELECT count() > 0 AS found FROM system.parts
WHERE database = {database:String} AND table = {table:String} AND active AND name = {part:String}

-- name: partitions
-- Each partition with these rows, and their number.
SELECT _partition_id, count() AS _matching FROM {copies} WHERE {condition} GROUP BY _partition_id ORDER BY _partition_id

-- name: patched
-- 1 if patch parts exist, which change the rows of other parts.
SELECT count() > 0 AS patched FROM {parts}
WHERE database = {database:String} AND table = {table:String} AND active AND startsWith(partition_id, 'patch-')

-- name: drop_part
-- Exactly that part: if it was merged or rewritten meanwhile, it has another name.
ALTER TABLE {database:Identifier}.{table:Identifier} DROP PART {part:String}

-- name: delete
ALTER TABLE {database:Identifier}.{table:Identifier} {on_cluster} DELETE {in_partition} WHERE {mark:String} != '' AND {condition}

-- name: mutations
-- Mutations of the table that are not done, the oldest first, and those with the mark.
SELECT {node} AS node, mutation_id, position(command, {mark:String}) > 0 AS ours, is_done AS done, parts_to_do,
       latest_fail_reason AS reason, toString(parts_postpone_reasons) AS postponed, toString(create_time) AS created
FROM {mutations}
WHERE database = {database:String} AND table = {table:String} AND (NOT is_done OR position(command, {mark:String}) > 0)
ORDER BY create_time, mutation_id

-- name: merges
-- The progress of rewriting the table's parts, as a number that grows.
SELECT toString(sum(rows_read)) || ' ' || toString(count()) AS progress
FROM {merges} WHERE database = {database:String} AND table = {table:String} AND is_mutation

-- name: at_work
-- The number of the table's parts that are being rewritten.
SELECT count() AS parts FROM {merges} WHERE database = {database:String} AND table = {table:String} AND is_mutation

-- name: kill
KILL MUTATION {on_cluster} WHERE database = {database:String} AND table = {table:String} AND position(command, {mark:String}) > 0

-- name: old_parts
-- Parts that were replaced or dropped, whose files are still there.
SELECT count() AS found FROM {parts} WHERE database = {database:String} AND table = {table:String} AND NOT active

-- name: detached_parts
SELECT count() AS found FROM {detached} WHERE database = {database:String} AND table = {table:String}

-- name: frozen_parts
SELECT countIf(is_frozen) AS found FROM {parts} WHERE database = {database:String} AND table = {table:String}

-- name: policies
-- The row policies of this user; no row for a user who sees all rows.
SELECT trimLeft(substring(explain, position(explain, ':') + 1)) AS filter
FROM (EXPLAIN actions = 1 SELECT {account_column:Identifier} FROM {rows})
WHERE position(explain, 'Row level filter column:') > 0

-- name: views
-- Materialized views that read from the table: they keep their own rows.
SELECT concat(pair.1, '.', pair.2) AS name
FROM (SELECT arrayJoin(arrayZip(dependencies_database, dependencies_table)) AS pair FROM system.tables
      WHERE database = {database:String} AND name = {table:String})
ORDER BY name

-- name: buffers
-- Buffers that write into the table later.
SELECT concat(database, '.', name) AS name FROM system.tables
WHERE engine = 'Buffer' AND position(engine_full, {table:String}) > 0
ORDER BY name

-- name: clusters
-- The servers of each cluster, in the order in which clusterAllReplicas numbers them.
SELECT cluster, shard_num, replica_num, host_name, host_address, port, is_local FROM system.clusters
ORDER BY cluster, shard_num, replica_num LIMIT 100000

-- name: macros
SELECT macro, substitution FROM system.macros

-- name: distributed
-- Distributed tables that may read from the table.
SELECT concat(database, '.', name) AS name, engine_full FROM system.tables
WHERE engine = 'Distributed' AND position(engine_full, {table:String}) > 0
ORDER BY database, name

-- name: replica
-- This server's replica of a replicated table; no row for another table.
SELECT total_replicas, is_readonly FROM system.replicas WHERE database = {database:String} AND table = {table:String}

-- name: identity
SELECT hostName() AS host, tcpPort() AS port, toString(serverUUID()) AS server

-- name: holders
-- Each server of a cluster, and whether it has the table.
SELECT _shard_num AS node, hostName() AS host, tcpPort() AS port, toString(serverUUID()) AS server,
       countIf(database = {database:String} AND name = {table:String}) AS holds
FROM clusterAllReplicas({asked:String}, system.tables) GROUP BY node, host, port, server

-- name: answering
-- The servers of the cluster that answer.
SELECT DISTINCT _shard_num AS node FROM clusterAllReplicas({cluster:String}, system.one)

-- name: replicas_of_cluster
-- The replicated tables of the cluster's servers: those with one path are copies of one another.
SELECT _shard_num AS node, zookeeper_path, total_replicas, is_readonly FROM clusterAllReplicas({cluster:String}, system.replicas)
WHERE database = {database:String} AND table = {table:String}

-- name: count_copies
-- The number of matching rows on each server of the cluster; no row for a server without one.
SELECT _shard_num, count() FROM {copies} WHERE {condition} GROUP BY _shard_num

-- name: members
-- The size of a cluster.
SELECT uniqExact(shard_num) AS shards, count() AS replicas FROM system.clusters WHERE cluster = {cluster:String}

-- name: overview
-- All rows of an account, and the day of the oldest, in the column's own zone.
SELECT count() AS items, if(items = 0, '', toString(min(toDate32({date_column:Identifier})))) AS oldest
FROM {rows} WHERE {condition}
