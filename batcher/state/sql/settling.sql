-- The statements of state/following/settling.py: artists who take the answer to another artist's line.

-- name: create_given
CREATE OR REPLACE TEMP TABLE given (artist_id VARCHAR, leader VARCHAR)

-- name: create_promoted
-- Followers that become lines. `heir`: the one that takes the place of the line for the others; NULL: it is that one.
CREATE OR REPLACE TEMP TABLE promoted (artist_id VARCHAR, leader VARCHAR, heir VARCHAR)

-- name: answered_followers
-- Followers without an answer whose line has one, in input order.
SELECT f.seq, f.artist_id, f.data, l.artist_id, b.data
FROM artists AS f JOIN artists AS l ON l.artist_id = f.follows JOIN bios AS b ON b.artist_id = l.artist_id
WHERE f.follows IS NOT NULL AND f.state IN ('ready', 'held', 'dead') AND f.seq > $after
  AND l.state = 'done' AND l.request_hash = f.request_hash
ORDER BY f.seq LIMIT $most

-- name: keep_former_of_followers
-- Of those whose bio was asked for again.
INSERT INTO former_bios BY NAME
SELECT b.*, 'redo' AS reason, $now AS moved_at FROM bios AS b JOIN given USING (artist_id)

-- name: replace_bios_of_followers
UPDATE bios
SET data = w.data, model = w.model, finish_reason = w.finish_reason, tokens_input = 0, tokens_cached = 0,
    tokens_output = 0, tokens_written = 0, tokens_reasoning = 0, cost_usd = 0, lane = w.lane, shard = w.shard,
    batch_id = w.batch_id, call = w.call, version = w.version, attempts = 0, completed_at = w.completed_at,
    collected_at = NULL
FROM (SELECT g.artist_id AS follower, b.* FROM given AS g JOIN bios AS b ON b.artist_id = g.leader) AS w
WHERE bios.artist_id = w.follower

-- name: insert_bios_of_followers
-- What the answer has cost is with the line that asked for it.
INSERT INTO bios BY NAME
SELECT g.artist_id, b.data, b.model, b.finish_reason, 0 AS tokens_input, 0 AS tokens_cached, 0 AS tokens_output,
       0 AS tokens_written, 0 AS tokens_reasoning, 0 AS cost_usd, b.lane, b.shard, b.batch_id, b.call, b.version,
       0 AS attempts, b.completed_at
FROM given AS g JOIN bios AS b ON b.artist_id = g.leader
WHERE g.artist_id NOT IN (SELECT artist_id FROM bios)

-- name: accept_followers
UPDATE artists SET state = $target, failure = NULL, code = NULL, message = NULL, redo_after = NULL
FROM given AS g WHERE artists.artist_id = g.artist_id AND list_contains($sources, artists.state)

-- name: choose_refused
-- Of the followers for which the answer is refused, the most urgent ready one asks for all that are ready.
INSERT INTO promoted
SELECT artist_id, leader, nullif(CASE WHEN state = 'ready' THEN first(artist_id) OVER w ELSE artist_id END, artist_id)
FROM artists JOIN (SELECT unnest($artist_ids) AS artist_id, unnest($leaders) AS leader) USING (artist_id)
WINDOW w AS (PARTITION BY leader ORDER BY state <> 'ready', priority, seq)

-- name: choose_stray
-- Ready followers whose line is neither under way nor done: it was given up or held, and only they were brought back; or
-- it asks something else by now. Those of one request follow the most urgent of them, as long as they ask what their line
-- asks.
INSERT INTO promoted
SELECT artist_id, leader, nullif(CASE WHEN same THEN first(artist_id) OVER w ELSE artist_id END, artist_id)
FROM (SELECT f.artist_id, f.follows AS leader, f.priority, f.seq,
             coalesce(l.request_hash = f.request_hash, false) AS same, l.state
      FROM artists AS f LEFT JOIN artists AS l ON l.artist_id = f.follows
      WHERE f.follows IS NOT NULL AND f.state = 'ready')
WHERE NOT same OR state NOT IN ('ready', 'waiting', 'in_batch', 'in_direct', 'done')
WINDOW w AS (PARTITION BY leader, same ORDER BY priority, seq)

-- name: choose_heirs
-- Followers of the lines that are about to be taken out of the plan (see choose_unsent), but those that go with them.
INSERT INTO promoted
SELECT f.artist_id, f.follows, nullif(first(f.artist_id) OVER w, f.artist_id)
FROM artists AS f JOIN chosen AS c ON c.artist_id = f.follows AND NOT c.was_sent
WHERE f.artist_id NOT IN (SELECT artist_id FROM chosen WHERE NOT was_sent)
WINDOW w AS (PARTITION BY f.follows ORDER BY f.priority, f.seq)

-- name: promote_followers
-- It is asked as its line was, and by its own custom_id, so that its hash is another. $takes_place: it also goes into the
-- shard of the line.
UPDATE artists
SET follows = p.heir, line_hash = NULL, version = CASE WHEN p.heir IS NULL THEN l.version END,
    shard = CASE WHEN p.heir IS NULL AND $takes_place AND artists.state = 'ready' THEN l.shard END,
    tokens = CASE WHEN p.heir IS NULL THEN coalesce(l.tokens, 0) ELSE 0 END,
    bytes = CASE WHEN p.heir IS NULL THEN coalesce(l.bytes, 0) ELSE 0 END
FROM promoted AS p LEFT JOIN artists AS l ON l.artist_id = p.leader WHERE artists.artist_id = p.artist_id

-- name: count_promoted
SELECT count(*) FILTER (heir IS NULL) FROM promoted

-- name: regroup_asked_again
-- Of the lines that are asked for again, those that ask the same as a line under way, or as a more urgent one of them,
-- follow it.
UPDATE artists
SET follows = g.leader, version = NULL, line_hash = NULL, tokens = 0, bytes = 0, shard = NULL
FROM (
    SELECT artist_id, first(artist_id) OVER (PARTITION BY request_hash ORDER BY is_asked, priority, seq) AS leader, is_asked
    FROM (SELECT *, artist_id IN (SELECT artist_id FROM renewed) AS is_asked FROM artists
          WHERE request_hash IN (SELECT request_hash FROM renewed) AND follows IS NULL AND version IS NOT NULL
            AND state IN ('ready', 'waiting', 'in_batch', 'in_direct'))
) AS g
WHERE artists.artist_id = g.artist_id AND g.leader <> g.artist_id AND g.is_asked

-- name: leader
SELECT follows FROM artists WHERE artist_id = $artist_id

-- name: follower_bios
-- Answers that were given to followers, with their rows, in input order.
SELECT f.seq, f.artist_id, f.data, b.data, b.batch_id, b.call
FROM artists AS f JOIN bios AS b USING (artist_id)
WHERE f.follows IS NOT NULL AND f.state = 'done' AND f.seq > $after ORDER BY f.seq LIMIT $most
