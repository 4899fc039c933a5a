-- name: create_results
CREATE TEMP TABLE results (
    ordinal INTEGER, custom_id VARCHAR, data VARCHAR, model VARCHAR, finish_reason VARCHAR,
    tokens_input INTEGER, tokens_cached INTEGER, tokens_output INTEGER, cost_usd DOUBLE, completed_at DOUBLE,
    failure VARCHAR, code VARCHAR, message VARCHAR, status_code INTEGER, output BOOLEAN
)

-- name: create_decisions
CREATE TEMP TABLE decisions (
    artist_id VARCHAR, state VARCHAR, wait_until DOUBLE, counted BOOLEAN,
    failure VARCHAR, code VARCHAR, message VARCHAR
)

-- name: lines_of_shard
SELECT custom_id, data FROM artists WHERE shard = $shard

-- name: choose_results
-- One verdict a line: the first success, else the first failure. Only lines that this submission claims take one.
CREATE TEMP TABLE chosen AS
SELECT a.artist_id, a.attempts, r.*
FROM (SELECT *, row_number() OVER (PARTITION BY custom_id ORDER BY (data IS NULL), ordinal) AS nth FROM results) AS r
JOIN artists AS a ON a.custom_id = r.custom_id
WHERE r.nth = 1 AND a.submission = $submission AND a.state = 'in_batch'

-- name: outputs_read
-- Lines of the output file, of whatever status: some come with status_code 0 and count as completed all the same.
SELECT count(DISTINCT custom_id) FROM results WHERE custom_id <> '' AND output

-- name: record_wasted
INSERT INTO attempts
SELECT a.artist_id, 'batch', $shard, $submission, $batch_id, 'repeated', r.code, r.message, r.status_code, false,
       r.tokens_input, r.tokens_cached, r.tokens_output, r.cost_usd, $now
FROM results AS r
JOIN artists AS a ON a.custom_id = r.custom_id
LEFT JOIN chosen AS c ON c.ordinal = r.ordinal
WHERE c.ordinal IS NULL
  AND NOT EXISTS (SELECT 1 FROM attempts AS t WHERE t.artist_id = a.artist_id AND t.batch_id = $batch_id)

-- name: add_absent
-- Lines that neither file holds.
INSERT INTO chosen (artist_id, attempts, custom_id, failure, code, message, tokens_input, tokens_cached, tokens_output)
SELECT a.artist_id, a.attempts, a.custom_id, $failure, $code, $message, 0, 0, 0
FROM artists AS a
WHERE a.submission = $submission AND a.state = 'in_batch'
  AND NOT EXISTS (SELECT 1 FROM chosen AS c WHERE c.artist_id = a.artist_id)
RETURNING 1

-- name: count_absent
SELECT count(*) FROM artists AS a
WHERE a.submission = $submission AND a.state = 'in_batch'
  AND NOT EXISTS (SELECT 1 FROM chosen AS c WHERE c.artist_id = a.artist_id)

-- name: failure_counts
SELECT failure, code, count(*)::INTEGER FROM chosen WHERE data IS NULL GROUP BY ALL ORDER BY 3 DESC, 1, 2

-- name: failed_lines
SELECT c.artist_id, c.failure, c.code, c.message, c.attempts,
       (SELECT count(*) FROM attempts AS t
        WHERE t.artist_id = c.artist_id AND t.outcome = c.failure AND t.counted)::INTEGER AS tries
FROM chosen AS c WHERE c.data IS NULL
ORDER BY c.artist_id

-- name: record_successes
INSERT INTO attempts
SELECT artist_id, 'batch', $shard, $submission, $batch_id, 'bio', NULL, NULL, status_code, true,
       tokens_input, tokens_cached, tokens_output, cost_usd, $now
FROM chosen WHERE data IS NOT NULL

-- name: record_failures
INSERT INTO attempts
SELECT c.artist_id, 'batch', $shard, $submission, $batch_id, c.failure, c.code, c.message, c.status_code, d.counted,
       c.tokens_input, c.tokens_cached, c.tokens_output, c.cost_usd, $now
FROM chosen AS c JOIN decisions AS d USING (artist_id)

-- name: insert_bios
INSERT INTO bios
SELECT artist_id, data, model, finish_reason, tokens_input, tokens_cached, tokens_output, cost_usd, 'batch',
       $shard, $batch_id, attempts + 1, coalesce(completed_at, $now), NULL
FROM chosen WHERE data IS NOT NULL

-- name: accept_lines
UPDATE artists SET state = $target, submission = NULL, attempts = artists.attempts + 1,
                   failure = NULL, code = NULL, message = NULL
FROM chosen AS c
WHERE artists.artist_id = c.artist_id AND c.data IS NOT NULL AND list_contains($sources, artists.state)
RETURNING 1

-- name: move_failed_lines
UPDATE artists
SET state = $target, submission = NULL, wait_until = d.wait_until,
    shard = CASE WHEN $target IN ('ready', 'waiting') THEN NULL ELSE artists.shard END,
    attempts = artists.attempts + CASE WHEN d.counted THEN 1 ELSE 0 END,
    failure = d.failure, code = d.code, message = d.message
FROM decisions AS d
WHERE artists.artist_id = d.artist_id AND d.state = $target AND list_contains($sources, artists.state)
RETURNING 1
