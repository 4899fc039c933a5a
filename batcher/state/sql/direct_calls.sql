-- name: direct_lines
-- The lines that the direct lane may send, the most urgent first; lines in no shard before lines in a shard. `full`: the
-- limit of this command is reached by the lines sent since call `first`; only these lines are retried. Lines that wait in
-- a planned shard, or in a stale one until they are cut again, were not released.
SELECT artist_id, custom_id, data, tokens, line_hash, version, shard FROM artists
WHERE state = 'ready' AND version IS NOT NULL AND NOT list_contains($braked, version)
  AND ($priority IS NULL OR priority = $priority) AND ($failure IS NULL OR failure = $failure)
  AND ($unreleased OR shard IS NULL OR shard NOT IN (SELECT shard FROM shards WHERE state IN ('planned', 'stale')))
  AND (NOT $full OR artist_id IN (SELECT artist_id FROM direct_calls WHERE call >= $first))
ORDER BY priority, shard IS NOT NULL, seq LIMIT $most

-- name: direct_due
-- When the next of the waiting lines is due, and the version of lines that the brake keeps back.
SELECT min(wait_until) FILTER (NOT list_contains($braked, version)),
       min(version) FILTER (list_contains($braked, version))
FROM artists
WHERE (state = 'waiting' OR (state = 'ready' AND list_contains($braked, version))) AND version IS NOT NULL
  AND ($priority IS NULL OR priority = $priority) AND ($failure IS NULL OR failure = $failure)
  AND ($unreleased OR shard IS NULL OR shard NOT IN (SELECT shard FROM shards WHERE state IN ('planned', 'stale')))
  AND (NOT $full OR artist_id IN (SELECT artist_id FROM direct_calls WHERE call >= $first))

-- name: weigh_selection
-- The lines that a selection is for, counted by version and by tokens.
SELECT version, tokens, count(*) FROM (
    SELECT version, tokens FROM artists WHERE state IN ('ready', 'waiting') AND version IS NOT NULL
      AND ($priority IS NULL OR priority = $priority) AND ($failure IS NULL OR failure = $failure)
      AND ($unreleased OR shard IS NULL OR shard NOT IN (SELECT shard FROM shards WHERE state IN ('planned', 'stale')))
    ORDER BY priority, shard IS NOT NULL, seq LIMIT $most)
GROUP BY ALL

-- name: direct_fall_due
UPDATE artists SET state = $target, wait_until = NULL
WHERE shard IS NULL AND (wait_until <= $now OR wait_until > $latest) AND list_contains($sources, state)

-- name: next_call
SELECT coalesce(max(call), 0) + 1 FROM direct_calls

-- name: count_lines_claimed
SELECT count(DISTINCT artist_id) FROM direct_calls WHERE call >= $first

-- name: calls_since
SELECT count(*) FROM direct_calls WHERE intended_at > $since

-- name: still_ready
-- Those of these lines that are still ready, with the shard that holds them now. The caller compares version and hash.
SELECT artist_id, shard, version, line_hash FROM artists WHERE list_contains($ids, artist_id) AND state = 'ready'

-- name: recent_calls
SELECT intended_at, tokens FROM direct_calls WHERE intended_at > $since AND intended_at <= $now ORDER BY intended_at

-- name: nth_call_since
SELECT intended_at FROM direct_calls WHERE intended_at > $since ORDER BY intended_at LIMIT 1 OFFSET $n

-- name: claim_direct
UPDATE artists SET state = $target, shard = NULL
FROM direct_calls AS c
WHERE artists.artist_id = c.artist_id AND c.call >= $first AND c.ended_at IS NULL AND list_contains($sources, artists.state)

-- name: open_calls
-- Calls whose process died; their completion may have been made.
SELECT c.call, c.artist_id, a.custom_id, a.data, a.version FROM direct_calls AS c JOIN artists AS a USING (artist_id)
WHERE c.ended_at IS NULL ORDER BY c.call LIMIT 100

-- name: create_answers
CREATE TEMP TABLE answers (
    call INTEGER, artist_id VARCHAR, outcome VARCHAR, data VARCHAR, model VARCHAR, finish_reason VARCHAR,
    tokens_input INTEGER, tokens_cached INTEGER, tokens_output INTEGER, tokens_written INTEGER, tokens_reasoning INTEGER,
    cost_usd DOUBLE, completed_at DOUBLE,
    code VARCHAR, message VARCHAR, status_code INTEGER, state VARCHAR, wait_until DOUBLE, counted BOOLEAN,
    version INTEGER
)

-- name: tries_of
-- Attempts that counted, of every class and of one; those of that class that did not count; calls with a lost answer.
SELECT a.attempts, count(*) FILTER (t.counted AND t.outcome = $failure),
       count(*) FILTER (NOT t.counted AND t.outcome = $failure), count(*) FILTER (t.outcome = 'lost')
FROM artists AS a LEFT JOIN attempts AS t USING (artist_id) WHERE a.artist_id = $artist_id GROUP BY a.attempts

-- name: find_failing_lines
-- Those of these lines that have failed with a class more often than it allows.
SELECT artist_id FROM attempts WHERE list_contains($ids, artist_id) AND outcome = $failure
GROUP BY artist_id HAVING count(*) > $tries

-- name: create_taken
-- The answers that their lines take. A bio for a line that has one meanwhile (from a batch that was adopted late) is paid
-- for, but not used; nor is that of a call from before the line's bio was asked for again, which says nothing of the call
-- that the line waits for.
CREATE TEMP TABLE taken AS
SELECT w.*, a.attempts, a.redo_after IS NOT NULL AS redone, coalesce(w.version, a.version) AS asked_version
FROM answers AS w JOIN artists AS a USING (artist_id)
WHERE a.state = 'in_direct' AND coalesce(w.call > a.redo_call, true)

-- name: record_answers
INSERT INTO attempts
WITH refused AS (
    SELECT DISTINCT t.artist_id, v.prompt FROM attempts AS t JOIN versions AS v USING (version)
    WHERE t.outcome = 'unusable' AND t.artist_id IN (SELECT artist_id FROM answers)
)
SELECT w.artist_id, 'direct', NULL, NULL, NULL,
       CASE WHEN w.data IS NOT NULL AND k.call IS NULL THEN 'repeated' ELSE w.outcome END,
       w.code, w.message, w.status_code, w.counted AND k.call IS NOT NULL,
       w.tokens_input, w.tokens_cached, w.tokens_output, w.cost_usd, $now, w.tokens_written, w.tokens_reasoning,
       coalesce(w.version, a.version), w.call, r.prompt IS NOT NULL
FROM answers AS w JOIN artists AS a USING (artist_id) LEFT JOIN taken AS k ON k.call = w.call
LEFT JOIN versions AS v ON v.version = coalesce(w.version, a.version)
LEFT JOIN refused AS r ON r.artist_id = w.artist_id AND r.prompt = v.prompt
WHERE w.outcome <> 'unsent'

-- name: insert_direct_bios
INSERT INTO bios
SELECT artist_id, data, model, finish_reason, tokens_input, tokens_cached, tokens_output, cost_usd,
       'direct', NULL, NULL, attempts + 1, coalesce(completed_at, $now), NULL, tokens_written, tokens_reasoning,
       asked_version, call
FROM taken WHERE data IS NOT NULL AND NOT redone

-- name: count_redone_answers
SELECT count(*) FROM taken WHERE data IS NOT NULL AND redone

-- name: keep_former_direct_bios
INSERT INTO former_bios
SELECT b.*, 'redo', $now FROM bios AS b JOIN taken AS w USING (artist_id) WHERE w.data IS NOT NULL AND w.redone

-- name: replace_direct_bios
UPDATE bios
SET data = w.data, model = w.model, finish_reason = w.finish_reason, tokens_input = w.tokens_input,
    tokens_cached = w.tokens_cached, tokens_output = w.tokens_output, cost_usd = w.cost_usd, lane = 'direct', shard = NULL,
    batch_id = NULL, attempts = w.attempts + 1, completed_at = coalesce(w.completed_at, $now), collected_at = NULL,
    tokens_written = w.tokens_written, tokens_reasoning = w.tokens_reasoning, version = w.asked_version, call = w.call
FROM taken AS w WHERE bios.artist_id = w.artist_id AND w.data IS NOT NULL AND w.redone

-- name: accept_answers
UPDATE artists SET state = $target, attempts = artists.attempts + 1, failure = NULL, code = NULL, message = NULL,
                   redo_after = NULL
FROM taken AS w
WHERE artists.artist_id = w.artist_id AND w.data IS NOT NULL AND list_contains($sources, artists.state)

-- name: move_failed_answers
UPDATE artists
SET state = $target, wait_until = w.wait_until, attempts = artists.attempts + CASE WHEN w.counted THEN 1 ELSE 0 END,
    -- A failure that costs the line no try is not its own: it keeps the failure that it had before.
    failure = CASE WHEN $target IN ('ready', 'waiting') AND NOT w.counted THEN artists.failure
                   WHEN w.outcome = 'lost' THEN 'missing' ELSE w.outcome END,
    code = CASE WHEN $target IN ('ready', 'waiting') AND NOT w.counted THEN artists.code ELSE w.code END,
    message = CASE WHEN $target IN ('ready', 'waiting') AND NOT w.counted THEN artists.message ELSE w.message END
FROM taken AS w
WHERE artists.artist_id = w.artist_id AND w.data IS NULL AND w.state = $target AND list_contains($sources, artists.state)

-- name: widen_answers
-- Lines whose answer was cut off are retried with more room: as another version, and so with a new hash.
UPDATE artists SET version = $version, line_hash = NULL
FROM answers AS w
WHERE artists.artist_id = w.artist_id AND w.code = 'length' AND artists.state IN ('ready', 'waiting')
  AND artists.version = $was

-- name: end_calls
UPDATE direct_calls SET ended_at = $now, outcome = w.outcome FROM answers AS w WHERE direct_calls.call = w.call

-- name: outcomes_since
SELECT outcome, count(*) FROM direct_calls WHERE call >= $first AND outcome IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1

-- name: count_service_bios
-- Bios that the service has made for this job, in either lane; bios of an earlier run were imported.
SELECT count(*) FROM bios WHERE lane <> 'earlier'
