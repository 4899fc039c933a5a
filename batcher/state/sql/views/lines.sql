CREATE OR REPLACE VIEW open.lines AS
SELECT a.artist_id, a.artist_name, a.priority, a.seq AS input_order, a.state, a.redo_after IS NOT NULL AS asked_again,
       v.prompt AS prompt_version, a.shard, a.custom_id, a.tokens, a.bytes, a.attempts, a.failure, a.code, a.message,
       a.follows AS same_as,
       to_timestamp(a.wait_until) AS wait_until, a.data
FROM main.artists AS a LEFT JOIN main.versions AS v USING (version);
COMMENT ON VIEW open.lines IS 'The planned rows of the input, each with its line: where it stands, and why it has no accepted answer. One row a line.';
COMMENT ON COLUMN open.lines.artist_id IS 'The id of the row, as in the table.';
COMMENT ON COLUMN open.lines.artist_name IS 'The name, as in the table.';
COMMENT ON COLUMN open.lines.priority IS '1 is the most urgent.';
COMMENT ON COLUMN open.lines.input_order IS 'The place in the table; of equal priority the lower one is sent first.';
COMMENT ON COLUMN open.lines.state IS 'skipped (bad row), done_before, ready, waiting, in_batch, in_direct, held, done or dead; docs/lifecycle.md says what each means.';
COMMENT ON COLUMN open.lines.asked_again IS 'Whether it was asked for again and the new answer is not there yet: the earlier one is still in use.';
COMMENT ON COLUMN open.lines.prompt_version IS 'The number of the prompt that the line has now; NULL where it has no line.';
COMMENT ON COLUMN open.lines.shard IS 'The shard that holds the line; NULL: none yet, or it goes into the next retry shard.';
COMMENT ON COLUMN open.lines.same_as IS 'The artist whose line asks the same, and whose answer this one takes; NULL: it has a line of its own.';
COMMENT ON COLUMN open.lines.custom_id IS 'The custom_id of its request; it never changes.';
COMMENT ON COLUMN open.lines.tokens IS 'Counted input tokens of the line; 0 where it was not rendered.';
COMMENT ON COLUMN open.lines.bytes IS 'Bytes of the line in its shard file; 0 where it was not rendered.';
COMMENT ON COLUMN open.lines.attempts IS 'The tries that count against the line.';
COMMENT ON COLUMN open.lines.failure IS 'The class of failure by which the line waits, is held, dead or skipped; NULL: none.';
COMMENT ON COLUMN open.lines.code IS 'The code of that failure, of the service or of Batcher.';
COMMENT ON COLUMN open.lines.message IS 'That failure in words.';
COMMENT ON COLUMN open.lines.wait_until IS 'When a line that waits is sent again; NULL: it does not wait for a time.';
COMMENT ON COLUMN open.lines.data IS 'The row of the table as JSON; data->>''$.name'' is the one called name.';
