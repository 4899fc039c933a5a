CREATE OR REPLACE VIEW open.attempts AS
SELECT t.artist_id, t.lane, t.shard, t.batch_id, v.prompt AS prompt_version, t.outcome, t.code, t.message, t.status_code,
       t.counted, t.again, t.tokens_input, t.tokens_cached, t.tokens_written, t.tokens_output, t.tokens_reasoning,
       t.cost_usd::DECIMAL(24, 12) AS cost_usd, to_timestamp(t.happened_at) AS happened_at
FROM main.attempts AS t LEFT JOIN main.versions AS v USING (version);
COMMENT ON VIEW open.attempts IS 'The tries: what became of each request, in either lane. One row an answer or failure of a line.';
COMMENT ON COLUMN open.attempts.artist_id IS 'The id of the row whose line was asked for.';
COMMENT ON COLUMN open.attempts.lane IS 'batch or direct.';
COMMENT ON COLUMN open.attempts.shard IS 'The shard that it was asked with; NULL in the direct lane.';
COMMENT ON COLUMN open.attempts.batch_id IS 'The batch that it was asked with; NULL in the direct lane.';
COMMENT ON COLUMN open.attempts.prompt_version IS 'The number of the prompt that it was asked with.';
COMMENT ON COLUMN open.attempts.outcome IS 'bio (accepted), repeated (an answer of a line that had its accepted one), or the class of its failure.';
COMMENT ON COLUMN open.attempts.code IS 'The code of the failure, of the service or of Batcher; NULL: none.';
COMMENT ON COLUMN open.attempts.message IS 'The failure in words; NULL: none.';
COMMENT ON COLUMN open.attempts.status_code IS 'The HTTP status of the answer; NULL: none.';
COMMENT ON COLUMN open.attempts.counted IS 'Whether it counts against the tries of its line.';
COMMENT ON COLUMN open.attempts.again IS 'Whether the line had an answer of no use to the same prompt before.';
COMMENT ON COLUMN open.attempts.tokens_input IS 'Input tokens that were billed.';
COMMENT ON COLUMN open.attempts.tokens_cached IS 'Those of them that were read from the prompt cache.';
COMMENT ON COLUMN open.attempts.tokens_written IS 'Those of them that were written to the prompt cache.';
COMMENT ON COLUMN open.attempts.tokens_output IS 'Output tokens that were billed.';
COMMENT ON COLUMN open.attempts.tokens_reasoning IS 'Those of them that were thought before the answer.';
COMMENT ON COLUMN open.attempts.cost_usd IS 'Its price in dollars; NULL: the price of the model is not known.';
COMMENT ON COLUMN open.attempts.happened_at IS 'When it was recorded.';
