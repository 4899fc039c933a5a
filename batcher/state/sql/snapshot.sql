-- name: measured
-- What the settled batches of the newest version show.
SELECT coalesce(sum(executed), 0)::BIGINT, coalesce(sum(counted_tokens), 0)::BIGINT,
       coalesce(sum(used_input), 0)::BIGINT, coalesce(sum(used_cached), 0)::BIGINT,
       coalesce(sum(used_output), 0)::BIGINT, coalesce(sum(again), 0)::BIGINT, coalesce(sum(decided), 0)::BIGINT,
       coalesce(sum(used_written), 0)::BIGINT, coalesce(sum(used_reasoning), 0)::BIGINT
FROM batches AS b JOIN shards AS s USING (shard)
WHERE b.settled_at IS NOT NULL AND s.version >= (SELECT max(version) FROM shards WHERE NOT retry)

-- name: created_since
SELECT count(*) FROM submissions WHERE create_intended_at > $since AND create_intended_at <= $now

-- name: learned
-- The limit that a refusal named last. And half of the smallest shard of the newest version that was refused $often times
-- although nothing of ours was in flight before it: other users of the account hold the rest.
SELECT (SELECT limit_tokens FROM quota_samples
        WHERE source = 'refusal' AND model = $model AND limit_tokens IS NOT NULL AND happened_at > $since
          AND happened_at <= $now
        ORDER BY happened_at DESC LIMIT 1),
       (SELECT min(tokens) // 2 FROM shards
        WHERE lines > 1 AND version >= (SELECT max(version) FROM shards WHERE NOT retry)
          AND shard IN (SELECT shard FROM submissions
                        WHERE outcome = 'refused: enqueued_limit' AND reserved_before = 0
                          AND ended_at > $since AND ended_at <= $now
                        GROUP BY shard HAVING count(*) >= $often))

-- name: newest_limit
SELECT limit_tokens, happened_at FROM quota_samples
WHERE source = 'refusal' AND model = $model AND limit_tokens IS NOT NULL AND happened_at <= $now ORDER BY happened_at DESC LIMIT 1

-- name: ceiling_passed
-- Batches that the service accepted beyond a limit.
SELECT count(*) FROM submissions AS n JOIN batches AS b USING (submission)
WHERE n.intended_at >= $since AND n.reserved_before + n.reserved > $ceiling
  AND b.status NOT IN ('validating', 'failed', 'overdue')

-- name: reserved
-- What was reserved by a ratio that has since proved too low counts by the ratio that is known now.
SELECT (SELECT coalesce(sum(greatest(reserved, ceil(tokens * $factor))), 0) FROM submissions WHERE ended_at IS NULL)::BIGINT
     + (SELECT coalesce(sum(greatest(b.reserved, ceil(n.tokens * $factor))), 0)
        FROM batches AS b JOIN submissions AS n USING (submission) WHERE b.stray AND b.ended_at IS NULL)::BIGINT

-- name: runs_anything
-- Whether anything is under way in either lane. A call that has been open for longer has lost its process.
SELECT EXISTS (FROM batches WHERE settled_at IS NULL) OR EXISTS (FROM shards WHERE state IN ('uploading', 'creating'))
    OR EXISTS (FROM direct_calls WHERE ended_at IS NULL AND intended_at > $since)

-- name: active_shards
SELECT shard, priority, state, lines, tokens, CASE WHEN wait_until > $latest THEN 0 ELSE wait_until END, submission, version, longest,
       pilot IS NOT NULL
FROM shards
WHERE state NOT IN ('planned', 'settled', 'stale', 'split')

-- name: open_batches
-- `cancels`: to be cancelled, and the service was not asked yet. `held_back`: another batch of its shard is not settled,
-- and is read first, because this one decides the lines.
SELECT batch_id, shard, status, reserved, CASE WHEN retry_at > $latest THEN 0 ELSE retry_at END AS due,
       (cancel_wanted_at IS NOT NULL OR shard IN (SELECT shard FROM wishes WHERE ended_at IS NULL))
           AND cancel_asked_at IS NULL AND ended_at IS NULL
           AND (cancel_due <= $now OR cancel_due > $latest) AS cancels, recorded_at,
       NOT stray AND count(*) OVER (PARTITION BY shard) > 1 AS held_back
FROM batches WHERE settled_at IS NULL

-- name: loose_lines
SELECT priority, count(*), sum(tokens)::BIGINT, CASE WHEN due <= $now THEN 0 ELSE min(due) END, version
FROM (SELECT priority, version, tokens, CASE WHEN wait_until > $latest THEN 0 ELSE coalesce(wait_until, 0) END AS due
      FROM artists
      WHERE shard IS NULL AND state IN ('ready', 'waiting') AND version IS NOT NULL)
GROUP BY priority, version, due <= $now, CASE WHEN due <= $now THEN 0 ELSE due END

-- name: judged_answers
-- Every version with its prompt, and the newest judged answers of the prompt among the newest executions, counted by
-- outcome and reason. Those do not count (`is_past`) that were given to a line whose answer to the same prompt was of no
-- use before, or before the user decided to go on (the first $passed of all executions). Row numbers grow with time,
-- whatever a clock says, none is ever deleted, and those of rows that this very transaction has added are higher than all:
-- only the end of the table is read.
-- The bios of a batch are recorded before its failures, in part perhaps at an earlier reading. So the answers of a batch
-- count as given at one time, and in no order of theirs: else the newest ones of a large batch would be its failures.
WITH newest AS (
    SELECT rowid AS number, version, outcome, coalesce(code, '') AS code, again, coalesce(batch_id, artist_id) AS batch,
           hash(artist_id) AS place
    FROM attempts
    WHERE outcome IN ('bio', 'unusable')
      AND happened_at >= (SELECT min(happened_at) FROM attempts
                          WHERE rowid >= (SELECT count(*) FROM attempts) - $newest)
)
SELECT version, prompt, is_past, outcome, code, answers
FROM versions LEFT JOIN (
    SELECT prompt, again OR number < $passed AS is_past, outcome, code, count(*) AS answers
    FROM (SELECT prompt, outcome, code, again, number
          FROM newest JOIN versions USING (version)
          JOIN (SELECT batch, max(number) AS last FROM newest GROUP BY batch) USING (batch)
          QUALIFY row_number() OVER (PARTITION BY prompt, again ORDER BY last DESC, place) <= $window)
    GROUP BY ALL) USING (prompt)
ORDER BY version, answers DESC, code

-- name: prompt_lines
-- The lines of each prompt, those in shards that are under way and not settled, and those of a pilot that is not settled;
-- and the executions that were recorded after the first $passed ones.
SELECT prompt, sum(lines)::BIGINT, sum(in_flight)::BIGINT, sum(pilot)::BIGINT, sum(executions)::BIGINT
FROM (SELECT version, count(*) AS lines, 0 AS in_flight, 0 AS pilot, 0 AS executions FROM artists
      WHERE version IS NOT NULL GROUP BY version
      UNION ALL
      SELECT version, 0, coalesce(sum(lines) FILTER (state IN ('uploading', 'creating', 'in_flight', 'ended')), 0),
             coalesce(sum(lines) FILTER (pilot IS NOT NULL), 0), 0
      FROM shards WHERE state NOT IN ('settled', 'stale', 'split') GROUP BY version
      UNION ALL
      SELECT version, 0, 0, 0, count(*) FROM attempts WHERE rowid >= $passed GROUP BY version)
JOIN versions USING (version) GROUP BY prompt

-- name: count_attempts
SELECT count(*) FROM attempts
