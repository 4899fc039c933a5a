-- name: insert_event
INSERT INTO events (happened_at, kind, shard, submission, batch_id, artist_id, detail)
VALUES ($at, $kind, $shard, $submission, $batch_id, $artist_id, nullif($detail, ''))

-- name: move_shard
-- An open submission stands with the states that have one, and with no other.
UPDATE shards
SET state = $target,
    submission = CASE WHEN $target IN ('uploading', 'creating', 'in_flight', 'ended')
                      THEN coalesce($submission, submission) END
WHERE shard = $shard AND list_contains($sources, state)

-- name: facts
SELECT name, number, text FROM facts

-- name: write_fact
UPDATE facts SET number = $number, text = $text WHERE name = $fact

-- name: insert_fact
INSERT INTO facts VALUES ($fact, $number, $text)

-- name: is_planned
-- The other two are named so that a file without them is none of ours.
SELECT 1 FROM meta, runs
WHERE meta.key = 'schema_version' AND meta.value = $version AND NOT EXISTS (SELECT 1 FROM artists, shards WHERE false)
