-- The chats of an account, divided by a property, for `usage`.

-- name: divided
-- The $top largest keys with their chats, and the chats of all keys. A long key is cut, and ends in its digest.
SELECT CASE WHEN octet_length(k.key) <= 128 THEN k.key
            ELSE left(k.key, 61) || '...' || encode(sha256(textsend(k.key)), 'hex') END AS key,
       count(*) AS items, (sum(count(*)) OVER ())::bigint AS total
FROM (SELECT {division} AS key FROM {top} t WHERE {of_account}) k
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $top::integer

-- name: by_month
-- The month in which the chat began, in the time zone of the target; null for an impossible date.
CASE WHEN {first} >= {earliest} AND {first} < {until} THEN to_char({first_as_moment} AT TIME ZONE $zone::text, 'YYYY-MM') END

-- name: by_department
t.{department}::text
