-- The statements of state/results.py, in the order in which it calls them; its head describes the temporary tables.

-- name: lines_of_shard
SELECT artist_id, seq, attempts, tokens, list_contains($open, state) AS open,
       state = 'in_batch' AND submission IS NOT DISTINCT FROM $claim AS claimed, data, custom_id,
       redo_after IS NOT NULL AS redone
FROM artists WHERE shard = $shard

-- name: lines_moved_away
-- Lines that the shard held before and that another shard, or none, holds now: a late batch may still report them. Where the
-- bio was asked for again since, its answers are of the bio that exists.
SELECT artist_id, seq, attempts, tokens, list_contains($open, state) AND $shard > coalesce(redo_after, 0) AS open,
       false AS claimed, data, custom_id, redo_after IS NOT NULL AS redone
FROM artists
WHERE shard IS DISTINCT FROM $shard AND artist_id IN (SELECT artist_id FROM attempts WHERE shard = $shard)

-- name: recorded_artists
SELECT artist_id FROM attempts WHERE shard = $shard AND batch_id = $batch_id AND outcome <> 'missing'

-- name: create_results
CREATE TEMP TABLE results (
    artist_id VARCHAR, seq INTEGER, attempts INTEGER, tokens INTEGER, open BOOLEAN, claimed BOOLEAN,
    redone BOOLEAN, data VARCHAR, model VARCHAR, finish_reason VARCHAR, tokens_input INTEGER, tokens_cached INTEGER,
    tokens_output INTEGER, tokens_written INTEGER, tokens_reasoning INTEGER,
    cost_usd DOUBLE, completed_at DOUBLE, status_code INTEGER,
    failure VARCHAR, code VARCHAR, message VARCHAR
)

-- name: drop_superseded_failures
DELETE FROM results WHERE data IS NULL AND artist_id IN (SELECT artist_id FROM results WHERE data IS NOT NULL)

-- name: record_successes
-- A second success of a line was paid for and changes nothing: its outcome is 'repeated'.
INSERT INTO attempts
SELECT artist_id, 'batch', $shard, $submission, $batch_id, CASE WHEN open THEN 'bio' ELSE 'repeated' END, NULL, NULL,
       status_code, open, tokens_input, tokens_cached, tokens_output, cost_usd, $now, tokens_written, tokens_reasoning,
       (SELECT version FROM shards WHERE shard = $shard), NULL, false
FROM results WHERE data IS NOT NULL

-- name: insert_bios
INSERT INTO bios
SELECT artist_id, data, model, finish_reason, tokens_input, tokens_cached, tokens_output, cost_usd, 'batch',
       $shard, $batch_id, attempts + 1, coalesce(completed_at, $now), NULL, tokens_written, tokens_reasoning,
       (SELECT version FROM shards WHERE shard = $shard), NULL
FROM results WHERE data IS NOT NULL AND open AND NOT redone

-- name: keep_former_bios
INSERT INTO former_bios
SELECT b.*, 'redo', $now FROM bios AS b JOIN results AS r USING (artist_id) WHERE r.data IS NOT NULL AND r.open AND r.redone

-- name: replace_bios
-- An UPDATE, as DuckDB refuses to delete and to insert a key within one transaction.
UPDATE bios
SET data = r.data, model = r.model, finish_reason = r.finish_reason, tokens_input = r.tokens_input,
    tokens_cached = r.tokens_cached, tokens_output = r.tokens_output, cost_usd = r.cost_usd, lane = 'batch', shard = $shard,
    batch_id = $batch_id, attempts = r.attempts + 1, completed_at = coalesce(r.completed_at, $now), collected_at = NULL,
    tokens_written = r.tokens_written, tokens_reasoning = r.tokens_reasoning,
    version = (SELECT version FROM shards WHERE shard = $shard), call = NULL
FROM results AS r WHERE bios.artist_id = r.artist_id AND r.data IS NOT NULL AND r.open AND r.redone

-- name: accept_lines
-- Joined by `seq` as well: the artists are stored in its order, so that only row groups near the shard's own are read.
UPDATE artists SET state = $target, submission = NULL, wait_until = NULL, shard = $shard,
                   attempts = artists.attempts + 1, failure = NULL, code = NULL, message = NULL, redo_after = NULL
FROM results AS r
WHERE artists.seq = r.seq AND artists.artist_id = r.artist_id AND r.data IS NOT NULL AND r.open
  AND list_contains($sources, artists.state)

-- name: record_undecided_failures
INSERT INTO attempts
SELECT artist_id, 'batch', $shard, $submission, $batch_id, failure, code, message, status_code, false,
       tokens_input, tokens_cached, tokens_output, cost_usd, $now, tokens_written, tokens_reasoning,
       (SELECT version FROM shards WHERE shard = $shard), NULL, false
FROM results WHERE data IS NULL

-- name: create_failures
CREATE TEMP TABLE failures AS
SELECT artist_id, seq, attempts, claimed, true AS own, $batch_id::VARCHAR AS batch_id, failure, code, message,
       status_code, tokens_input, tokens_cached, tokens_output, tokens_written, tokens_reasoning, cost_usd
FROM results WHERE data IS NULL

-- name: add_sibling_failures
-- What a sibling batch recorded of a line without deciding it counts, whatever this batch says of the line.
INSERT INTO failures
SELECT a.artist_id, a.seq, a.attempts, true, false, t.batch_id, t.outcome, t.code, t.message, NULL, 0, 0, 0, 0, 0, NULL
FROM attempts AS t JOIN artists AS a USING (artist_id)
WHERE t.shard = $shard AND t.batch_id <> $batch_id AND NOT t.counted AND t.outcome NOT IN ('bio', 'repeated')
  AND a.state = 'in_batch' AND a.submission = $claim

-- name: create_verdicts
-- Of several failures of a line the first of this order decides: a perhaps paid line must never be bought again, and a
-- failure of an execution says more than the absence of one.
CREATE TEMP TABLE verdicts AS
SELECT * EXCLUDE (nth) FROM (
    SELECT *, row_number() OVER (PARTITION BY artist_id ORDER BY
        CASE WHEN failure = 'missing' THEN 0 WHEN code = 'no_result' THEN 2 WHEN failure = 'expired' THEN 3
             WHEN failure = 'cancelled' THEN 4 ELSE 1 END, own DESC, batch_id) AS nth
    FROM failures WHERE claimed
) WHERE nth = 1

-- name: failure_counts
SELECT failure, code, count(*)::INTEGER FROM verdicts GROUP BY ALL ORDER BY 3 DESC, 1, 2

-- name: quota_sentence
-- What the service said of any of the lines that failed so; NULL where there are none.
SELECT max(message) FROM failures WHERE failure = $failure

-- name: first_failures
-- Of each reason the lines to which this class of failure has not happened before.
SELECT code, count(*)::INTEGER FROM verdicts AS v
WHERE failure = $failure
  AND NOT EXISTS (SELECT 1 FROM attempts AS t WHERE t.artist_id = v.artist_id AND t.outcome = $failure)
GROUP BY code ORDER BY 2 DESC, 1

-- name: reason_history
SELECT count(*) FILTER (outcome = $failure AND code = $code), count(*) FILTER (outcome = 'bio') FROM attempts
WHERE happened_at < $before

-- name: bios_so_far
SELECT (SELECT count(*) FROM attempts WHERE shard = $shard AND outcome = 'bio'),
       (SELECT count(*) FROM bios WHERE lane <> 'earlier')

-- name: failed_lines
SELECT v.artist_id, v.failure, v.attempts,
       count(t.artist_id) FILTER (t.counted)::INTEGER, count(t.artist_id) FILTER (NOT t.counted)::INTEGER
FROM verdicts AS v LEFT JOIN attempts AS t ON t.artist_id = v.artist_id AND t.outcome = v.failure
GROUP BY v.artist_id, v.failure, v.attempts ORDER BY v.artist_id

-- name: create_decisions
CREATE TEMP TABLE decisions (artist_id VARCHAR, state VARCHAR, wait_until DOUBLE, counted BOOLEAN)

-- name: record_failures
INSERT INTO attempts
SELECT f.artist_id, 'batch', $shard, $submission, $batch_id, f.failure, f.code, f.message, f.status_code,
       coalesce(d.counted AND v.own, false), f.tokens_input, f.tokens_cached, f.tokens_output, f.cost_usd, $now,
       f.tokens_written, f.tokens_reasoning, (SELECT version FROM shards WHERE shard = $shard), NULL, false
FROM failures AS f LEFT JOIN verdicts AS v USING (artist_id) LEFT JOIN decisions AS d USING (artist_id)
WHERE f.own

-- name: mark_answers_again
-- Answers of a batch to lines whose answer to the same prompt was of no use before.
UPDATE attempts SET again = true
WHERE batch_id = $batch_id AND outcome IN ('bio', 'unusable')
  AND artist_id IN (SELECT t.artist_id FROM attempts AS t JOIN versions AS v USING (version)
                    WHERE t.outcome = 'unusable' AND t.batch_id IS DISTINCT FROM $batch_id
                      AND v.prompt = (SELECT w.prompt FROM shards AS s JOIN versions AS w USING (version)
                                      WHERE s.shard = $shard))

-- name: count_sibling_failures
-- A failure that a sibling recorded and that decided its line counts as a try from now on.
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

-- name: count_cut_off_lines
SELECT count(*) FROM decisions AS d JOIN verdicts AS v USING (artist_id)
WHERE d.state IN ('ready', 'waiting') AND v.failure = 'unusable' AND v.code = 'length'

-- name: widen_cut_off_lines
-- A line that is retried with more room is of another version, and so has another hash.
UPDATE artists SET version = $version, line_hash = NULL
FROM decisions AS d JOIN verdicts AS v USING (artist_id)
WHERE artists.seq = v.seq AND artists.artist_id = d.artist_id AND d.state IN ('ready', 'waiting')
  AND v.failure = 'unusable' AND v.code = 'length'

-- name: count_retried_lines
SELECT count(*) FROM decisions WHERE counted AND state IN ('ready', 'waiting')

-- name: record_batch_usage
UPDATE batches
SET executed = batches.executed + m.executed, counted_tokens = batches.counted_tokens + m.counted,
    used_input = batches.used_input + m.input, used_cached = batches.used_cached + m.cached,
    used_output = batches.used_output + m.output, used_written = batches.used_written + m.written,
    used_reasoning = batches.used_reasoning + m.reasoning, again = $retried, decided = $decided
FROM (SELECT count(*) AS executed, coalesce(sum(tokens), 0) AS counted, coalesce(sum(tokens_input), 0) AS input,
             coalesce(sum(tokens_cached), 0) AS cached, coalesce(sum(tokens_output), 0) AS output,
             coalesce(sum(tokens_written), 0) AS written, coalesce(sum(tokens_reasoning), 0) AS reasoning
      FROM results WHERE tokens_input > 0 AND (data IS NOT NULL OR $failures)) AS m
WHERE batches.batch_id = $batch_id

-- name: refuse_line
UPDATE artists
SET state = $target, submission = NULL, attempts = attempts + $tries, failure = $failure, code = $code, message = $message
WHERE custom_id = $custom_id AND submission = $submission AND list_contains($sources, state)

-- name: record_refused_line
INSERT INTO attempts (artist_id, lane, shard, batch_id, outcome, code, message, counted, cost_usd, happened_at,
                      version)
SELECT artist_id, 'batch', shard, $batch_id, failure, code, message, $counted, 0, $now, version FROM artists
WHERE custom_id = $custom_id

-- name: refused_before
SELECT custom_id FROM artists WHERE submission = $submission AND failure = $failure

-- name: refusal_history
SELECT (SELECT count(*) FROM artists
        WHERE state IN ('dead', 'ready', 'in_batch') AND failure = $failure AND code = $code
          AND submission IS DISTINCT FROM $submission AND follows IS NULL),
       (SELECT count(*) FROM bios WHERE lane <> 'earlier')

