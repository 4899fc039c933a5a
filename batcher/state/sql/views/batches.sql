CREATE OR REPLACE VIEW open.batches AS
SELECT b.batch_id, b.shard, b.stray, b.status, b.total, b.completed, b.failed,
       CASE WHEN b.stray THEN b.reserved ELSE n.reserved END AS reserved_tokens,
       n.reserved_usd::DECIMAL(24, 12) AS reserved_usd,
       b.usage_input AS tokens_input, b.usage_cached AS tokens_cached, b.usage_output AS tokens_output, b.errors,
       b.input_file_id, b.output_file_id, b.error_file_id,
       to_timestamp(b.created_at) AS created_at, to_timestamp(b.expires_at) AS expires_at,
       to_timestamp(b.finished_at) AS finished_at, to_timestamp(b.recorded_at) AS recorded_at,
       to_timestamp(b.ended_at) AS ended_at, to_timestamp(b.settled_at) AS settled_at
FROM main.batches AS b LEFT JOIN main.submissions AS n USING (submission);
COMMENT ON VIEW open.batches IS 'The batches at OpenAI, as they were last seen. One row a batch; a shard may have had several.';
COMMENT ON COLUMN open.batches.batch_id IS 'The id at OpenAI.';
COMMENT ON COLUMN open.batches.shard IS 'The shard whose lines it has.';
COMMENT ON COLUMN open.batches.stray IS 'Whether it is a batch beside the one that decides the lines of its shard.';
COMMENT ON COLUMN open.batches.status IS 'The status that OpenAI gives: validating, in_progress, finalizing, completed, failed, expired, cancelling or cancelled.';
COMMENT ON COLUMN open.batches.total IS 'The lines that OpenAI counts in it.';
COMMENT ON COLUMN open.batches.completed IS 'Those of them that were answered.';
COMMENT ON COLUMN open.batches.failed IS 'Those of them that failed.';
COMMENT ON COLUMN open.batches.reserved_tokens IS 'The tokens that count against the enqueued-token limit while it is in flight.';
COMMENT ON COLUMN open.batches.reserved_usd IS 'The most dollars that it was expected to cost; 0: the price was not known.';
COMMENT ON COLUMN open.batches.tokens_input IS 'Input tokens by OpenAI''s own count of the whole batch; NULL: it gave none.';
COMMENT ON COLUMN open.batches.tokens_cached IS 'Those of them that were read from the prompt cache.';
COMMENT ON COLUMN open.batches.tokens_output IS 'Output tokens by OpenAI''s own count.';
COMMENT ON COLUMN open.batches.errors IS 'The errors that OpenAI gives for the whole batch, as JSON; NULL: none.';
COMMENT ON COLUMN open.batches.input_file_id IS 'The file of its requests at OpenAI.';
COMMENT ON COLUMN open.batches.output_file_id IS 'The file of its answers at OpenAI; NULL: none yet.';
COMMENT ON COLUMN open.batches.error_file_id IS 'The file of its failed lines at OpenAI; NULL: none.';
COMMENT ON COLUMN open.batches.created_at IS 'When it was created, by OpenAI''s clock.';
COMMENT ON COLUMN open.batches.expires_at IS 'When it expires, by OpenAI''s clock.';
COMMENT ON COLUMN open.batches.finished_at IS 'When it ended, by OpenAI''s clock; NULL: not yet.';
COMMENT ON COLUMN open.batches.recorded_at IS 'When Batcher first knew of it.';
COMMENT ON COLUMN open.batches.ended_at IS 'When Batcher saw that it had ended; NULL: not yet.';
COMMENT ON COLUMN open.batches.settled_at IS 'When its results were recorded; NULL: not yet.';
