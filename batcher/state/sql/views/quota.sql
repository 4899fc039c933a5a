CREATE OR REPLACE VIEW open.quota AS
SELECT to_timestamp(happened_at) AS happened_at, source, model, limit_tokens, reserved AS reserved_tokens, own AS own_tokens,
       headroom AS headroom_tokens, shard, detail
FROM main.quota_samples;
COMMENT ON VIEW open.quota IS 'What the service or Batcher said of the account''s room, over time. One row a submission, refusal or header that was recorded; docs/quota.md says what is learned from them.';
COMMENT ON COLUMN open.quota.happened_at IS 'When it was recorded.';
COMMENT ON COLUMN open.quota.source IS 'submission (Batcher has sent a shard), refusal (the service named its limit) or header (of the direct lane).';
COMMENT ON COLUMN open.quota.model IS 'The model whose limit it is.';
COMMENT ON COLUMN open.quota.limit_tokens IS 'The limit in tokens; NULL: it was not named.';
COMMENT ON COLUMN open.quota.reserved_tokens IS 'The tokens that were in flight then, without those of this shard; NULL: not named.';
COMMENT ON COLUMN open.quota.own_tokens IS 'The tokens that a shard which was sent reserves; NULL: not named.';
COMMENT ON COLUMN open.quota.headroom_tokens IS 'The tokens that were left after it; NULL: not named.';
COMMENT ON COLUMN open.quota.shard IS 'The shard that was sent or refused; NULL: none.';
COMMENT ON COLUMN open.quota.detail IS 'What the service said; NULL: nothing.';
