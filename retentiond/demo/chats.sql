-- The tables of a live-chat product as the layout webim names them, for the demo, the benchmark and the tests: the
-- tables that a purge uses, and some that it must not touch. {schema} is a quoted name.

CREATE SCHEMA {schema};

-- Tables that no purge touches.
CREATE TABLE {schema}.department (departmentid bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE {schema}.operator (operatorid bigint PRIMARY KEY, fullname text NOT NULL);
CREATE TABLE {schema}.visitor (visitorid bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE {schema}.category (categoryid bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE {schema}.survey (surveyid bigint PRIMARY KEY, config jsonb NOT NULL);

CREATE TABLE {schema}.chatvisitsession (
    visitsessionid bigint PRIMARY KEY,
    visitorid bigint NOT NULL REFERENCES {schema}.visitor,
    created timestamptz NOT NULL,
    updated timestamptz NOT NULL
);

CREATE TABLE {schema}.chatthread (
    threadid bigint PRIMARY KEY,
    created timestamptz,
    modified timestamptz,
    state text,
    operatorid bigint REFERENCES {schema}.operator,
    visitorid bigint REFERENCES {schema}.visitor,
    visitsessionid bigint REFERENCES {schema}.chatvisitsession,
    departmentid bigint REFERENCES {schema}.department,
    offline boolean NOT NULL DEFAULT false,
    category text,
    subcategory text,
    threadkind text,
    json jsonb
);
CREATE INDEX ON {schema}.chatthread (visitsessionid);
CREATE INDEX ON {schema}.chatthread (created);

CREATE TABLE {schema}.chatmessage (
    messageid bigint PRIMARY KEY,
    threadid bigint NOT NULL REFERENCES {schema}.chatthread,
    kind integer,
    message text,
    created timestamptz,
    sendername text,
    operatorid bigint
);
CREATE INDEX ON {schema}.chatmessage (threadid);

CREATE TABLE {schema}.chatthreadhistory (
    chatthreadhistoryid bigint PRIMARY KEY,
    threadid bigint NOT NULL REFERENCES {schema}.chatthread,
    number integer NOT NULL,
    dtm timestamptz NOT NULL,
    state text,
    operatorid bigint,
    departmentid bigint,
    event text
);
CREATE INDEX ON {schema}.chatthreadhistory (threadid);

CREATE TABLE {schema}.chatrate (
    rateid bigint PRIMARY KEY,
    threadid bigint NOT NULL REFERENCES {schema}.chatthread,
    operatorid bigint,
    rate integer,
    date timestamptz
);
CREATE INDEX ON {schema}.chatrate (threadid);

CREATE TABLE {schema}.surveylaunch (
    surveylaunchid bigint PRIMARY KEY,
    threadid bigint NOT NULL REFERENCES {schema}.chatthread,
    surveyid bigint NOT NULL REFERENCES {schema}.survey,
    created timestamptz NOT NULL
);
CREATE INDEX ON {schema}.surveylaunch (threadid);

CREATE TABLE {schema}.surveyanswer (
    surveyanswerid bigint PRIMARY KEY,
    surveylaunchid bigint NOT NULL REFERENCES {schema}.surveylaunch,
    questionid bigint NOT NULL,
    answer text
);
CREATE INDEX ON {schema}.surveyanswer (surveylaunchid);

CREATE TABLE {schema}.thread_category (
    threadid bigint NOT NULL REFERENCES {schema}.chatthread,
    categoryid bigint NOT NULL REFERENCES {schema}.category,
    PRIMARY KEY (threadid, categoryid)
);

CREATE TABLE {schema}.chatstats (
    chatstatsid bigint PRIMARY KEY,
    created timestamptz NOT NULL,
    operatorid bigint,
    threads integer NOT NULL
);
CREATE INDEX ON {schema}.chatstats (created);

CREATE TABLE {schema}.chatstatslog (
    chatstatslogid bigint PRIMARY KEY,
    chatstatsid bigint NOT NULL REFERENCES {schema}.chatstats,
    created timestamptz NOT NULL
);
CREATE INDEX ON {schema}.chatstatslog (chatstatsid);
