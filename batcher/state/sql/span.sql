-- name: job_span
SELECT least((SELECT min(intended_at) FROM submissions), (SELECT min(intended_at) FROM direct_calls)),
       (SELECT max(happened_at) FROM attempts)
