-- How many executions were recorded when a pilot was drawn: those of its lines that are recorded later are the pilot's.
ALTER TABLE pilots ADD COLUMN executions_before BIGINT;
-- Of earlier pilots the clock tells it, but not where it was wrong: nothing of their own shards was recorded before them.
UPDATE pilots SET executions_before = f.before
FROM (SELECT p.pilot, least(count(*) FILTER (t.happened_at < p.made_at), min(t.number) FILTER (t.pilot = p.pilot)) AS before
      FROM pilots AS p LEFT JOIN (
          SELECT attempts.rowid AS number, happened_at, shards.pilot FROM attempts LEFT JOIN shards USING (shard)
      ) AS t ON true
      GROUP BY p.pilot) AS f
WHERE pilots.pilot = f.pilot;
