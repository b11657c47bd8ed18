-- Questions about the holds on an account ($1: its names).

-- name: dated
-- Whether a hold in force begins at a day: then the newest moment of each chat matters.
SELECT EXISTS (SELECT FROM retentiond.hold_in_force h
               WHERE h.kind = 'account' AND h.subject = ANY($1::text[]) AND h.narrowed ? 'from')

-- name: beyond_other_stores
-- A hold that a store cannot keep by the IDs of chats, since the database may have lost those chats: a hold on the whole
-- account, on a visitor, or on days. A hold that begins with the cutoff ($2, in zone $3) or later covers, of the chats
-- from before it, only those with something after it; those are in the database, and stay.
SELECT hold_id, narrowed FROM retentiond.hold_in_force
WHERE kind = 'account' AND subject = ANY($1::text[]) AND NOT narrowed ? 'chat'
  AND NOT coalesce(((narrowed->>'from')::date::timestamp AT TIME ZONE $3) >= $2::timestamptz, false)
  -- For the erasure of one visitor ($4) a hold on another visitor does not matter.
  AND ($4::text IS NULL OR coalesce(narrowed->>'visitor' = $4::text, true))
ORDER BY narrowed <> '{}', hold_id LIMIT 1

-- name: newest
-- The newest hold of all. Asked with the table locked: a number is given before its hold is visible.
SELECT coalesce(max(hold_id), 0) FROM retentiond.hold

-- name: newer
-- The first hold in force on the account that is newer than another ($2).
SELECT min(hold_id) FROM retentiond.hold_in_force WHERE kind = 'account' AND subject = ANY($1::text[]) AND hold_id > $2
