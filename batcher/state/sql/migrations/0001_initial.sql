-- The state of one job. Times are seconds since the epoch, tokens are counted input tokens unless named otherwise.
-- No foreign keys: DuckDB refuses updates of rows that one points at. What a unique index would hold elsewhere is
-- held here by single-valued columns (an artist's one submission, a shard's one open submission).

CREATE TABLE meta (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);

CREATE TABLE runs (run_id VARCHAR PRIMARY KEY, created_at DOUBLE NOT NULL);

-- What was asked, whole: a line is rendered again from its row and its version.
CREATE TABLE versions (
    version INTEGER PRIMARY KEY,
    fingerprint VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,
    constant_tokens INTEGER NOT NULL,
    created_at DOUBLE NOT NULL
);

-- An artist and its line. `shard` is the shard that holds the line (NULL: none, it goes into the next retry shard);
-- `submission` is the open submission that claims it.
CREATE TABLE artists (
    artist_id VARCHAR PRIMARY KEY,
    seq INTEGER NOT NULL,
    custom_id VARCHAR NOT NULL,
    artist_name VARCHAR NOT NULL,
    priority INTEGER NOT NULL CHECK (priority >= 1),
    data VARCHAR NOT NULL,
    state VARCHAR NOT NULL CHECK (state IN ('skipped', 'done_before', 'ready', 'waiting', 'in_batch', 'in_direct',
                                            'held', 'done', 'dead')),
    version INTEGER,
    tokens INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    line_hash UBIGINT,
    shard INTEGER,
    submission INTEGER,
    wait_until DOUBLE,
    attempts INTEGER NOT NULL DEFAULT 0,
    failure VARCHAR,
    code VARCHAR,
    message VARCHAR,
    CHECK ((state = 'in_batch') = (submission IS NOT NULL)),
    CHECK (state <> 'in_batch' OR shard IS NOT NULL),
    CHECK ((state = 'waiting') = (wait_until IS NOT NULL)),
    CHECK (state NOT IN ('held', 'dead', 'skipped') OR failure IS NOT NULL)
);

-- `submission` is the open one (NULL: none); `file_id` the file at OpenAI that a submission may use,
-- `file_created_at` its time in the service's clock.
CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    priority INTEGER NOT NULL,
    retry BOOLEAN NOT NULL,
    version INTEGER NOT NULL,
    state VARCHAR NOT NULL CHECK (state IN ('planned', 'released', 'uploading', 'uploaded', 'creating', 'in_flight',
                                            'ended', 'settled', 'stale', 'split')),
    lines INTEGER NOT NULL CHECK (lines > 0),
    tokens BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    wait_until DOUBLE NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0,
    submission INTEGER,
    file_id VARCHAR,
    file_created_at DOUBLE,
    created_at DOUBLE NOT NULL,
    CHECK ((state IN ('uploading', 'creating', 'in_flight', 'ended')) = (submission IS NOT NULL)),
    CHECK (state NOT IN ('uploaded', 'creating') OR file_id IS NOT NULL)
);

-- One upload-and-create of a shard. `ended_at` NULL: its reserved tokens count against the limit. `absent_since`: when
-- a complete listing first lacked its batch, in the service's clock (0: it tells none) and in ours. `orphan_due`: when
-- to look (again) for the file that an upload without an answer may have left.
CREATE TABLE submissions (
    submission INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    tokens BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    limit_tokens BIGINT NOT NULL,
    reserved_before BIGINT NOT NULL,
    headroom_after BIGINT NOT NULL,
    reserved_usd DOUBLE NOT NULL DEFAULT 0,
    file_id VARCHAR,
    file_created_at DOUBLE,
    batch_id VARCHAR,
    intended_at DOUBLE NOT NULL,
    create_intended_at DOUBLE,
    absent_since DOUBLE,
    absent_since_local DOUBLE,
    orphan_due DOUBLE,
    orphan_looks INTEGER NOT NULL DEFAULT 0,
    cancel_wanted_at DOUBLE,
    ended_at DOUBLE,
    outcome VARCHAR
);

-- OpenAI's object, as last seen; times in here are the service's. `stray`: another batch of a shard than the one that
-- decides its lines. `missing_since`: when the service first did not know it. `cancel_wanted_at` is the intent to cancel
-- it, `cancel_asked_at` its outcome.
CREATE TABLE batches (
    batch_id VARCHAR PRIMARY KEY,
    submission INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    stray BOOLEAN NOT NULL DEFAULT false,
    status VARCHAR NOT NULL,
    created_at DOUBLE NOT NULL,
    expires_at DOUBLE,
    finished_at DOUBLE,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    input_file_id VARCHAR NOT NULL,
    output_file_id VARCHAR,
    error_file_id VARCHAR,
    usage_input BIGINT,
    usage_cached BIGINT,
    usage_output BIGINT,
    errors VARCHAR,
    reserved BIGINT NOT NULL DEFAULT 0,
    recorded_at DOUBLE NOT NULL,
    ended_at DOUBLE,
    missing_since DOUBLE,
    cancel_wanted_at DOUBLE,
    cancel_asked_at DOUBLE,
    read_first_at DOUBLE,
    retry_at DOUBLE NOT NULL DEFAULT 0,
    settled_at DOUBLE
);

-- One verdict on one execution asked for. `counted`: it costs the line a try. `wasted`: paid, and gave no bio.
CREATE TABLE attempts (
    artist_id VARCHAR NOT NULL,
    lane VARCHAR NOT NULL CHECK (lane IN ('batch', 'direct')),
    shard INTEGER,
    submission INTEGER,
    batch_id VARCHAR,
    outcome VARCHAR NOT NULL,
    code VARCHAR,
    message VARCHAR,
    status_code INTEGER,
    counted BOOLEAN NOT NULL,
    tokens_input INTEGER NOT NULL DEFAULT 0,
    tokens_cached INTEGER NOT NULL DEFAULT 0,
    tokens_output INTEGER NOT NULL DEFAULT 0,
    cost_usd DOUBLE,
    happened_at DOUBLE NOT NULL
);

CREATE TABLE bios (
    artist_id VARCHAR PRIMARY KEY,
    data VARCHAR NOT NULL,
    model VARCHAR,
    finish_reason VARCHAR,
    tokens_input INTEGER,
    tokens_cached INTEGER,
    tokens_output INTEGER,
    cost_usd DOUBLE,
    lane VARCHAR NOT NULL CHECK (lane IN ('batch', 'direct', 'earlier')),
    shard INTEGER,
    batch_id VARCHAR,
    attempts INTEGER,
    completed_at DOUBLE,
    collected_at DOUBLE
);

CREATE TABLE pauses (
    pause INTEGER PRIMARY KEY,
    scope VARCHAR NOT NULL CHECK (scope IN ('all', 'direct')),
    reason VARCHAR NOT NULL,
    since DOUBLE NOT NULL,
    until DOUBLE,
    tries INTEGER NOT NULL DEFAULT 0,
    ended_at DOUBLE
);

-- What the service or we said of the account's room, over time.
CREATE TABLE quota_samples (
    happened_at DOUBLE NOT NULL,
    source VARCHAR NOT NULL CHECK (source IN ('submission', 'refusal', 'header')),
    model VARCHAR NOT NULL,
    limit_tokens BIGINT,
    reserved BIGINT,
    own BIGINT,
    headroom BIGINT,
    shard INTEGER,
    detail VARCHAR
);

-- Files at OpenAI that are ours to delete. `deleted_at` NULL: still there, as far as we know.
CREATE TABLE remote_files (
    file_id VARCHAR PRIMARY KEY,
    purpose VARCHAR NOT NULL,
    shard INTEGER,
    since DOUBLE NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    error VARCHAR,
    deleted_at DOUBLE
);

CREATE SEQUENCE event_numbers;
CREATE TABLE events (
    event BIGINT PRIMARY KEY DEFAULT nextval('event_numbers'),
    happened_at DOUBLE NOT NULL,
    kind VARCHAR NOT NULL,
    shard INTEGER,
    submission INTEGER,
    batch_id VARCHAR,
    artist_id VARCHAR,
    detail VARCHAR
);

-- Shards that the user asked to cancel. `ended_at` NULL: what is in flight of it has not come to its end.
CREATE TABLE wishes (shard INTEGER NOT NULL, made_at DOUBLE NOT NULL, ended_at DOUBLE, outcome VARCHAR);

-- Single facts that the acting process keeps: when it looked last, until when the service is out, why it stopped.
CREATE TABLE facts (name VARCHAR PRIMARY KEY, number DOUBLE, text VARCHAR);
