-- name: versions
SELECT version, fingerprint FROM versions ORDER BY version

-- name: version_definitions
SELECT version, definition FROM versions ORDER BY version

-- name: version_definition
SELECT definition, constant_tokens FROM versions WHERE version = $version

-- name: insert_version
-- A version that is known stays as it is.
INSERT OR IGNORE INTO versions VALUES ($version, $fingerprint, $definition, $constant_tokens, $now, $prompt)

-- name: prompt_numbers
SELECT version, prompt FROM versions ORDER BY version

-- name: unsent_by_version
-- Lines that were never sent, and their shards. Lines that were sent are retried as they were planned.
SELECT version, sum(lines)::BIGINT, count(*) FROM shards
WHERE NOT retry AND state IN ('planned', 'released', 'uploaded') GROUP BY version ORDER BY version

-- name: unsent_of_other_versions
-- Lines that were never sent, and their shards. Lines that were sent are retried as they were planned, whatever the
-- prompt is now.
SELECT count(*), count(DISTINCT shard), coalesce(list(DISTINCT a.version ORDER BY a.version), []) FROM artists AS a JOIN shards AS s USING (shard)
WHERE a.state = 'ready' AND NOT s.retry AND s.state IN ('planned', 'released', 'uploaded') AND a.version <> $version

-- name: open_by_version
-- Lines that are neither sent nor ended, and their counted tokens; long ones apart.
SELECT version, count(*), sum(tokens)::BIGINT, max(tokens) FROM artists
WHERE state IN ('ready', 'waiting') AND version IS NOT NULL
GROUP BY version, tokens > $long_from ORDER BY version, tokens > $long_from
