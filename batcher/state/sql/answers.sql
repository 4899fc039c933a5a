-- name: recorded_answers
SELECT t.artist_id, a.artist_name, a.custom_id, t.happened_at, t.lane, t.version, v.prompt, t.outcome, t.code,
       t.message, t.shard, t.batch_id, t.call
FROM attempts AS t JOIN artists AS a USING (artist_id) LEFT JOIN versions AS v ON v.version = t.version
WHERE ($artists IS NULL OR list_contains($artists, t.artist_id))
  AND ($outcomes IS NULL OR list_contains($outcomes, t.outcome))
ORDER BY t.happened_at DESC, a.seq, t.batch_id, t.call LIMIT $most

-- name: count_recorded_answers
SELECT count(*) FROM attempts AS t
WHERE ($artists IS NULL OR list_contains($artists, t.artist_id))
  AND ($outcomes IS NULL OR list_contains($outcomes, t.outcome))
