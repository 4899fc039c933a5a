-- name: report_bounds
-- The last moment at which anything was answered or recorded; the longest service time of a batch in seconds; the bios
-- that exist; the shards that were sent.
SELECT greatest((SELECT max(happened_at) FROM attempts), (SELECT max(ended_at) FROM submissions),
                (SELECT max(settled_at) FROM batches)),
       (SELECT max(finished_at - created_at) FROM batches WHERE NOT stray),
       (SELECT count(*) FROM bios), (SELECT count(DISTINCT shard) FROM submissions)

-- name: bios_over_time
-- The bios of each priority by the step of their time, those of an earlier run before the first (-1). Priorities beyond
-- the $most that have the most artists are counted together (NULL). A time outside of the job's own is at its edge.
WITH shown AS (SELECT priority FROM artists GROUP BY priority ORDER BY count(*) DESC, priority LIMIT $most)
SELECT s.priority, CASE WHEN b.lane = 'earlier' THEN -1
                        ELSE floor((least(greatest(b.completed_at, $since), $until) - $since) / $step)::INTEGER END AS step,
       count(*)
FROM bios AS b JOIN artists AS a USING (artist_id) LEFT JOIN shown AS s USING (priority)
GROUP BY ALL ORDER BY s.priority NULLS LAST, step

-- name: artists_by_priority
SELECT s.priority, count(*)
FROM artists AS a
LEFT JOIN (SELECT priority FROM artists GROUP BY priority ORDER BY count(*) DESC, priority LIMIT $most) AS s USING (priority)
WHERE a.state <> 'skipped' GROUP BY s.priority ORDER BY s.priority NULLS LAST

-- name: shard_phases
-- What happened to every $every-th of the shards that were sent, in the order of their first sending, one phase after the
-- other. A phase lasts until the next event of its shard, the newest one of a shard that is under way until $until.
WITH chosen AS (
    SELECT shard FROM (SELECT shard, row_number() OVER (ORDER BY min(submission)) AS place FROM submissions GROUP BY shard)
    WHERE (place - 1) % $every = 0
), steps AS (
    SELECT e.shard, e.event, e.happened_at AS begins,
           CASE WHEN e.kind IN ('intend_upload', 'record_upload', 'intend_create') THEN 'uploaded'
                WHEN e.kind IN ('record_create', 'adopt_late') THEN 'validating'
                WHEN e.kind = 'end' THEN 'taken in'
                WHEN e.kind = 'status' AND e.detail IN ('validating', 'finalizing') THEN e.detail
                WHEN e.kind = 'status' AND e.detail NOT IN ('completed', 'failed', 'expired', 'cancelled', 'overdue')
                THEN 'in progress' END AS phase,
           lead(e.happened_at) OVER (PARTITION BY e.shard ORDER BY e.event) AS next_at
    FROM events AS e
    WHERE e.shard IN (FROM chosen) AND list_contains($kinds, e.kind)
      AND NOT (e.kind = 'status' AND e.batch_id IN (SELECT batch_id FROM batches WHERE stray))
)
SELECT shard, phase, min(begins), max(coalesce(next_at, greatest($until, begins))) AS ends
FROM (SELECT *, count(*) FILTER (changed) OVER (PARTITION BY shard ORDER BY event) AS part
      FROM (SELECT *, phase IS DISTINCT FROM lag(phase) OVER (PARTITION BY shard ORDER BY event) AS changed FROM steps))
WHERE phase IS NOT NULL
GROUP BY shard, phase, part ORDER BY min(event)

-- name: reserved_over_time
-- The tokens that were reserved: of each step the most, at the time of the first change in it, and the last.
WITH changes AS (
    SELECT intended_at AS moment, reserved AS tokens FROM submissions
    UNION ALL SELECT ended_at, -reserved FROM submissions WHERE ended_at IS NOT NULL
    UNION ALL SELECT recorded_at, reserved FROM batches WHERE stray
    UNION ALL SELECT ended_at, -reserved FROM batches WHERE stray AND ended_at IS NOT NULL
), levels AS (
    SELECT moment, sum(sum(tokens)) OVER (ORDER BY moment)::BIGINT AS level FROM changes GROUP BY moment
)
SELECT min(moment), max(moment), max(level), max_by(level, moment) FROM levels
GROUP BY floor((moment - $since) / $step) ORDER BY 1

-- name: limits_over_time
-- The limit in force whenever it was another one than at the submission before; the newest $most of them.
SELECT moment, limit_tokens FROM (
    SELECT happened_at AS moment, limit_tokens, lag(limit_tokens) OVER (ORDER BY happened_at) AS before
    FROM quota_samples WHERE source = 'submission'
) WHERE limit_tokens IS DISTINCT FROM before ORDER BY moment DESC LIMIT $most

-- name: limits_named
-- Refusals for the limit: what was reserved, and the limit that the service named, if any; the newest $most.
SELECT happened_at, reserved, limit_tokens FROM quota_samples
WHERE source = 'refusal' AND (reserved IS NOT NULL OR limit_tokens IS NOT NULL) ORDER BY happened_at DESC LIMIT $most

-- name: service_time_counts
SELECT least(floor((finished_at - created_at) / $step)::INTEGER, $most - 1) AS bin, status, count(*) FROM batches
WHERE finished_at >= created_at AND NOT stray GROUP BY ALL ORDER BY bin, status

-- name: fates_by_failure
-- Of each class of failure the lines that it happened to, by what has become of them.
SELECT f.outcome, CASE WHEN a.state IN ('done', 'done_before') THEN 'has a bio' WHEN a.state IN ('dead', 'held') THEN a.state
                       ELSE 'still open' END AS fate, count(*) AS lines
FROM (SELECT DISTINCT artist_id, outcome FROM attempts WHERE outcome NOT IN ('bio', 'repeated')) AS f
JOIN artists AS a USING (artist_id)
GROUP BY ALL ORDER BY f.outcome, fate

-- name: spent_over_time
-- The dollars of each step, and those of them for answers that gave no bio.
SELECT floor((least(greatest(happened_at, $since), $until) - $since) / $step)::INTEGER AS step,
       coalesce(sum(cost_usd), 0), coalesce(sum(cost_usd) FILTER (outcome <> 'bio'), 0)
FROM attempts GROUP BY step ORDER BY step

-- name: lost_lines
SELECT artist_id, artist_name, priority, state, failure, code, left(message, $length), attempts, redo_after IS NOT NULL
FROM artists WHERE state IN ('dead', 'held') ORDER BY priority, seq LIMIT $most

-- name: sample_bios
-- The same ones at each look, as long as they exist; those of an earlier run only where there are too few of this one.
SELECT b.artist_id, a.artist_name, a.priority, b.data, v.prompt
FROM bios AS b JOIN artists AS a USING (artist_id) LEFT JOIN versions AS v ON v.version = b.version
WHERE b.artist_id IN (SELECT artist_id FROM bios ORDER BY lane = 'earlier', hash(artist_id) LIMIT $most)
ORDER BY a.priority, a.seq
