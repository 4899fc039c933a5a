-- name: versions
SELECT version, fingerprint FROM versions ORDER BY version

-- name: version_definitions
SELECT version, definition FROM versions ORDER BY version

-- name: unsent_by_version
-- Lines and shards that were never sent. What was sent once goes again as it was planned.
SELECT version, sum(lines)::BIGINT, count(*) FROM shards
WHERE NOT retry AND state IN ('planned', 'released', 'uploaded') GROUP BY version ORDER BY version

-- name: open_by_version
-- What is neither sent nor ended: lines and counted tokens.
SELECT version, count(*), sum(tokens)::BIGINT FROM artists
WHERE state IN ('ready', 'waiting') AND version IS NOT NULL GROUP BY version ORDER BY version

-- name: version_definition
SELECT definition, constant_tokens FROM versions WHERE version = $version

-- name: insert_version
-- One that is known stays as it is.
INSERT OR IGNORE INTO versions VALUES ($version, $fingerprint, $definition, $constant_tokens, $now)
