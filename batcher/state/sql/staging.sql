-- The statements of state/following/staging.py: rows of a plan that take the answer to another line.

-- name: free_followers
-- Followers of lines that are cut again by this plan, or that need none any more: they are rows of the plan again.
UPDATE artists SET follows = NULL
WHERE state = 'ready' AND follows IN (
    SELECT artist_id FROM artists WHERE state = 'done_before' OR (state = 'ready' AND version IS NULL AND follows IS NULL))

-- name: hash_known_lines
-- Lines that were planned before hashes of requests were kept, where this plan's row gives the same line.
UPDATE artists SET request_hash = p.request_hash
FROM prepared AS p
WHERE artists.artist_id = p.artist_id AND artists.request_hash IS NULL AND artists.line_hash = p.line_hash
  AND artists.version IS NOT NULL

-- name: view_leaders
-- The line that stands for each request in the state: one that is done, else one that is still asked.
CREATE TEMP VIEW leaders AS
SELECT a.request_hash, a.artist_id, a.state = 'done' AS done, b.data AS bio
FROM artists AS a
LEFT JOIN bios AS b ON b.artist_id = a.artist_id
LEFT JOIN versions AS v ON v.version = a.version LEFT JOIN versions AS w ON w.version = b.version
WHERE a.request_hash IN (SELECT request_hash FROM prepared) AND a.follows IS NULL AND a.version IS NOT NULL
  AND (a.state IN ('ready', 'waiting', 'in_batch', 'in_direct') OR (a.state = 'done' AND v.prompt = w.prompt))
QUALIFY row_number() OVER (PARTITION BY a.request_hash ORDER BY a.state <> 'done', a.seq) = 1

-- name: answered_rows
-- Rows of the plan whose request was answered before, in input order.
SELECT u.seq, u.artist_id, u.data, l.artist_id, l.bio
FROM unplanned AS u JOIN leaders AS l USING (request_hash)
WHERE l.done AND u.seq > $after ORDER BY u.seq LIMIT $most

-- name: follow_open_lines
INSERT INTO following
SELECT u.artist_id, l.artist_id, false FROM unplanned AS u JOIN leaders AS l USING (request_hash) WHERE NOT l.done

-- name: follow_first_rows
-- Of rows that ask the same, the most urgent one gets a line, and the others follow it.
INSERT INTO following
SELECT u.artist_id, g.leader, false
FROM unplanned AS u JOIN (
    SELECT request_hash, arg_min(artist_id, (priority, seq)) AS leader FROM unplanned
    WHERE request_hash IS NOT NULL GROUP BY request_hash HAVING count(*) > 1
) AS g USING (request_hash)
WHERE u.artist_id <> g.leader

-- name: write_hashes
-- Of artists that the state holds, and whose lines this plan cuts.
UPDATE artists SET request_hash = u.request_hash FROM unplanned AS u WHERE artists.artist_id = u.artist_id

-- name: write_followers
-- Of artists that the state holds.
UPDATE artists SET follows = f.leader, request_hash = p.request_hash, tokens = 0, bytes = 0, line_hash = NULL
FROM following AS f JOIN prepared AS p USING (artist_id)
WHERE artists.artist_id = f.artist_id AND artists.state = 'ready' AND artists.version IS NULL AND artists.follows IS NULL

-- name: give_staged_answers
INSERT INTO given SELECT artist_id, leader FROM following WHERE answered

-- name: count_following
SELECT count(*), count(*) FILTER (answered) FROM following

-- name: shared_requests
-- Rows that have, or wait for, the answer to another row's request: by the version of the line, and its tokens.
SELECT v.version, count(*), sum(l.tokens)::BIGINT, max(l.tokens)
FROM artists AS f JOIN artists AS l ON l.artist_id = f.follows JOIN versions AS v ON v.version = l.version
WHERE f.follows IS NOT NULL AND f.state IN ('ready', 'done') GROUP BY v.version ORDER BY v.version

-- name: create_reusable
-- Answers of another job, by what was asked.
CREATE TEMP TABLE reusable (request_hash UBIGINT, seq INTEGER, data VARCHAR)

-- name: reusable_rows
-- Rows of the plan whose request another job has an answer to, and that may still be done before: the first of several
-- answers.
SELECT p.row, p.artist_id, p.data, p.tokens, r.data
FROM prepared AS p
JOIN (SELECT request_hash, arg_min(data, seq) AS data FROM reusable
      WHERE request_hash IN (SELECT request_hash FROM prepared) GROUP BY request_hash) AS r USING (request_hash)
LEFT JOIN artists AS a ON a.artist_id = p.artist_id
WHERE p.row > $after AND p.artist_id NOT IN (SELECT artist_id FROM done_rows)
  AND (a.artist_id IS NULL OR a.state IN ('ready', 'waiting') AND a.redo_after IS NULL)
ORDER BY p.row LIMIT $most
