-- name: insert_run
INSERT INTO runs SELECT $run_id, $now WHERE NOT EXISTS (SELECT 1 FROM runs)

-- name: create_prepared
CREATE TEMP TABLE prepared (
    row INTEGER, artist_id VARCHAR, custom_id VARCHAR, artist_name VARCHAR, priority INTEGER,
    data VARCHAR, spooled BIGINT, tokens INTEGER, bytes INTEGER, line_hash UBIGINT, request_hash UBIGINT
)

-- name: create_done
CREATE TEMP TABLE done_rows (row INTEGER, artist_id VARCHAR, data VARCHAR)

-- name: create_skipped
CREATE TEMP TABLE skipped_rows (row INTEGER, message VARCHAR)

-- name: create_cuts
CREATE TEMP TABLE cuts (sampled BOOLEAN, shard INTEGER, priority INTEGER, seq INTEGER)

-- name: create_sample
CREATE TEMP TABLE sample (seq INTEGER, stratum INTEGER, weight DOUBLE)

-- name: create_following
-- Rows of a plan that follow a line. `answered`: it is done, and its answer is accepted for the row.
CREATE TEMP TABLE following (artist_id VARCHAR, leader VARCHAR, answered BOOLEAN)

-- name: view_new_rows
-- Rows of artists that the state does not hold, numbered from its highest number on. A view takes no parameters, so the
-- number comes in a variable of the session, which number_from sets before the view is read.
CREATE TEMP VIEW new_rows AS
SELECT (getvariable('highest_seq') + p.row)::INTEGER AS seq, p.*
FROM prepared AS p WHERE NOT EXISTS (SELECT 1 FROM artists AS a WHERE a.artist_id = p.artist_id)

-- name: view_unplanned
-- Rows that are to go into a shard: of new artists, and of those whose lines are cut again. Rows that take the answer to
-- another line go into none.
CREATE TEMP VIEW unplanned AS
SELECT * FROM (
    SELECT * FROM new_rows AS n WHERE NOT EXISTS (SELECT 1 FROM done_rows AS d WHERE d.artist_id = n.artist_id)
    UNION ALL
    SELECT a.seq, p.* FROM prepared AS p JOIN artists AS a USING (artist_id)
    WHERE a.state = 'ready' AND a.version IS NULL AND a.shard IS NULL AND a.follows IS NULL
) AS u WHERE NOT EXISTS (SELECT 1 FROM following AS f WHERE f.artist_id = u.artist_id)

-- name: view_planned
-- The shard of a line is the last one of its priority whose first line is not behind it; the shards of a pilot hold the
-- lines of its sample, the others the rest.
CREATE TEMP VIEW planned AS
SELECT u.artist_id, u.seq, c.shard, u.tokens, u.bytes, u.line_hash
FROM (SELECT *, seq IN (SELECT seq FROM sample) AS sampled FROM unplanned) AS u
ASOF JOIN cuts AS c ON u.sampled = c.sampled AND u.priority = c.priority AND u.seq >= c.seq

-- name: number_from
SET VARIABLE highest_seq = $highest

-- name: highest_seq
SELECT coalesce(max(seq), 0) FROM artists

-- name: repeated_rows
-- Rows whose artist has an earlier row.
SELECT p.row, f.first, p.artist_id
FROM prepared AS p JOIN (SELECT artist_id, min(row) AS first FROM prepared GROUP BY artist_id) AS f USING (artist_id)
WHERE p.row > f.first ORDER BY p.row

-- name: drop_repeated_rows
DELETE FROM prepared WHERE row NOT IN (SELECT min(row) FROM prepared GROUP BY artist_id)

-- name: repeated_bio
SELECT artist_id, min(row), max(row) FROM done_rows GROUP BY artist_id HAVING count(*) > 1 ORDER BY 2 LIMIT 1

-- name: count_unknown_bios
SELECT count(*) FROM done_rows AS d
WHERE NOT EXISTS (SELECT 1 FROM prepared AS p WHERE p.artist_id = d.artist_id)
  AND NOT EXISTS (SELECT 1 FROM artists AS a WHERE a.artist_id = d.artist_id)

-- name: count_changed_rows
SELECT count(*) FROM prepared AS p JOIN artists AS a USING (artist_id)
WHERE a.data <> p.data OR a.priority <> p.priority

-- name: limit_prepared
DELETE FROM prepared WHERE artist_id IN (
    SELECT artist_id FROM (
        SELECT p.artist_id, row_number() OVER (ORDER BY p.priority, p.row) AS n
        FROM prepared AS p
        WHERE NOT EXISTS (SELECT 1 FROM done_rows AS d WHERE d.artist_id = p.artist_id)
          AND NOT EXISTS (SELECT 1 FROM artists AS a WHERE a.artist_id = p.artist_id)
    ) WHERE n > $limit
)

-- name: unsent_shards
SELECT shard FROM shards WHERE state IN ('planned', 'released', 'uploaded') AND ($retries OR NOT retry)

-- name: unsent_shards_of_done
SELECT shard, state FROM shards
WHERE state IN ('planned', 'released', 'uploaded') AND shard IN (
    SELECT a.shard FROM artists AS a JOIN done_rows AS d USING (artist_id)
    WHERE a.state = 'ready' AND a.redo_after IS NULL
)
ORDER BY shard

-- name: unplan_shard
-- A ready artist without a version is in the view unplanned.
UPDATE artists SET shard = NULL, version = NULL, line_hash = NULL WHERE shard = $shard AND state = 'ready'

-- name: unplan_untried_lines
-- Lines in no shard that were never sent with this version.
UPDATE artists SET version = NULL, line_hash = NULL
WHERE shard IS NULL AND state = 'ready' AND version = $version
  AND artist_id NOT IN (SELECT artist_id FROM attempts WHERE version = $version)

-- name: unplan_ready_lines
UPDATE artists SET shard = NULL, version = NULL, line_hash = NULL
WHERE state = 'ready'

-- name: mark_done_before
-- Not where the user asked for the bio again: a plan that reads the same table once more must not take that back.
UPDATE artists SET state = 'done_before', shard = NULL, version = NULL, wait_until = NULL, follows = NULL
FROM done_rows AS d
WHERE artists.artist_id = d.artist_id AND artists.state IN ('ready', 'waiting') AND artists.redo_after IS NULL

-- name: count_not_in_table
SELECT count(*) FROM artists
WHERE state IN ('ready', 'waiting') AND artist_id NOT IN (SELECT artist_id FROM prepared)

-- name: update_changed_rows
UPDATE artists SET data = p.data, priority = p.priority, artist_name = p.artist_name
FROM prepared AS p
WHERE artists.artist_id = p.artist_id AND artists.state = 'ready' AND artists.version IS NULL AND artists.follows IS NULL
  AND (artists.data <> p.data OR artists.priority <> p.priority OR artists.artist_name <> p.artist_name)

-- name: kept_rows
SELECT artist_id, custom_id, artist_name, priority, data FROM artists
WHERE state = 'ready' AND version IS NULL AND shard IS NULL AND follows IS NULL
  AND artist_id NOT IN (SELECT artist_id FROM prepared)

-- name: artist_ids
SELECT artist_id FROM artists ORDER BY artist_id

-- name: ordered_lines
SELECT priority, seq, spooled, tokens, bytes FROM unplanned
WHERE (seq IN (SELECT seq FROM sample)) = $sampled ORDER BY priority, seq

-- name: write_planned
UPDATE artists SET shard = p.shard, tokens = p.tokens, bytes = p.bytes, line_hash = p.line_hash, version = $version
FROM planned AS p WHERE artists.artist_id = p.artist_id

-- name: insert_new_artists
-- Each artist is inserted with its shard: to insert all and then to update them with their shards takes ten times as
-- long. The join reads two columns of planned, so that it fits into the memory beside the index of a million ids. The
-- artists stay in the order of the table, so that a query for one shard reads only a part of them.
INSERT INTO artists (artist_id, seq, custom_id, artist_name, priority, data, state, shard,
                     version, tokens, bytes, line_hash, request_hash, follows)
SELECT n.artist_id, n.seq, n.custom_id, n.artist_name, n.priority, n.data,
       CASE WHEN d.artist_id IS NULL THEN 'ready' ELSE 'done_before' END, s.shard,
       CASE WHEN s.shard IS NOT NULL THEN $version END, CASE WHEN s.shard IS NOT NULL THEN n.tokens ELSE 0 END,
       CASE WHEN s.shard IS NOT NULL THEN n.bytes ELSE 0 END, CASE WHEN s.shard IS NOT NULL THEN n.line_hash END,
       n.request_hash, f.leader
FROM new_rows AS n LEFT JOIN done_rows AS d USING (artist_id)
LEFT JOIN (SELECT seq, shard FROM planned) AS s USING (seq)
LEFT JOIN following AS f ON f.artist_id = n.artist_id

-- name: delete_corrected_rows
-- Rows of this table that were bad in an earlier plan and are good now: each row of the table counts once.
DELETE FROM artists WHERE state = 'skipped' AND starts_with(artist_id, '(' || $table || ' row ')
  AND artist_id NOT IN (SELECT '(' || $table || ' row ' || row || ')' FROM skipped_rows)

-- name: insert_skipped
INSERT INTO artists (artist_id, seq, custom_id, artist_name, priority, data, state, failure, code, message)
SELECT '(' || $table || ' row ' || s.row || ')',
       (SELECT coalesce(max(seq), 0) FROM artists) + row_number() OVER (ORDER BY s.row),
       '', '', 3, '{}', 'skipped', 'invalid', 'bad_row', s.message
FROM skipped_rows AS s
WHERE NOT EXISTS (SELECT 1 FROM artists AS a WHERE a.artist_id = '(' || $table || ' row ' || s.row || ')')

-- name: insert_earlier_bios
INSERT INTO bios (artist_id, data, lane)
SELECT d.artist_id, d.data, 'earlier'
FROM done_rows AS d JOIN artists AS a USING (artist_id)
WHERE a.state = 'done_before' AND NOT EXISTS (SELECT 1 FROM bios AS b WHERE b.artist_id = d.artist_id)

-- name: insert_table_name
-- The tables that were read are kept among the facts, each under a name that begins with "table ".
INSERT OR REPLACE INTO facts VALUES ('table ' || $table, NULL, $table)

-- name: tables_read
SELECT text FROM facts WHERE starts_with(name, 'table ') ORDER BY name

-- name: plan_by_priority
SELECT priority, count(*) FILTER (state <> 'skipped') AS artists,
       count(*) FILTER (state = 'done_before') AS done_before,
       count(*) FILTER (state IN ('ready', 'waiting') AND follows IS NULL) AS lines,
       coalesce(sum(tokens) FILTER (state IN ('ready', 'waiting')), 0)::BIGINT AS tokens,
       coalesce(sum(bytes) FILTER (state IN ('ready', 'waiting')), 0)::BIGINT AS bytes
FROM artists WHERE state <> 'skipped' GROUP BY priority ORDER BY priority

-- name: plan_shards
SELECT shard, priority, retry, state, lines, tokens, bytes FROM shards
WHERE state NOT IN ('settled', 'stale', 'split') ORDER BY priority, shard

-- name: count_by_state
SELECT state, count(*) FROM artists GROUP BY state ORDER BY state

-- name: fall_due
UPDATE artists SET state = $target, wait_until = NULL
WHERE priority = $priority AND shard IS NULL AND (wait_until <= $now OR wait_until > $latest)
  AND list_contains($sources, state)

-- name: loose_to_gather
-- Lines that were refused as invalid come last, and by themselves: one of them makes the service refuse all beside it.
WITH loose AS (
    SELECT *, coalesce(failure, '') = 'invalid' AS refused FROM artists
    WHERE shard IS NULL AND state = 'ready' AND priority = $priority AND version = $version
)
SELECT artist_id, custom_id, priority, data, tokens, line_hash, version FROM loose
WHERE refused = (SELECT min(refused) FROM loose)
ORDER BY seq LIMIT $most

-- name: parked_lines
-- Lines were taken out of these shards before they were released. The rest is cut again and not released; that of a pilot
-- stays the pilot's.
SELECT a.artist_id, a.custom_id, a.priority, a.data, a.tokens, a.line_hash, a.version, s.pilot
FROM artists AS a JOIN shards AS s USING (shard)
WHERE s.state = 'stale' AND a.state = 'ready'
  AND (a.priority, a.version, coalesce(s.pilot, 0)) = (
      SELECT (x.priority, x.version, coalesce(y.pilot, 0)) FROM artists AS x JOIN shards AS y USING (shard)
      WHERE y.state = 'stale' AND x.state = 'ready' ORDER BY y.pilot IS NULL, x.priority, x.version LIMIT 1)
ORDER BY a.seq LIMIT $most

-- name: create_planned
-- For a retry shard, whose lines are not in the staging tables of a plan: write_planned reads it as it reads the view.
CREATE TEMP TABLE planned (
    artist_id VARCHAR, shard INTEGER, tokens INTEGER, bytes INTEGER, line_hash UBIGINT
)
