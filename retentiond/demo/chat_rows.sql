-- Made-up rows in the tables of chats.sql, as a product writes them in the course of years: $1 chats, spread evenly
-- The casts of each statement show its parameters.
-- name: departments
INSERT INTO {schema}.department SELECT d, 'department ' || d FROM generate_series(1, 3) d

-- name: operators
INSERT INTO {schema}.operator SELECT o, 'operator ' || o FROM generate_series(1, 10) o

-- name: categories
INSERT INTO {schema}.category SELECT c, 'category ' || c FROM generate_series(1, 5) c

-- name: surveys
INSERT INTO {schema}.survey VALUES (1, '{"questions": ["Were you helped?", "How fast?"]}')

-- name: visitors
INSERT INTO {schema}.visitor SELECT v, 'visitor ' || v FROM generate_series(1, greatest(1, $1::bigint / 4)) v

-- name: sessions
-- Four for five chats, and one in a hundred without any message.
INSERT INTO {schema}.chatvisitsession
SELECT s, 1 + s % greatest(1, $1::bigint / 4), $2::timestamptz, $3::timestamptz
FROM generate_series(0, $1::bigint + $1::bigint / 100) s
WHERE s <= $1::bigint * 4 / 5 OR s > $1::bigint

-- name: chats
-- Of those that stay, one is open, the next was written in again, and the third has files.
INSERT INTO {schema}.chatthread
    (threadid, created, modified, state, operatorid, visitorid, visitsessionid, departmentid, threadkind)
SELECT n, began, began + interval '20 minutes',
       CASE WHEN $4::integer > 0 AND n % $4::integer = 1 THEN 'chatting'
            ELSE (ARRAY['closed', 'closed_by_operator', 'closed_by_visitor', 'deleted'])[1 + n % 4] END,
       1 + n % 10, 1 + n % greatest(1, $1::bigint / 4), n * 4 / 5, 1 + n % 3, 'chat'
FROM (SELECT n, $2::timestamptz + ($3::timestamptz - $2::timestamptz) * (n - 1.0) / $1::bigint AS began
      FROM generate_series(1, $1::bigint) n) made

-- name: messages
INSERT INTO {schema}.chatmessage (messageid, threadid, kind, message, created, sendername, operatorid)
SELECT (t.threadid - 1) * $1::integer + m, t.threadid,
       CASE WHEN $3::integer > 0 AND t.threadid % $3::integer = 3 AND m = 2 THEN 13 + t.threadid % 2 ELSE 1 + m % 2 END,
       'what was said ' || md5(t.threadid::text || m),
       CASE WHEN $3::integer > 0 AND t.threadid % $3::integer = 2 AND m = $1::integer THEN $2::timestamptz
            ELSE t.created + m * interval '1 minute' END,
       'somebody', t.operatorid
FROM {schema}.chatthread t CROSS JOIN generate_series(1, $1::integer) m
ORDER BY t.threadid, m

-- name: history
INSERT INTO {schema}.chatthreadhistory
SELECT (t.threadid - 1) * 4 + h, t.threadid, h, t.created + h * interval '5 minutes', t.state, t.operatorid, t.departmentid,
       'event'
FROM {schema}.chatthread t CROSS JOIN generate_series(1, 4) h ORDER BY t.threadid, h

-- name: rates
INSERT INTO {schema}.chatrate SELECT threadid, threadid, operatorid, threadid % 5, modified FROM {schema}.chatthread
WHERE threadid % 3 = 0

-- name: launches
INSERT INTO {schema}.surveylaunch SELECT threadid, threadid, 1, modified FROM {schema}.chatthread WHERE threadid % 5 = 0

-- name: answers
INSERT INTO {schema}.surveyanswer SELECT l.surveylaunchid * 2 + q, l.surveylaunchid, q, 'yes'
FROM {schema}.surveylaunch l CROSS JOIN generate_series(0, 1) q

-- name: thread_categories
INSERT INTO {schema}.thread_category SELECT threadid, 1 + threadid % 5 FROM {schema}.chatthread WHERE threadid % 2 = 0

-- name: stats
INSERT INTO {schema}.chatstats
SELECT row_number() OVER (), day, o, 7
FROM generate_series($1::timestamptz, $2::timestamptz, interval '7 days') day CROSS JOIN generate_series(1, 3) o

-- name: stats_log
INSERT INTO {schema}.chatstatslog SELECT chatstatsid * 2 + l, chatstatsid, created + interval '1 hour'
FROM {schema}.chatstats CROSS JOIN generate_series(0, 1) l
