-- name: versions
SELECT version, fingerprint FROM versions ORDER BY version

-- name: version_definitions
SELECT version, definition, constant_tokens FROM versions ORDER BY version

-- name: version_definition
SELECT definition, constant_tokens FROM versions WHERE version = $version

-- name: insert_version
-- A version that is known stays as it is.
INSERT OR IGNORE INTO versions VALUES ($version, $fingerprint, $definition, $constant_tokens, $now, $prompt)

-- name: prompt_numbers
SELECT version, prompt FROM versions ORDER BY version

-- name: unsent_of_other_versions
-- Lines that were never sent with the prompt that they have, and the shards that hold them. A line that was sent is retried
-- with its prompt, whatever the prompt is now; of a bio that was asked for again, only tries since then count. A version
-- that was made from today's for answers that were cut off asks the same.
SELECT count(*), count(DISTINCT a.shard), coalesce(list(DISTINCT a.version ORDER BY a.version), [])
FROM artists AS a JOIN versions AS v USING (version)
WHERE a.state = 'ready' AND a.version <> $version
  AND NOT (a.version > $version
           AND coalesce(v.prompt = (SELECT prompt FROM versions WHERE version = $version), false))
  AND ((a.redo_after IS NOT NULL AND a.failure IS NULL)
       OR NOT EXISTS (SELECT 1 FROM attempts AS t JOIN versions AS w ON w.version = t.version
                      WHERE t.artist_id = a.artist_id AND w.prompt = v.prompt))

-- name: open_by_version
-- Lines that are neither sent nor ended, and their counted tokens; long ones apart.
SELECT version, count(*), sum(tokens)::BIGINT, max(tokens) FROM artists
WHERE state IN ('ready', 'waiting') AND version IS NOT NULL
GROUP BY version, tokens > $long_from ORDER BY version, tokens > $long_from
