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

-- name: money_by_shard
-- What the tries of each shard (of one artist, where one is named) have cost: bios, dollars, dollars without a bio,
-- tries whose price was not known, and the tokens that went at batch rates.
SELECT t.shard, s.version, count(*) FILTER (t.outcome = 'bio'), coalesce(sum(t.cost_usd), 0),
       coalesce(sum(t.cost_usd) FILTER (t.outcome <> 'bio'), 0),
       count(*) FILTER (t.cost_usd IS NULL AND t.tokens_input > 0),
       coalesce(sum(t.tokens_input) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.tokens_cached) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.tokens_output) FILTER (t.lane = 'batch'), 0)::BIGINT
FROM attempts AS t LEFT JOIN shards AS s USING (shard)
WHERE $artist_id IS NULL OR t.artist_id = $artist_id
GROUP BY t.shard, s.version

-- name: reserved_by_shard
-- What `money` counts as in flight, by shard (none: the direct lane); of one artist, where one is named. A reservation
-- of nothing is one of an unknown price.
SELECT shard, CASE WHEN bool_or(usd = 0) THEN NULL ELSE sum(usd) END FROM (
    SELECT shard, CASE WHEN $artist_id IS NULL THEN usd ELSE usd / lines END AS usd FROM (
        SELECT shard, reserved_usd AS usd, lines FROM submissions WHERE outcome IS NULL
        UNION ALL
        SELECT n.shard, n.reserved_usd, n.lines FROM batches AS b JOIN submissions AS n USING (submission)
        WHERE b.stray AND b.settled_at IS NULL
    )
    WHERE $artist_id IS NULL
       OR shard IN (SELECT shard FROM artists WHERE artist_id = $artist_id AND state IN ('in_batch', 'held'))
    UNION ALL
    SELECT n.shard, n.reserved_usd / n.lines
    FROM batches AS b JOIN submissions AS n USING (submission) JOIN attempts AS t ON t.batch_id = b.batch_id
    JOIN artists AS a USING (artist_id)
    WHERE b.settled_at IS NOT NULL AND (b.stray OR n.outcome IS NOT NULL) AND t.outcome = 'missing'
      AND a.failure = 'missing' AND a.state IN ('held', 'ready', 'waiting')
      AND ($artist_id IS NULL OR a.artist_id = $artist_id)
    UNION ALL
    SELECT NULL, reserved_usd FROM direct_calls
    WHERE (ended_at IS NULL OR outcome = 'lost') AND ($artist_id IS NULL OR artist_id = $artist_id)
)
GROUP BY shard
