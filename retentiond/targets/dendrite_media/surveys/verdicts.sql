-- The fragments of a verdict over a row `m` of dendrite's media table; verdicts.py puts them together. Each agrees
-- with model/match.py and model/policy.py: true and false are exact, and NULL leaves the row to `decide`. Values are
-- parameters, whose numbers replace the names in braces.

-- name: is_local
-- Of all other characters U+212A alone has a lower case in ASCII, k. Lengths are compared first: they leave out most.
(octet_length(m.media_origin) = ANY ({lengths}) AND lower(m.media_origin COLLATE "C") = ANY ({names}))

-- name: is_local_with_k
(octet_length(m.media_origin) = ANY ({lengths})
 AND lower(replace(m.media_origin COLLATE "C", U&'\212A', 'k') COLLATE "C") = ANY ({names}))

-- name: has_user
m.user_id COLLATE "C" <> ''

-- name: foreign_user
-- The user's server is not ours. Only ASCII has the same lower case here and there.
CASE WHEN m.user_id COLLATE "C" = '' THEN false
     WHEN octet_length(m.user_id) = length(m.user_id)
     THEN lower(CASE WHEN strpos(m.user_id COLLATE "C", ':') > 0
                     THEN substr(m.user_id, strpos(m.user_id COLLATE "C", ':') + 1) ELSE '' END COLLATE "C") <> ALL ({names}) END

-- name: origin_local
{local}

-- name: origin_remote
(m.user_id COLLATE "C" = '' AND NOT {local})

-- name: origin_glob
-- A glob means other servers; local media are named explicitly.
CASE WHEN octet_length(m.media_origin) = length(m.media_origin)
     THEN lower(m.media_origin COLLATE "C") LIKE {glob}
          AND (lower(m.media_origin COLLATE "C") = {origin} OR m.user_id COLLATE "C" = '' AND NOT {local}) END

-- name: user
(m.user_id COLLATE "C" <> '' AND m.user_id COLLATE "C" LIKE {glob})

-- name: content_type
CASE WHEN octet_length(m.content_type) = length(m.content_type)
     THEN lower(m.content_type COLLATE "C") LIKE {glob}
          OR lower(btrim(split_part(m.content_type COLLATE "C", ';', 1), {white}) COLLATE "C") LIKE {glob} END

-- name: larger_than
m.file_size_bytes > {size}

-- name: uploaded_before
m.creation_ts < {before}

-- name: upload_name
-- dendrite stores the names of local uploads URL-escaped; only `decide` undoes escapes.
CASE WHEN m.user_id COLLATE "C" = '' OR strpos(m.upload_name COLLATE "C", '%') = 0 THEN m.upload_name COLLATE "C" LIKE {glob} END

-- name: unknown
NULL::boolean

-- name: age
-- The verdict of a policy that matches.
CASE WHEN m.creation_ts NOT BETWEEN {first} AND {latest} THEN {undated}
     WHEN m.creation_ts > {newest} THEN {not_due}
     WHEN octet_length(m.base64hash) <> 43 OR m.base64hash COLLATE "C" ~ '[^A-Za-z0-9_-]' THEN {invalid_hash}
     ELSE {due} END

-- name: step
-- A policy's verdict, that of the policies after it, or `asked`, the code of rows that are left to `decide`.
CASE coalesce(({match})::integer, 2) WHEN 0 THEN {next} WHEN 1 THEN {verdict} ELSE {asked} END

-- name: verdict
-- Rows of users of foreign servers refuse the whole survey.
CASE coalesce(({foreign})::integer, 2) WHEN 0 THEN {policies} WHEN 1 THEN {refused} ELSE {asked} END
