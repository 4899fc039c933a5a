-- The lines that one command asks for again, in the temporary table asked_again: `retry` and `redo` make it, each with a
-- statement of its own, and all below read it. It ends with the connection.

-- name: count_asked_again
SELECT count(*) FROM asked_again

-- name: asked_again_rows
-- Joined by `seq` as well: the artists are stored in its order, so that only row groups near these are read.
SELECT a.artist_id, a.custom_id, a.artist_name, a.priority, a.data
FROM asked_again AS q JOIN artists AS a ON a.seq = q.seq AND a.artist_id = q.artist_id
WHERE q.n > $after AND q.n <= $after + $most ORDER BY q.n

-- name: create_renewed
CREATE TEMP TABLE renewed (
    artist_id VARCHAR, tokens INTEGER, bytes INTEGER, line_hash UBIGINT, request_hash UBIGINT
)

-- name: give_version
-- A line that has more room for its answer, and asks the same, keeps it; as its bytes are others, so is its hash.
UPDATE artists
SET version = CASE WHEN list_contains($wider, artists.version) THEN artists.version ELSE $version END,
    line_hash = CASE WHEN list_contains($wider, artists.version) THEN NULL ELSE r.line_hash END,
    tokens = r.tokens, bytes = r.bytes, request_hash = r.request_hash, follows = NULL
FROM renewed AS r WHERE artists.artist_id = r.artist_id

-- name: prompts_asked_again
-- The lines by the prompt that they have now, and how many of them had another one. What follows a line has none.
SELECT v.prompt, count(*), count(*) FILTER (w.prompt IS DISTINCT FROM v.prompt)
FROM asked_again AS q JOIN artists AS a ON a.seq = q.seq AND a.artist_id = q.artist_id
LEFT JOIN versions AS v ON v.version = a.version LEFT JOIN versions AS w ON w.version = q.version
WHERE a.follows IS NULL GROUP BY v.prompt ORDER BY v.prompt

-- name: versions_asked_again
-- The lines by the version that they have now, with their counted tokens.
SELECT a.version, count(*), sum(a.tokens)::BIGINT, max(a.tokens)
FROM asked_again AS q JOIN artists AS a ON a.seq = q.seq AND a.artist_id = q.artist_id
WHERE a.follows IS NULL GROUP BY a.version ORDER BY a.version
