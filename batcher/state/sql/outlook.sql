-- name: paid_again
-- Answers of the newest version that were paid for and could not be used, also those of lines that are dead since.
SELECT count(*) FROM attempts AS t JOIN shards AS s USING (shard)
WHERE t.outcome = 'unusable' AND t.tokens_input > 0 AND s.version >= (SELECT max(version) FROM shards WHERE NOT retry)

-- name: service_times
-- Seconds from a batch's creation to its end, in the service's clock, of those that were not cut short.
SELECT finished_at - created_at FROM batches
WHERE status IN ('completed', 'expired') AND finished_at IS NOT NULL ORDER BY 1

-- name: flights
-- What is in flight: its reserved tokens, its lines, and its age in seconds in our clock.
SELECT CASE WHEN b.stray THEN b.reserved ELSE n.reserved END, n.lines, greatest($now - b.recorded_at, 0)
FROM batches AS b JOIN submissions AS n USING (submission)
WHERE b.ended_at IS NULL
UNION ALL
SELECT n.reserved, n.lines, 0.0 FROM submissions AS n WHERE n.ended_at IS NULL AND n.batch_id IS NULL

-- name: unsent
-- What is not sent, in the order of sending, and whether it is to be cancelled.
SELECT shard, priority, state, lines, tokens, CASE WHEN wait_until > $latest THEN 0 ELSE coalesce(wait_until, 0) END,
       submission, version, longest, pilot IS NOT NULL, shard IN (SELECT shard FROM wishes WHERE ended_at IS NULL)
FROM shards WHERE state IN ('planned', 'released', 'uploaded') ORDER BY priority, shard

-- name: refused_at
-- What was in flight when the service last refused for its limit.
SELECT reserved FROM quota_samples
WHERE source = 'refusal' AND model = $model AND reserved IS NOT NULL AND happened_at > $since AND happened_at <= $now
ORDER BY happened_at DESC LIMIT 1
