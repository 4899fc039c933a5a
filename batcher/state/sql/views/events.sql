CREATE OR REPLACE VIEW open.events AS
SELECT event, to_timestamp(happened_at) AS happened_at, kind, shard, batch_id, artist_id, detail FROM main.events;
COMMENT ON VIEW open.events IS 'The history of the job. One row an event, numbered in the order in which they were recorded.';
COMMENT ON COLUMN open.events.event IS 'Its number.';
COMMENT ON COLUMN open.events.happened_at IS 'When it was recorded.';
COMMENT ON COLUMN open.events.kind IS 'What happened, such as record_upload or settle; more kinds may come.';
COMMENT ON COLUMN open.events.shard IS 'The shard that it happened to; NULL: none.';
COMMENT ON COLUMN open.events.batch_id IS 'The batch that it happened to; NULL: none.';
COMMENT ON COLUMN open.events.artist_id IS 'The id of the row that it happened to; NULL: none.';
COMMENT ON COLUMN open.events.detail IS 'What else is known of it; NULL: nothing.';
