-- The version of the job that an execution was asked with, and the call of the direct lane that asked (NULL: a batch).
ALTER TABLE attempts ADD COLUMN version INTEGER;
ALTER TABLE attempts ADD COLUMN call INTEGER;
ALTER TABLE bios ADD COLUMN version INTEGER;
ALTER TABLE bios ADD COLUMN call INTEGER;
-- What is known of earlier executions: a batch asks with the version of its shard. A call of the direct lane is taken to
-- have asked with the version that its line has now.
UPDATE attempts SET version = s.version FROM shards AS s WHERE attempts.shard = s.shard;
UPDATE attempts SET version = a.version FROM artists AS a
WHERE attempts.version IS NULL AND attempts.artist_id = a.artist_id;
UPDATE bios SET version = s.version FROM shards AS s WHERE bios.shard = s.shard AND bios.lane = 'batch';
UPDATE bios SET version = a.version FROM artists AS a
WHERE bios.version IS NULL AND bios.lane = 'direct' AND bios.artist_id = a.artist_id;

-- The number of a prompt is that of the first version that asks it. A version that was made for lines whose answers were
-- cut off asks the same with more room, and so is of the same prompt.
ALTER TABLE versions ADD COLUMN prompt INTEGER;
UPDATE versions SET prompt = p.prompt
FROM (SELECT version, min(version) OVER (PARTITION BY json_merge_patch(definition, '{"max_output_tokens": null}')) AS prompt
      FROM versions) AS p
WHERE versions.version = p.version;

-- `again`: the line had an answer of no use to the same prompt before. The share of answers of no use is that of the others.
ALTER TABLE attempts ADD COLUMN again BOOLEAN DEFAULT false;
UPDATE attempts SET again = true
FROM (SELECT t.artist_id, v.prompt, min(t.rowid) AS first
      FROM attempts AS t JOIN versions AS v USING (version) WHERE t.outcome = 'unusable' GROUP BY ALL) AS f
JOIN versions AS w USING (prompt)
WHERE attempts.artist_id = f.artist_id AND attempts.version = w.version AND attempts.rowid > f.first;

-- Bios that another one has replaced, or that today's job does not accept, with the reason and the time of it.
CREATE TABLE former_bios AS SELECT *, ''::VARCHAR AS reason, 0::DOUBLE AS moved_at FROM bios WHERE false;
-- The highest shard when a bio was asked for again: answers of this shard and of earlier ones are of the bio that exists.
ALTER TABLE artists ADD COLUMN redo_after INTEGER;
-- Likewise the highest call of the direct lane then (0: there was none).
ALTER TABLE artists ADD COLUMN redo_call INTEGER;

-- A sample that is sent before the rest. `version`: that of its lines; `wished`: the lines that were asked for;
-- `resumed_at`: when the user decided to go on although too few answers were accepted.
CREATE TABLE pilots (
    pilot INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    wished INTEGER NOT NULL,
    seed BIGINT NOT NULL,
    lines INTEGER NOT NULL,
    made_at DOUBLE NOT NULL,
    resumed_at DOUBLE
);
-- The lines of a pilot. `weight`: how many lines of the plan each stands for, its stratum's size by the lines drawn of it.
CREATE TABLE pilot_lines (
    pilot INTEGER NOT NULL,
    artist_id VARCHAR NOT NULL,
    stratum INTEGER NOT NULL,
    weight DOUBLE NOT NULL
);
-- The pilot that a shard is of; NULL: none.
ALTER TABLE shards ADD COLUMN pilot INTEGER;
