-- name: create_judgeable
-- The executions whose answers are judged again: those that gave no bio although a model has answered, and those of the
-- bios that exist. One whose bio was replaced when another was asked for is as one that was repeated; `recorded` is its
-- outcome as it stands. Left out: lines in flight, and what was answered before a bio was asked for again.
CREATE TEMP VIEW judgeable AS
SELECT t.* REPLACE (CASE WHEN t.outcome = 'bio' AND (b.lane IS DISTINCT FROM t.lane
                              OR b.batch_id IS DISTINCT FROM t.batch_id OR b.call IS DISTINCT FROM t.call)
                         THEN 'repeated' ELSE t.outcome END AS outcome),
       t.outcome AS recorded, a.seq, a.custom_id, a.data AS given, a.state
FROM attempts AS t JOIN artists AS a USING (artist_id) LEFT JOIN bios AS b USING (artist_id)
LEFT JOIN (SELECT DISTINCT artist_id, batch_id, call FROM former_bios WHERE reason = 'redo') AS f
  ON f.artist_id = t.artist_id AND f.batch_id IS NOT DISTINCT FROM t.batch_id AND f.call IS NOT DISTINCT FROM t.call
WHERE ((t.outcome IN ('unusable', 'repeated') OR t.outcome = 'bio' AND f.artist_id IS NOT NULL)
       AND a.state IN ('ready', 'waiting', 'held', 'dead', 'done')
       AND (a.redo_after IS NULL OR coalesce(t.shard > a.redo_after, t.call > a.redo_call, false)))
   OR (t.outcome = 'bio' AND a.state IN ('done', 'held', 'dead') AND b.lane = t.lane
       AND b.batch_id IS NOT DISTINCT FROM t.batch_id AND b.call IS NOT DISTINCT FROM t.call)

-- name: batches_to_judge
SELECT j.batch_id, s.version, count(*)
FROM judgeable AS j JOIN shards AS s ON s.shard = j.shard
WHERE j.lane = 'batch' GROUP BY ALL ORDER BY min(j.happened_at), j.batch_id

-- name: batch_lines_to_judge
SELECT artist_id, custom_id, given, batch_id, call, outcome, state FROM judgeable
WHERE lane = 'batch' AND list_contains($batches, batch_id)

-- name: count_calls_to_judge
SELECT count(*) FROM judgeable WHERE lane = 'direct'

-- name: call_lines_to_judge
SELECT artist_id, custom_id, given, batch_id, call, outcome, state FROM judgeable
WHERE lane = 'direct' AND list_contains($calls, call)

-- name: create_accepted_answers
-- `open`: the line took a bio when it was judged.
CREATE TEMP TABLE accepted_answers (
    artist_id VARCHAR, batch_id VARCHAR, call INTEGER, open BOOLEAN, bio VARCHAR, model VARCHAR, finish_reason VARCHAR,
    completed_at DOUBLE
)

-- name: create_refused_bios
CREATE TEMP TABLE refused_bios (artist_id VARCHAR, batch_id VARCHAR, call INTEGER, reason VARCHAR, why VARCHAR)

-- name: choose_accepted
-- Of several answers of a line that are accepted now the newest is its bio. `tries`: those that count, this one included.
-- In the order of the artists: an update of many of them in another order takes a hundred times as long.
CREATE TEMP TABLE accepted AS
SELECT * FROM (
    SELECT w.bio, w.model, w.finish_reason, w.completed_at, j.* EXCLUDE (given),
           n.tries + CASE WHEN j.counted THEN 0 ELSE 1 END AS tries,
           row_number() OVER (PARTITION BY j.artist_id ORDER BY j.happened_at DESC, j.call DESC, j.batch_id) AS nth
    FROM accepted_answers AS w JOIN judgeable AS j
      ON w.artist_id = j.artist_id AND w.batch_id IS NOT DISTINCT FROM j.batch_id AND w.call IS NOT DISTINCT FROM j.call
    JOIN (SELECT artist_id, count(*) FILTER (counted)::INTEGER AS tries FROM attempts GROUP BY artist_id) AS n
      ON n.artist_id = j.artist_id
    WHERE list_contains($open, j.state) AND j.outcome <> 'bio'
) WHERE nth = 1 ORDER BY seq

-- name: choose_revoked
CREATE TEMP TABLE revoked AS
SELECT j.artist_id, j.seq, j.batch_id, j.call, j.happened_at, w.reason, w.why
FROM refused_bios AS w JOIN judgeable AS j
  ON w.artist_id = j.artist_id AND w.batch_id IS NOT DISTINCT FROM j.batch_id AND w.call IS NOT DISTINCT FROM j.call
WHERE j.outcome = 'bio'
UNION ALL
-- Of those who took the answer to another line there is no execution.
SELECT a.artist_id, a.seq, b.batch_id, b.call, b.completed_at, w.reason, w.why
FROM refused_bios AS w JOIN artists AS a ON a.artist_id = w.artist_id JOIN bios AS b ON b.artist_id = w.artist_id
WHERE a.follows IS NOT NULL AND a.state = 'done'
  AND b.batch_id IS NOT DISTINCT FROM w.batch_id AND b.call IS NOT DISTINCT FROM w.call
ORDER BY seq

-- name: accepted_by_state
SELECT state, count(*) FROM accepted GROUP BY state ORDER BY state

-- name: count_judged_lines
SELECT (SELECT count(DISTINCT artist_id) FROM accepted_answers WHERE open), (SELECT count(*) FROM refused_bios)

-- name: revoked_by_reason
SELECT reason, why, count(*) FROM revoked GROUP BY ALL ORDER BY 3 DESC, 1, 2 LIMIT $most

-- name: first_revoked
SELECT artist_id, why FROM revoked ORDER BY seq LIMIT $most

-- name: count_revoked
SELECT count(*) FROM revoked

-- name: unsent_shards_of_accepted
SELECT DISTINCT s.shard FROM accepted AS w JOIN artists AS a USING (artist_id) JOIN shards AS s ON s.shard = a.shard
WHERE a.state = 'ready' AND s.state IN ('planned', 'released', 'uploaded') ORDER BY s.shard

-- name: note_accepted
INSERT INTO events (happened_at, kind, shard, batch_id, artist_id, detail)
SELECT $now, 'judged', shard, batch_id, artist_id, 'accepted, was ' || state FROM accepted

-- name: record_accepted
UPDATE attempts SET outcome = 'bio', counted = true, code = NULL, message = NULL
FROM accepted AS w
WHERE attempts.artist_id = w.artist_id AND attempts.happened_at = w.happened_at AND attempts.outcome = w.recorded
  AND attempts.batch_id IS NOT DISTINCT FROM w.batch_id AND attempts.call IS NOT DISTINCT FROM w.call

-- name: keep_replaced_bios
-- Bios that were asked for again: see `redo_after`.
INSERT INTO former_bios BY NAME
SELECT b.*, 'redo' AS reason, $now AS moved_at FROM bios AS b WHERE artist_id IN (SELECT artist_id FROM accepted)

-- name: replace_judged_bios
-- DuckDB refuses to delete and to insert the same key in one transaction.
UPDATE bios
SET data = w.bio, model = w.model, finish_reason = w.finish_reason, tokens_input = w.tokens_input,
    tokens_cached = w.tokens_cached, tokens_output = w.tokens_output, tokens_written = w.tokens_written,
    tokens_reasoning = w.tokens_reasoning, cost_usd = w.cost_usd, lane = w.lane, shard = w.shard, batch_id = w.batch_id,
    call = w.call, version = w.version, completed_at = coalesce(w.completed_at, w.happened_at), collected_at = NULL,
    attempts = w.tries
FROM accepted AS w WHERE bios.artist_id = w.artist_id

-- name: insert_judged_bios
INSERT INTO bios BY NAME
SELECT w.artist_id, w.bio AS data, w.model, w.finish_reason, w.tokens_input, w.tokens_cached, w.tokens_output,
       w.tokens_written, w.tokens_reasoning, w.cost_usd, w.lane, w.shard, w.batch_id, w.call, w.version,
       coalesce(w.completed_at, w.happened_at) AS completed_at, w.tries AS attempts
FROM accepted AS w WHERE w.artist_id NOT IN (SELECT artist_id FROM bios)

-- name: accept_judged_lines
UPDATE artists
SET state = $target, wait_until = NULL, shard = w.shard, failure = NULL, code = NULL, message = NULL, redo_after = NULL,
    attempts = w.tries
FROM accepted AS w
WHERE artists.seq = w.seq AND artists.artist_id = w.artist_id AND list_contains($sources, artists.state)

-- name: mark_repeated
-- What is accepted of a line that has its bio was paid for and changes nothing.
UPDATE attempts SET outcome = 'repeated', code = NULL, message = NULL
FROM accepted_answers AS w JOIN artists AS a USING (artist_id)
WHERE attempts.artist_id = w.artist_id AND attempts.batch_id IS NOT DISTINCT FROM w.batch_id
  AND attempts.call IS NOT DISTINCT FROM w.call AND attempts.outcome = 'unusable' AND a.state = 'done'

-- name: correct_retried_lines
-- Lines that went again for an answer that is accepted now do not count for the share that the forecast expects to: of a
-- batch no more than the failures that are left.
UPDATE batches SET again = least(again, n.failures)
FROM (SELECT batch_id, count(*) FILTER (counted AND outcome NOT IN ('bio', 'repeated')) AS failures
      FROM attempts WHERE batch_id IN (SELECT batch_id FROM accepted_answers) GROUP BY batch_id) AS n
WHERE batches.batch_id = n.batch_id

-- name: note_revoked
INSERT INTO events (happened_at, kind, batch_id, artist_id, detail)
SELECT $now, 'revoked', batch_id, artist_id, why FROM revoked

-- name: keep_revoked_bios
INSERT INTO former_bios BY NAME
SELECT b.*, 'revoked' AS reason, $now AS moved_at FROM bios AS b WHERE artist_id IN (SELECT artist_id FROM revoked)

-- name: delete_revoked_bios
DELETE FROM bios WHERE artist_id IN (SELECT artist_id FROM revoked)

-- name: record_revoked
UPDATE attempts SET outcome = 'unusable', code = w.reason, message = w.why
FROM revoked AS w
WHERE attempts.artist_id = w.artist_id AND attempts.happened_at = w.happened_at AND attempts.outcome = 'bio'
  AND attempts.batch_id IS NOT DISTINCT FROM w.batch_id AND attempts.call IS NOT DISTINCT FROM w.call

-- name: forget_revoked_redos
-- `redo_after` marks a line that has its earlier bio.
UPDATE artists SET redo_after = NULL
FROM revoked AS w WHERE artists.seq = w.seq AND artists.artist_id = w.artist_id AND artists.redo_after IS NOT NULL

-- name: revoke_lines
UPDATE artists SET state = $target, failure = 'unusable', code = 'revoked', message = w.why
FROM revoked AS w
WHERE artists.seq = w.seq AND artists.artist_id = w.artist_id AND list_contains($sources, artists.state)

-- name: choose_put_back
-- Lines whose bio was revoked, and of which no kept answer is accepted, with their bio of an earlier run. That one has no
-- answer that could be judged. Also lines that were revoked by a command that was killed before this.
CREATE TEMP TABLE put_back AS
SELECT f.* EXCLUDE (reason, moved_at) REPLACE (NULL AS collected_at), a.seq
FROM former_bios AS f JOIN artists AS a USING (artist_id)
WHERE f.lane = 'earlier' AND a.state = 'held' AND a.code = 'revoked' AND a.artist_id NOT IN (SELECT artist_id FROM bios)
QUALIFY row_number() OVER (PARTITION BY f.artist_id ORDER BY f.rowid DESC) = 1 ORDER BY a.seq

-- name: note_put_back
INSERT INTO events (happened_at, kind, artist_id, detail)
SELECT $now, 'put_back', artist_id, 'the bio of an earlier run' FROM put_back

-- name: insert_put_back
INSERT INTO bios BY NAME SELECT * EXCLUDE (seq) FROM put_back

-- name: put_back_lines
UPDATE artists
SET state = $target, shard = NULL, version = NULL, failure = NULL, code = NULL, message = NULL, redo_after = NULL
FROM put_back AS w WHERE artists.seq = w.seq AND artists.artist_id = w.artist_id AND list_contains($sources, artists.state)
