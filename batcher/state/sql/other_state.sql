-- The statements of state/following/other_state.py. They run on the state of another job, which is attached for reading alone.

-- name: other_schema
SELECT value FROM meta WHERE key = 'schema_version'

-- name: other_versions
SELECT version, definition FROM versions ORDER BY version

-- name: other_answers
-- The accepted answers whose line is known as it was asked: a line whose bio came with another version has another hash.
SELECT a.seq, a.custom_id, a.data, a.line_hash, b.version, b.data
FROM artists AS a JOIN bios AS b USING (artist_id)
WHERE a.state = 'done' AND b.lane <> 'earlier' AND a.line_hash IS NOT NULL AND b.version = a.version
  AND list_contains($versions, b.version)
ORDER BY a.seq

-- name: count_other_answers
SELECT count(*) FROM bios WHERE lane <> 'earlier'
