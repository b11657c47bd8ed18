-- What holds on accounts keep. {names} and $names are as in purge.sql; t is a top row, and h a hold.

-- name: held
-- Whether a hold in force covers the row.
EXISTS (SELECT FROM retentiond.hold_in_force h
        WHERE h.kind = 'account' AND h.subject = ANY($account_names::text[]) AND {covers})

-- name: covers
-- A chat lasts from its first date to its last; a range of days holds it where the two have a moment in common.
{of_whom}
AND (h.narrowed->>'from' IS NULL OR {last} >= {hold_from})
AND (h.narrowed->>'before' IS NULL OR {first} < {hold_before})

-- name: day
-- The first moment of a day. Where midnight comes twice, since a clock is put back then, PostgreSQL takes the second.
(SELECT CASE WHEN ((begins - interval '1 hour') AT TIME ZONE $zone::text)::date = day THEN begins - interval '1 hour' ELSE begins END
 FROM (SELECT day, day::timestamp AT TIME ZONE $zone::text AS begins FROM (SELECT (h.narrowed->>'{end}')::date AS day) d) m)

-- name: of_chat
(h.narrowed->>'chat' IS NULL OR h.narrowed->>'chat' = t.{key}::text)

-- name: of_visitor
(h.narrowed->>'visitor' IS NULL OR h.narrowed->>'visitor' = t.{visitor}::text)

-- name: of_all
-- What hangs on no chat is held by what is on no chat and no visitor.
(h.narrowed->>'chat' IS NULL AND h.narrowed->>'visitor' IS NULL)

-- name: count_covered
-- How many chats a hold covers now, whatever their age.
SELECT count(*) FROM {top} t {hanging_as_a_whole} JOIN retentiond.hold h ON h.hold_id = $hold_id::bigint
WHERE {of_account} AND {covers}

-- name: dated
-- Whether a hold on the account asks how new chats are.
SELECT EXISTS (SELECT FROM retentiond.hold_in_force h
               WHERE h.kind = 'account' AND h.subject = ANY($1::text[]) AND h.narrowed ? 'from')

-- name: beyond_other_stores
-- A hold that other stores cannot be told of by the ids of chats, since the database may have those chats no more: on
-- all of the account, on a visitor, or on days. One that begins with the cutoff or later covers, of what began before
-- it, only chats that go on after it; those are there, and stay.
SELECT hold_id, narrowed FROM retentiond.hold_in_force
WHERE kind = 'account' AND subject = ANY($1::text[]) AND NOT narrowed ? 'chat'
  AND NOT coalesce(((narrowed->>'from')::date::timestamp AT TIME ZONE $3) >= $2::timestamptz, false)
  -- Where one visitor is erased ($4), a hold on another has no part in it.
  AND ($4::text IS NULL OR coalesce(narrowed->>'visitor' = $4::text, true))
ORDER BY narrowed <> '{}', hold_id LIMIT 1

-- name: newest
-- The newest hold there ever was, on whatever. Asked with the table locked: numbers are given before they are seen.
SELECT coalesce(max(hold_id), 0) FROM retentiond.hold

-- name: put_on_since
-- The first hold in force on the account that is newer than another.
SELECT min(hold_id) FROM retentiond.hold_in_force WHERE kind = 'account' AND subject = ANY($1::text[]) AND hold_id > $2
