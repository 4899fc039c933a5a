-- name: measured
-- What the settled batches of the newest version teach.
SELECT coalesce(sum(executed), 0)::BIGINT, coalesce(sum(counted_tokens), 0)::BIGINT,
       coalesce(sum(used_input), 0)::BIGINT, coalesce(sum(used_cached), 0)::BIGINT,
       coalesce(sum(used_output), 0)::BIGINT, coalesce(sum(again), 0)::BIGINT, coalesce(sum(decided), 0)::BIGINT
FROM batches AS b JOIN shards AS s USING (shard)
WHERE b.settled_at IS NOT NULL AND s.version >= (SELECT max(version) FROM shards WHERE NOT retry)

-- name: created_since
SELECT count(*) FROM submissions WHERE create_intended_at > $since AND create_intended_at <= $now

-- name: learned
-- The limit that a refusal named last; and half of the smallest shard of the newest version that was refused so often
-- though nothing of ours was in flight before it: others hold the rest.
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
-- Batches that the service took on beyond a limit.
SELECT count(*) FROM submissions AS n JOIN batches AS b USING (submission)
WHERE n.intended_at >= $since AND n.reserved_before + n.reserved > $ceiling
  AND b.status NOT IN ('validating', 'failed', 'overdue')

-- name: reserved
-- What was reserved by a ratio that has proved too low since counts by the one that is known now.
SELECT (SELECT coalesce(sum(greatest(reserved, ceil(tokens * $factor))), 0) FROM submissions WHERE ended_at IS NULL)::BIGINT
     + (SELECT coalesce(sum(greatest(b.reserved, ceil(n.tokens * $factor))), 0)
        FROM batches AS b JOIN submissions AS n USING (submission) WHERE b.stray AND b.ended_at IS NULL)::BIGINT

-- name: money
-- A stray costs as much as the batch beside it. What was given up is reserved for the lines that are perhaps paid and
-- that nobody has bought again.
SELECT (SELECT coalesce(sum(cost_usd), 0) FROM attempts),
       (SELECT coalesce(sum(reserved_usd), 0) FROM submissions WHERE outcome IS NULL)
     + (SELECT coalesce(sum(n.reserved_usd), 0) FROM batches AS b JOIN submissions AS n USING (submission)
        WHERE b.stray AND b.settled_at IS NULL)
     + (SELECT coalesce(sum(n.reserved_usd / n.lines), 0)
        FROM batches AS b JOIN submissions AS n USING (submission) JOIN attempts AS t ON t.batch_id = b.batch_id
        JOIN artists AS a USING (artist_id)
        WHERE b.settled_at IS NOT NULL AND (b.stray OR n.outcome IS NOT NULL) AND t.outcome = 'missing'
          AND a.failure = 'missing' AND a.state IN ('held', 'ready', 'waiting'))
     + (SELECT coalesce(sum(reserved_usd), 0) FROM direct_calls WHERE ended_at IS NULL OR outcome = 'lost')

-- name: calls_running
-- One that is open for longer has lost its process.
SELECT count(*) FROM direct_calls WHERE ended_at IS NULL AND intended_at > $since
