CREATE OR REPLACE VIEW open.costs AS
WITH paid AS (
    SELECT t.shard, s.version, count(*) FILTER (t.outcome = 'bio') AS bios, coalesce(sum(t.cost_usd), 0) AS spent,
           coalesce(sum(t.cost_usd) FILTER (t.outcome <> 'bio'), 0) AS wasted,
           count(*) FILTER (t.cost_usd IS NULL AND t.tokens_input > 0) AS unpriced,
           coalesce(sum(t.tokens_input) FILTER (t.lane = 'batch'), 0)::BIGINT AS input,
           coalesce(sum(t.tokens_cached) FILTER (t.lane = 'batch'), 0)::BIGINT AS cached,
           coalesce(sum(t.tokens_output) FILTER (t.lane = 'batch'), 0)::BIGINT AS output,
           coalesce(sum(t.tokens_written) FILTER (t.lane = 'batch'), 0)::BIGINT AS written,
           coalesce(sum(t.cost_usd) FILTER (t.lane = 'batch'), 0) AS batch_usd
    FROM main.attempts AS t LEFT JOIN main.shards AS s USING (shard) GROUP BY t.shard, s.version
), in_flight AS (
    SELECT shard, sum(usd) AS usd, bool_or(usd = 0) AS unpriced
    FROM (
        SELECT shard, reserved_usd AS usd FROM main.submissions WHERE outcome IS NULL OR outcome = 'unproven'
        UNION ALL
        SELECT n.shard, n.reserved_usd / CASE WHEN m.artist_id IS NULL THEN 1 ELSE n.lines END
        FROM main.batches AS b JOIN main.submissions AS n USING (submission)
        LEFT JOIN (SELECT t.batch_id, a.artist_id FROM main.attempts AS t JOIN main.artists AS a USING (artist_id)
                   WHERE t.outcome = 'missing' AND a.failure = 'missing' AND a.state IN ('held', 'ready', 'waiting')) AS m
               ON m.batch_id = b.batch_id AND b.settled_at IS NOT NULL
        WHERE (b.stray AND b.settled_at IS NULL)
           OR (m.artist_id IS NOT NULL AND b.status <> 'failed' AND (b.stray OR n.outcome IS NOT NULL))
        UNION ALL
        SELECT NULL, reserved_usd FROM main.direct_calls WHERE ended_at IS NULL OR outcome = 'lost'
    )
    GROUP BY shard
), rates AS (
    SELECT version,
           json_extract(prices, ['$.batch.input', '$.batch.cached', '$.batch.output', '$.batch.written'])::DOUBLE[] AS batch,
           json_extract(prices, ['$.standard.input', '$.standard.cached', '$.standard.output',
                                 '$.standard.written'])::DOUBLE[] AS standard
    FROM (SELECT v.version, f.text AS prices FROM main.versions AS v
          JOIN main.facts AS f ON f.name = 'prices ' || (v.definition->>'$.model') AND f.text <> 'null')
), priced AS (
    SELECT p.*, greatest(p.input - p.cached - p.written, 0) AS fresh, r.batch, r.standard
    FROM paid AS p LEFT JOIN rates AS r USING (version)
)
SELECT coalesce(p.shard, f.shard) AS shard,
       CASE WHEN coalesce(p.shard, f.shard) IS NULL THEN 'direct' ELSE 'batch' END AS lane,
       coalesce(p.bios, 0) AS bios,
       CASE WHEN f.usd IS NULL THEN 0 WHEN NOT f.unpriced THEN f.usd END::DECIMAL(24, 12) AS reserved_usd,
       CASE WHEN coalesce(p.unpriced, 0) = 0 THEN coalesce(p.spent, 0) END::DECIMAL(24, 12) AS spent_usd,
       CASE WHEN coalesce(p.unpriced, 0) = 0 THEN coalesce(p.wasted, 0) END::DECIMAL(24, 12) AS wasted_usd,
       CASE WHEN coalesce(p.input + p.output, 0) = 0 THEN 0
            ELSE p.batch_usd * ((p.fresh * p.standard[1] + p.cached * p.standard[2] + p.output * p.standard[3]
                                 + p.written * p.standard[4])
                                / (p.fresh * p.batch[1] + p.cached * p.batch[2] + p.output * p.batch[3]
                                   + p.written * p.batch[4]) - 1) END::DECIMAL(24, 12) AS saved_usd
FROM priced AS p FULL JOIN in_flight AS f ON p.shard IS NOT DISTINCT FROM f.shard;
COMMENT ON VIEW open.costs IS 'The money of each shard that has cost anything or may, and in one row of the direct lane. The sums are those of `status`.';
COMMENT ON COLUMN open.costs.shard IS 'The shard; NULL: the direct lane.';
COMMENT ON COLUMN open.costs.lane IS 'batch or direct.';
COMMENT ON COLUMN open.costs.bios IS 'The answers that were accepted.';
COMMENT ON COLUMN open.costs.reserved_usd IS 'The most dollars that what is in flight may cost, or was given up and may have been paid; NULL: a price is not known.';
COMMENT ON COLUMN open.costs.spent_usd IS 'Dollars for all answers; NULL: a price is not known.';
COMMENT ON COLUMN open.costs.wasted_usd IS 'The dollars of them that were paid for answers that were not accepted, or a second one.';
COMMENT ON COLUMN open.costs.saved_usd IS 'How many dollars more the same tokens cost at the standard price; NULL: the prices of the model are not recorded.';
