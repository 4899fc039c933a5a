-- The statements of state/reports/bill.py.

-- name: counted_usage
-- What the tries have used and cost, by model and lane. `unpriced`: tries that used tokens at a price that is not known.
SELECT v.definition->>'$.model', t.lane, count(*) FILTER (t.tokens_input > 0), sum(t.tokens_input)::BIGINT,
       sum(t.tokens_cached)::BIGINT, sum(t.tokens_written)::BIGINT, sum(t.tokens_output)::BIGINT,
       coalesce(sum(t.cost_usd), 0), count(*) FILTER (t.cost_usd IS NULL AND t.tokens_input > 0)
FROM attempts AS t JOIN versions AS v USING (version)
WHERE t.tokens_input > 0 GROUP BY ALL ORDER BY ALL

-- name: bill_span
-- From when to when the job was worked on at the service: by its clock, where batches have it, and by ours.
SELECT least(min(r.planned_at), (SELECT min(created_at) FROM batches)),
       greatest((SELECT max(finished_at) FROM batches), (SELECT max(happened_at) FROM attempts))
FROM (SELECT created_at AS planned_at FROM runs) AS r
