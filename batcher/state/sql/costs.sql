-- name: money_spent
SELECT coalesce(sum(cost_usd), 0) FROM attempts

-- name: money_in_flight
-- Dollars that what is in flight may cost at most: in all, by shard ($by_shard; none: the direct lane), or of one artist
-- ($artist_id). `unpriced`: a reservation of nothing is one of an unknown price.
-- What was reserved by a ratio of tokens that has since proved too low counts by the one that is known now ($factor).
-- A batch of which nothing shows whether it exists (`unproven`) costs what was reserved for it.
-- A stray costs as much as the batch beside it. Of a batch that was given up, each line is reserved that is perhaps paid
-- and was not bought a second time; one that turned out to have failed has executed none. A reservation without an
-- artist_id is that of all lines of its shard, in equal parts.
-- Both kinds of reservations of batches come from one join: with two joins the statement takes a third longer.
SELECT CASE WHEN $by_shard THEN shard END AS part,
       sum(CASE WHEN $artist_id IS NULL THEN usd ELSE usd / lines END) AS usd,
       bool_or(usd = 0) AS unpriced
FROM (
    SELECT shard, NULL AS artist_id, reserved_usd * greatest(1, tokens * $factor / reserved) AS usd, lines
    FROM submissions WHERE outcome IS NULL OR outcome = 'unproven'
    UNION ALL
    SELECT n.shard, m.artist_id,
           n.reserved_usd * greatest(1, n.tokens * $factor / n.reserved)
               / CASE WHEN m.artist_id IS NULL THEN 1 ELSE n.lines END,
           CASE WHEN m.artist_id IS NULL THEN n.lines ELSE 1 END
    FROM batches AS b JOIN submissions AS n USING (submission)
    LEFT JOIN (SELECT t.batch_id, a.artist_id FROM attempts AS t JOIN artists AS a USING (artist_id)
               WHERE t.outcome = 'missing' AND a.failure = 'missing' AND a.state IN ('held', 'ready', 'waiting')) AS m
           ON m.batch_id = b.batch_id AND b.settled_at IS NOT NULL
    WHERE (b.stray AND b.settled_at IS NULL)
       OR (m.artist_id IS NOT NULL AND b.status <> 'failed' AND (b.stray OR n.outcome IS NOT NULL))
    UNION ALL
    SELECT NULL, artist_id, reserved_usd, 1 FROM direct_calls WHERE ended_at IS NULL OR outcome = 'lost'
)
WHERE $artist_id IS NULL OR artist_id = $artist_id
   OR (artist_id IS NULL
       AND shard IN (SELECT shard FROM artists WHERE artist_id = $artist_id AND state IN ('in_batch', 'held')))
GROUP BY part

-- name: money_by_shard
-- What the tries of each shard (of one artist, where one is named) have cost: bios, dollars, dollars without a bio,
-- tries whose price was not known, and the tokens and dollars that went at batch rates.
SELECT t.shard, s.version, count(*) FILTER (t.outcome = 'bio'), coalesce(sum(t.cost_usd), 0),
       coalesce(sum(t.cost_usd) FILTER (t.outcome <> 'bio'), 0),
       count(*) FILTER (t.cost_usd IS NULL AND t.tokens_input > 0),
       coalesce(sum(t.tokens_input) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.tokens_cached) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.tokens_output) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.tokens_written) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.cost_usd) FILTER (t.lane = 'batch'), 0)
FROM attempts AS t LEFT JOIN shards AS s USING (shard)
WHERE $artist_id IS NULL OR t.artist_id = $artist_id
GROUP BY t.shard, s.version
