CREATE OR REPLACE VIEW open.shards AS
SELECT s.shard, s.priority, s.retry, s.pilot, v.prompt AS prompt_version, s.state, s.lines, s.tokens, s.bytes,
       s.refusals, n.batch_id, to_timestamp(nullif(s.wait_until, 0)) AS wait_until, to_timestamp(s.created_at) AS created_at
FROM main.shards AS s LEFT JOIN main.versions AS v USING (version) LEFT JOIN main.submissions AS n USING (submission);
COMMENT ON VIEW open.shards IS 'The shards: lines that travel together in one batch. One row a shard.';
COMMENT ON COLUMN open.shards.shard IS 'The number of the shard, in the order of sending.';
COMMENT ON COLUMN open.shards.priority IS 'The priority of its lines; 1 is the most urgent.';
COMMENT ON COLUMN open.shards.retry IS 'Whether it was cut of lines that failed before.';
COMMENT ON COLUMN open.shards.pilot IS 'The number of the pilot that it is of; NULL: none.';
COMMENT ON COLUMN open.shards.prompt_version IS 'The number of the prompt of its lines.';
COMMENT ON COLUMN open.shards.state IS 'planned, released, uploading, uploaded, creating, in_flight, ended, settled, stale or split; docs/lifecycle.md says what each means. Lines of stale and split shards are in other ones.';
COMMENT ON COLUMN open.shards.lines IS 'Its lines when it was cut.';
COMMENT ON COLUMN open.shards.tokens IS 'Counted input tokens of these lines.';
COMMENT ON COLUMN open.shards.bytes IS 'Bytes of its file.';
COMMENT ON COLUMN open.shards.refusals IS 'How often the service has refused it since it was last in flight.';
COMMENT ON COLUMN open.shards.batch_id IS 'The batch that is in flight or whose results are being read; NULL: none.';
COMMENT ON COLUMN open.shards.wait_until IS 'Before this time nothing is done with it; NULL: it does not wait for a time.';
COMMENT ON COLUMN open.shards.created_at IS 'When it was cut.';
