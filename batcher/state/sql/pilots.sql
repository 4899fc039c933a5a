-- The statements of state/pilots.py.

-- name: sample_candidates
-- Lines that this plan puts into shards, by what is known of their artists: the length of the row less what each has. The
-- row holds one name more for each further value.
SELECT seq, priority, length(data) - length(artist_id) - length(artist_name) - length(priority::VARCHAR),
       len(json_keys(data)) <= 3
FROM unplanned

-- name: insert_pilot
INSERT INTO pilots (pilot, version, wished, seed, lines, made_at, executions_before)
VALUES ($pilot, $version, $wished, $seed, (SELECT count(*) FROM sample), $now, (SELECT count(*) FROM attempts))

-- name: insert_pilot_lines
INSERT INTO pilot_lines
SELECT $pilot, u.artist_id, s.stratum, s.weight FROM sample AS s JOIN unplanned AS u USING (seq) ORDER BY s.stratum, seq

-- name: delete_replanned_lines
-- A ready artist without a version is about to be put into a shard by this plan. A line with a judged answer stays: cutting
-- it again takes nothing from what the pilot has shown.
DELETE FROM pilot_lines
WHERE artist_id IN (SELECT artist_id FROM artists WHERE state IN ('ready', 'done_before') AND version IS NULL)
  AND (pilot, artist_id) NOT IN (
      SELECT (p.pilot, t.artist_id)
      FROM pilots AS p JOIN versions AS v USING (version) JOIN versions AS w ON w.prompt = v.prompt
      JOIN attempts AS t ON t.version = w.version
      WHERE t.outcome IN ('bio', 'unusable') AND t.rowid >= p.executions_before)

-- name: delete_empty_pilots
DELETE FROM pilots WHERE pilot NOT IN (SELECT pilot FROM pilot_lines) RETURNING pilot

-- name: forget_pilot_shards
UPDATE shards SET pilot = NULL WHERE list_contains($pilots, pilot)

-- name: release_pilot
UPDATE shards SET state = 'released' WHERE pilot = $pilot AND state = 'planned' RETURNING shard

-- name: newest_pilot
-- The newest pilot of a prompt, or of any.
SELECT p.pilot, p.version, v.prompt, p.wished, p.seed, p.lines, p.resumed_at
FROM pilots AS p JOIN versions AS v USING (version)
WHERE $prompt IS NULL OR v.prompt = $prompt ORDER BY p.pilot DESC LIMIT 1

-- name: count_open_pilot_shards
SELECT count(*) FROM shards WHERE pilot = $pilot AND state NOT IN ('settled', 'stale', 'split')

-- name: count_open_pilot_lines
-- Lines of a pilot that are to be followed. One that a later plan has put into a shard beside the pilot's is not, nor one
-- whose bio was asked for again since.
SELECT count(*) FROM pilot_lines AS l JOIN artists AS a USING (artist_id) LEFT JOIN shards AS s USING (shard)
WHERE l.pilot = $pilot
  AND a.version IN (SELECT version FROM versions WHERE prompt = $prompt)
  AND (a.redo_after IS NULL OR a.redo_after < (SELECT min(shard) FROM shards WHERE pilot = $pilot))
  AND (a.state IN ('waiting', 'in_batch', 'in_direct')
       OR (a.state = 'ready' AND (s.shard IS NULL OR s.state <> 'planned' OR s.pilot = $pilot)))

-- name: pilot_lines
-- The lines of a pilot with their first judged answer, and what all their executions for its prompt have cost. Those count
-- that were recorded after it was drawn: by the row numbers, which grow with time, whatever a clock says (see
-- judged_answers).
SELECT l.artist_id, l.stratum, l.weight, a.artist_name, a.state, a.failure, a.code, a.tokens, t.first.outcome, t.first.code,
       t.first.message, t.first.batch_id, t.first.call, coalesce(t.executed, 0), coalesce(t.input, 0)::BIGINT,
       coalesce(t.output, 0)::BIGINT, coalesce(t.usd, 0), coalesce(t.unpriced, 0), b.data,
       coalesce(t.written, 0)::BIGINT
FROM pilot_lines AS l JOIN artists AS a USING (artist_id)
LEFT JOIN (
    SELECT artist_id,
           arg_min({'outcome': outcome, 'code': code, 'message': message, 'batch_id': batch_id, 'call': call}, rowid)
               FILTER (outcome IN ('bio', 'unusable')) AS first,
           count(*) FILTER (tokens_input > 0) AS executed, sum(tokens_input) AS input, sum(tokens_output) AS output,
           sum(cost_usd) AS usd, sum(tokens_written) AS written,
           count(*) FILTER (cost_usd IS NULL AND tokens_input > 0) AS unpriced
    FROM attempts
    WHERE rowid >= (SELECT executions_before FROM pilots WHERE pilot = $pilot)
      AND version IN (SELECT version FROM versions WHERE prompt = $prompt)
      AND artist_id IN (SELECT artist_id FROM pilot_lines WHERE pilot = $pilot)
    GROUP BY artist_id
) AS t USING (artist_id)
LEFT JOIN bios AS b ON b.artist_id = l.artist_id AND t.first.outcome IS NOT NULL AND a.state = 'done'
WHERE l.pilot = $pilot ORDER BY l.stratum, a.seq

-- name: count_judged_answers
SELECT count(*) FROM attempts
WHERE outcome IN ('bio', 'unusable') AND version IN (SELECT version FROM versions WHERE prompt = $prompt)

-- name: count_released_shards
SELECT count(*) FROM shards WHERE NOT retry AND pilot IS NULL AND state IN ('released', 'uploaded')

-- name: count_unsent_lines
SELECT coalesce(sum(lines), 0) FROM shards
WHERE NOT retry AND state IN ('planned', 'released', 'uploaded') AND version = $version

-- name: count_untried_lines
-- Lines in no shard that were never sent with this version: those of `redo` and `retry` after a change of the prompt.
SELECT count(*) FROM artists
WHERE shard IS NULL AND state = 'ready' AND version = $version
  AND artist_id NOT IN (SELECT artist_id FROM attempts WHERE version = $version)

-- name: pilots_of_prompts
-- The newest pilot of each prompt, and the prompt's lines in shards that were never sent.
SELECT p.pilot, p.version, v.prompt, p.wished, p.seed, p.lines, p.resumed_at, coalesce(u.lines, 0)
FROM pilots AS p JOIN versions AS v USING (version) LEFT JOIN (
    SELECT prompt, sum(lines) AS lines FROM shards JOIN versions USING (version)
    WHERE NOT retry AND state IN ('planned', 'released', 'uploaded') GROUP BY prompt
) AS u USING (prompt)
QUALIFY row_number() OVER (PARTITION BY v.prompt ORDER BY p.pilot DESC) = 1 ORDER BY p.pilot DESC

-- name: resume_pilot
UPDATE pilots SET resumed_at = $now WHERE pilot = $pilot
