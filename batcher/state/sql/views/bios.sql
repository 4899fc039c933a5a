CREATE OR REPLACE VIEW open.bios AS
SELECT b.artist_id, a.artist_name, a.priority, b.data, b.model, b.finish_reason, b.tokens_input, b.tokens_cached,
       b.tokens_output, b.tokens_written, b.tokens_reasoning, b.cost_usd::DECIMAL(24, 12) AS cost_usd,
       v.prompt AS prompt_version, b.lane, b.shard, b.batch_id, b.attempts, to_timestamp(b.completed_at) AS completed_at,
       CASE WHEN b.collected_at > 0 THEN to_timestamp(b.collected_at) END AS collected_at
FROM main.bios AS b JOIN main.artists AS a USING (artist_id) LEFT JOIN main.versions AS v ON v.version = b.version;
COMMENT ON VIEW open.bios IS 'The accepted answers, as `collect` writes them; earlier ones included. One row a line that has one.';
COMMENT ON COLUMN open.bios.artist_id IS 'The id of the row, as in the table.';
COMMENT ON COLUMN open.bios.artist_name IS 'The name, as in the table.';
COMMENT ON COLUMN open.bios.priority IS '1 is the most urgent.';
COMMENT ON COLUMN open.bios.data IS 'The fields of the answer as JSON; data->>''$.name'' is the one called name.';
COMMENT ON COLUMN open.bios.model IS 'The model that answered, by its own name; NULL: an answer of an earlier run.';
COMMENT ON COLUMN open.bios.finish_reason IS 'Why the answer ended, as OpenAI gives it.';
COMMENT ON COLUMN open.bios.tokens_input IS 'Input tokens of the accepted answer.';
COMMENT ON COLUMN open.bios.tokens_cached IS 'Those of them that were read from the prompt cache.';
COMMENT ON COLUMN open.bios.tokens_output IS 'Output tokens of the accepted answer.';
COMMENT ON COLUMN open.bios.tokens_written IS 'Input tokens that were written to the prompt cache.';
COMMENT ON COLUMN open.bios.tokens_reasoning IS 'Output tokens that were thought before the answer.';
COMMENT ON COLUMN open.bios.cost_usd IS 'The price of the accepted answer in dollars, without the tries before it; NULL: not known.';
COMMENT ON COLUMN open.bios.prompt_version IS 'The number of the prompt that it was asked with; NULL: an answer of an earlier run.';
COMMENT ON COLUMN open.bios.lane IS 'batch, direct, or earlier (it existed before the job).';
COMMENT ON COLUMN open.bios.shard IS 'The shard that it came with; NULL: none.';
COMMENT ON COLUMN open.bios.batch_id IS 'The batch that it came with; NULL: none.';
COMMENT ON COLUMN open.bios.attempts IS 'The tries that its line has taken.';
COMMENT ON COLUMN open.bios.completed_at IS 'When the answer was made; NULL: an answer of an earlier run.';
COMMENT ON COLUMN open.bios.collected_at IS 'When `collect` first wrote it to a file; NULL: not yet.';
