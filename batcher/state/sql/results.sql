-- name: hold_shard_lines
UPDATE artists SET state = $target, failure = 'cancelled', code = 'cancelled_by_hand', message = 'cancelled by hand',
                   wait_until = NULL
WHERE shard = $shard AND state = 'ready' AND list_contains($sources, state)

-- name: delay_batch
UPDATE batches SET retry_at = $until, read_first_at = coalesce(read_first_at, $now) WHERE batch_id = $batch_id

-- name: siblings
-- Other batches of a shard: those that are not settled, and all.
SELECT count(*) FILTER (settled_at IS NULL), count(*) FROM batches WHERE shard = $shard AND batch_id <> $batch_id

-- name: refuse_line
UPDATE artists
SET state = $target, submission = NULL, attempts = attempts + 1, failure = $failure, code = $code, message = $message
WHERE custom_id = $custom_id AND submission = $submission AND list_contains($sources, state)

-- name: record_refused_line
INSERT INTO attempts (artist_id, lane, shard, batch_id, outcome, code, message, counted, cost_usd, happened_at)
SELECT artist_id, 'batch', shard, $batch_id, failure, code, message, true, 0, $now FROM artists
WHERE custom_id = $custom_id

-- name: dead_by_code
SELECT count(*) FROM artists WHERE state = 'dead' AND failure = $failure AND code = $code

-- name: bios_of_job
SELECT count(*) FROM bios WHERE lane <> 'earlier'

-- name: create_results
-- One verdict a line: what was read of the lines that the batch's shard holds or held, and is news of this batch.
CREATE TEMP TABLE results (
    artist_id VARCHAR, seq INTEGER, attempts INTEGER, tokens INTEGER, open BOOLEAN, claimed BOOLEAN,
    data VARCHAR, model VARCHAR, finish_reason VARCHAR, tokens_input INTEGER, tokens_cached INTEGER,
    tokens_output INTEGER, cost_usd DOUBLE, completed_at DOUBLE, status_code INTEGER,
    failure VARCHAR, code VARCHAR, message VARCHAR
)

-- name: lines_of_shard
-- `open`: the line has no bio and takes one; `claimed`: its failure is this shard's to decide.
SELECT custom_id, artist_id, seq, attempts, tokens, list_contains($open, state) AS open,
       state = 'in_batch' AND submission IS NOT DISTINCT FROM $claim AS claimed, data
FROM artists WHERE shard = $shard

-- name: lines_gone
-- Those that the shard held and that went elsewhere since (for a batch that comes late).
SELECT custom_id, artist_id, seq, attempts, tokens, list_contains($open, state) AS open, false AS claimed, data
FROM artists
WHERE shard IS DISTINCT FROM $shard AND artist_id IN (SELECT artist_id FROM attempts WHERE shard = $shard)

-- name: lines_taken
-- Those whose verdict an earlier reading of this batch has recorded.
SELECT artist_id FROM attempts WHERE shard = $shard AND batch_id = $batch_id AND outcome <> 'missing'

-- name: drop_superseded
-- Failures of lines that stand there again and succeeded.
DELETE FROM results WHERE data IS NULL AND artist_id IN (SELECT artist_id FROM results WHERE data IS NOT NULL)

-- name: mark_unread
UPDATE batches SET unread = true, retry_at = $next WHERE batch_id = $batch_id

-- name: record_successes
-- A second success is paid for, and gives nothing.
INSERT INTO attempts
SELECT artist_id, 'batch', $shard, $submission, $batch_id, CASE WHEN open THEN 'bio' ELSE 'repeated' END, NULL, NULL,
       status_code, open, tokens_input, tokens_cached, tokens_output, cost_usd, $now
FROM results WHERE data IS NOT NULL

-- name: insert_bios
INSERT INTO bios
SELECT artist_id, data, model, finish_reason, tokens_input, tokens_cached, tokens_output, cost_usd, 'batch',
       $shard, $batch_id, attempts + 1, coalesce(completed_at, $now), NULL
FROM results WHERE data IS NOT NULL AND open

-- name: accept_lines
-- Joined by `seq` too: of artists in their order, only those near the shard's own are read.
UPDATE artists SET state = $target, submission = NULL, wait_until = NULL, shard = $shard,
                   attempts = artists.attempts + 1, failure = NULL, code = NULL, message = NULL
FROM results AS r
WHERE artists.seq = r.seq AND artists.artist_id = r.artist_id AND r.data IS NOT NULL AND r.open
  AND list_contains($sources, artists.state)

-- name: bios_so_far
-- Of this shard, and of the whole job.
SELECT (SELECT count(*) FROM attempts WHERE shard = $shard AND outcome = 'bio'),
       (SELECT count(*) FROM bios WHERE lane <> 'earlier')

-- name: create_decisions
CREATE TEMP TABLE decisions (artist_id VARCHAR, state VARCHAR, wait_until DOUBLE, counted BOOLEAN)

-- name: create_failures
-- What went wrong in this batch.
CREATE TEMP TABLE failures AS
SELECT artist_id, seq, attempts, claimed, true AS own, $batch_id::VARCHAR AS batch_id, failure, code, message,
       status_code, tokens_input, tokens_cached, tokens_output, cost_usd
FROM results WHERE data IS NULL

-- name: add_failures_of_siblings
-- A line that failed in another batch of this shard has that failure, whatever this batch says of it.
INSERT INTO failures
SELECT a.artist_id, a.seq, a.attempts, true, false, t.batch_id, t.outcome, t.code, t.message, NULL, 0, 0, 0, NULL
FROM attempts AS t JOIN artists AS a USING (artist_id)
WHERE t.shard = $shard AND t.batch_id <> $batch_id AND NOT t.counted AND t.outcome NOT IN ('bio', 'repeated')
  AND a.state = 'in_batch' AND a.submission = $claim

-- name: create_verdicts
-- One failure a line. What is perhaps paid is never bought again; what was executed says more than what was not.
CREATE TEMP TABLE verdicts AS
SELECT * EXCLUDE (nth) FROM (
    SELECT *, row_number() OVER (PARTITION BY artist_id ORDER BY
        CASE WHEN failure = 'missing' THEN 0 WHEN code = 'no_result' THEN 2 WHEN failure = 'expired' THEN 3
             WHEN failure = 'cancelled' THEN 4 ELSE 1 END, own DESC, batch_id) AS nth
    FROM failures WHERE claimed
) WHERE nth = 1

-- name: failure_counts
SELECT failure, code, count(*)::INTEGER FROM verdicts GROUP BY ALL ORDER BY 3 DESC, 1, 2

-- name: failed_lines
-- `tries`: failures of this class that counted; `free`: those that did not.
SELECT v.artist_id, v.failure, v.attempts,
       count(t.artist_id) FILTER (t.counted)::INTEGER, count(t.artist_id) FILTER (NOT t.counted)::INTEGER
FROM verdicts AS v LEFT JOIN attempts AS t ON t.artist_id = v.artist_id AND t.outcome = v.failure
GROUP BY v.artist_id, v.failure, v.attempts ORDER BY v.artist_id

-- name: record_failures
INSERT INTO attempts
SELECT f.artist_id, 'batch', $shard, $submission, $batch_id, f.failure, f.code, f.message, f.status_code,
       coalesce(d.counted AND v.own, false), f.tokens_input, f.tokens_cached, f.tokens_output, f.cost_usd, $now
FROM failures AS f LEFT JOIN verdicts AS v USING (artist_id) LEFT JOIN decisions AS d USING (artist_id)
WHERE f.own

-- name: record_failures_undecided
INSERT INTO attempts
SELECT artist_id, 'batch', $shard, $submission, $batch_id, failure, code, message, status_code, false,
       tokens_input, tokens_cached, tokens_output, cost_usd, $now
FROM results WHERE data IS NULL

-- name: count_failures_of_siblings
UPDATE attempts SET counted = true
FROM verdicts AS v JOIN decisions AS d USING (artist_id)
WHERE attempts.artist_id = v.artist_id AND attempts.batch_id = v.batch_id AND attempts.outcome = v.failure
  AND d.counted AND NOT v.own

-- name: move_failed_lines
UPDATE artists
SET state = $target, submission = NULL, wait_until = d.wait_until,
    shard = CASE WHEN $target IN ('ready', 'waiting') THEN NULL ELSE artists.shard END,
    attempts = artists.attempts + CASE WHEN d.counted THEN 1 ELSE 0 END,
    failure = v.failure, code = v.code, message = v.message
FROM decisions AS d JOIN verdicts AS v USING (artist_id)
WHERE artists.seq = v.seq AND artists.artist_id = d.artist_id AND d.state = $target AND list_contains($sources, artists.state)

-- name: measure_batch
-- Adds what this reading has recorded: every success, and the failures once they are recorded.
UPDATE batches
SET executed = batches.executed + m.executed, counted_tokens = batches.counted_tokens + m.counted,
    used_input = batches.used_input + m.input, used_cached = batches.used_cached + m.cached,
    used_output = batches.used_output + m.output, again = $again, decided = $decided
FROM (SELECT count(*) AS executed, coalesce(sum(tokens), 0) AS counted, coalesce(sum(tokens_input), 0) AS input,
             coalesce(sum(tokens_cached), 0) AS cached, coalesce(sum(tokens_output), 0) AS output
      FROM results WHERE tokens_input > 0 AND (data IS NOT NULL OR $failures)) AS m
WHERE batches.batch_id = $batch_id

-- name: widen_lines
-- Answers that were cut off go again with more room: as another version, and so with a hash of their own.
UPDATE artists SET version = $version, line_hash = NULL
FROM decisions AS d JOIN verdicts AS v USING (artist_id)
WHERE artists.seq = v.seq AND artists.artist_id = d.artist_id AND d.state IN ('ready', 'waiting')
  AND v.failure = 'unusable' AND v.code = 'length'

-- name: count_cut_off
SELECT count(*) FROM decisions AS d JOIN verdicts AS v USING (artist_id)
WHERE d.state IN ('ready', 'waiting') AND v.failure = 'unusable' AND v.code = 'length'

-- name: count_again
SELECT count(*) FROM decisions WHERE counted AND state IN ('ready', 'waiting')

-- name: readings_failed
SELECT count(*) FROM events WHERE kind = 'results_incomplete' AND batch_id = $batch_id
