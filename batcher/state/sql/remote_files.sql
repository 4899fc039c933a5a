-- name: files_due
SELECT file_id, tries FROM remote_files WHERE deleted_at IS NULL AND since <= $now ORDER BY since, file_id LIMIT 100

-- name: postpone_files
UPDATE remote_files SET since = $next WHERE deleted_at IS NULL AND since <= $now RETURNING file_id

-- name: count_files_due
SELECT (SELECT count(*) FROM remote_files WHERE deleted_at IS NULL AND since <= $now)
     + (SELECT count(*) FROM submissions WHERE orphan_due <= $now)

-- name: is_deleted
SELECT count(*) FROM remote_files WHERE file_id = $file_id AND deleted_at IS NOT NULL

-- name: orphans_due
SELECT submission, shard, orphan_looks FROM submissions WHERE orphan_due <= $now ORDER BY submission LIMIT 100

-- name: watch_orphan
UPDATE submissions SET orphan_due = $due WHERE submission = $submission

-- name: looked_for_orphan
UPDATE submissions SET orphan_due = $due, orphan_looks = orphan_looks + 1 WHERE submission = $submission

-- name: queue_file
INSERT INTO remote_files (file_id, purpose, shard, since) SELECT $file_id, $purpose, $shard, $now
WHERE $file_id NOT IN (SELECT file_id FROM remote_files)

-- name: file_deleted
UPDATE remote_files SET deleted_at = $now, error = NULL WHERE file_id = $file_id

-- name: file_not_deleted
UPDATE remote_files SET tries = tries + 1, since = $next, error = $error WHERE file_id = $file_id

-- name: files_left
SELECT file_id, purpose, shard, tries, error FROM remote_files WHERE deleted_at IS NULL ORDER BY since
