-- The conditions by which holds on accounts keep rows. {names} and $names are as in purge.sql; t is a top row, and h a hold.

-- name: held
-- Whether a hold in force covers the row.
EXISTS (SELECT FROM retentiond.hold_in_force h
        WHERE h.kind = 'account' AND h.subject = ANY($account_names::text[]) AND {covers})

-- name: covers
-- A chat lasts from its first date to its last; a range of days holds it if the two overlap.
{of_whom}
AND (h.narrowed->>'from' IS NULL OR {last} >= {hold_from})
AND (h.narrowed->>'before' IS NULL OR {first} < {hold_before})

-- name: day
-- The first moment of a day. If midnight occurs twice when clocks are set back, PostgreSQL uses the second.
(SELECT CASE WHEN ((begins - interval '1 hour') AT TIME ZONE $zone::text)::date = day THEN begins - interval '1 hour' ELSE begins END
 FROM (SELECT day, day::timestamp AT TIME ZONE $zone::text AS begins FROM (SELECT (h.narrowed->>'{end}')::date AS day) d) m)

-- name: of_chat
(h.narrowed->>'chat' IS NULL OR h.narrowed->>'chat' = t.{key}::text)

-- name: of_visitor
(h.narrowed->>'visitor' IS NULL OR h.narrowed->>'visitor' = t.{visitor}::text)

-- name: of_all
-- Rows without a chat are held by holds without a chat and a visitor.
(h.narrowed->>'chat' IS NULL AND h.narrowed->>'visitor' IS NULL)
